"""What do other ways to the target cost: Toxiproxy between, TLS, compression?"""

from __future__ import annotations

import statistics

import msgspec

from benchmarks.figures import Measured, number
from benchmarks.ours import run_ours, toxiproxy
from benchmarks.profile_text import Load
from benchmarks.session import PLAIN_20, Session, costs, latency, lost

BY_LIBRARY = Load(consumers=200, rate_per_s=20)
"""As much as a sender by a library carries beside its own TLS or compression."""


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


def tls(session: Session) -> dict[str, Measured]:
    """The same load from the same library, with TLS and without."""
    return {"tls": _by_library(session, msgspec.structs.replace(BY_LIBRARY, tls=True))}


def deflate(session: Session) -> dict[str, Measured]:
    """The same load from the same library, compressed and not."""
    return {"deflate": _by_library(session, msgspec.structs.replace(BY_LIBRARY, compression=True))}


def _by_library(session: Session, load: Load) -> Measured:
    plain, other = session.by_library(BY_LIBRARY), session.by_library(load)
    detail = (
        f"plain {number(plain.run.cpu_s_per_million)} CPU-s per million, {latency(plain.run)}; with it "
        f"{number(other.run.cpu_s_per_million)}, {latency(other.run)}, by {other.results['harness']['receive']}; "
        f"{lost([other])}"
    )
    return Measured(values=(other.run.cpu_s_per_million / plain.run.cpu_s_per_million,), detail=detail)
