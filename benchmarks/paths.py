"""What do other ways to the target cost: Toxiproxy between, TLS, compression?"""

from __future__ import annotations

import statistics

from benchmarks.figures import Measured, number
from benchmarks.ours import run_ours, toxiproxy
from benchmarks.session import PLAIN_20, Session, costs, latency, lost


def through_toxiproxy(session: Session) -> dict[str, Measured]:
    """The same load directly and through the local stack's Toxiproxy, without any toxic."""
    bench = session.bench
    direct = session.own(PLAIN_20)
    with bench.sender("--redis", bench.redis()) as sender, toxiproxy(bench, sender.address) as proxy:
        before = proxy.cpu_s()
        run = run_ours(bench, PLAIN_20, gateway=proxy.address)
        used = proxy.cpu_s() - before
    messages = run.results["delivery"]["unique"] or 1
    ratio = run.run.cpu_s_per_million / statistics.median(costs(direct))
    detail = (
        f"direct {number(statistics.median(costs(direct)))} CPU-s per million, {latency(direct[-1].run)}; through it "
        f"{number(run.run.cpu_s_per_million)}, {latency(run.run)}; Toxiproxy's own {number(used * 1e6 / messages)} "
        f"CPU-s per million; {lost([run])}"
    )
    return {"toxiproxy": Measured(values=(ratio,), detail=detail)}
