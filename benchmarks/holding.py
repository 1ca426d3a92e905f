"""What does it cost to hold many consumers, their streams and their history, and to judge them?"""

from __future__ import annotations

import statistics

from benchmarks.children import raise_file_limit
from benchmarks.figures import Measured, number
from benchmarks.ours import OwnRun, judge_again, run_ours, toxiproxy, window
from benchmarks.profile_text import Load
from benchmarks.session import PLAIN_100, Session, lost
from benchmarks.slope import slope_per_hour

MANY = 5_000
STREAMS = 200
MOST = 15_000
SPARE_DESCRIPTORS = 200
IDLE = Load(consumers=MANY, connect_s=15.0, rate_per_s=1, publishers=1, streams=1, warm_up_s=1.0, seconds=3.0)
ALONE = Load(consumers=1, rate_per_s=1, publishers=1, streams=1, warm_up_s=1.0, seconds=3.0)
FOLLOWING = Load(consumers=MANY, connect_s=15.0, rate_per_s=12, streams=STREAMS, warm_up_s=17.5, seconds=5.0)
"""Every stream has spoken before the measured part: 12/s over 200 streams take 17 s."""
CROWD = Load(consumers=MOST, rate_per_s=2, publishers=1, streams=1, connect_s=45.0, seconds=4.0)
CUT = Load(consumers=MANY, connect_s=15.0, rate_per_s=2, publishers=2, streams=2, seconds=32.0, cut_s=10.0)
HOURS = Load(consumers=1000, rate_per_s=50, connect_s=30.0, seconds=1800.0)
JUDGED = 10_000_000


def memory(session: Session) -> dict[str, Measured]:
    """One consumer, 5,000 idle ones, 5,000 that follow 200 streams: the differences; and that history's size."""
    bench = session.bench
    one, idle, following = run_ours(bench, ALONE), run_ours(bench, IDLE), run_ours(bench, FOLLOWING)
    base, held, more = _rss_mb(one), _rss_mb(idle), _rss_mb(following)
    each = (held - base) * 1000 / (MANY - 1)
    stream = (more - held) * 1e6 / (MANY * (STREAMS - 1))
    return {
        "memory-consumer": Measured(
            values=(each,),
            detail=f"{number(base)} MB with one consumer, {number(held)} MB with {MANY:,}; {lost([idle])}",
        ),
        "memory-stream": Measured(
            values=(stream,), facts={"streams": STREAMS},
            detail=f"{number(held)} MB with one stream, {number(more)} MB with {STREAMS}; {lost([following])}; what "
            "connecting had left free within the process is used first",
        ),
        "history-calm": _calm(following),
    }  # fmt: skip


def _calm(run: OwnRun) -> Measured:
    if run.history_per_s is None:
        return Measured(missing="the run was too busy to say when its plan began and ended")
    detail = (
        f"growth during {run.load.seconds:g} s of the plan at {number(run.run.rate)} deliveries/s, {lost([run])}; the "
        f"whole file with subscriptions and closing accounts: {number(run.history_bytes / 1000)} KB"
    )
    return Measured(values=(run.history_per_s / 1000,), detail=detail, facts={"rate": run.run.rate})


def connections(session: Session) -> dict[str, Measured]:
    """As many as the limit of descriptors allows, at most 15,000."""
    limit = raise_file_limit()
    if limit < MOST + SPARE_DESCRIPTORS:
        why = f"the hard limit of open files is {limit:,}; {MOST + SPARE_DESCRIPTORS:,} are needed"
        return {"connections": Measured(missing=why)}
    run = run_ours(session.bench, CROWD)
    connected = min(window(run.results, "connected"))
    served = connected if run.run.lost == 0 else 0
    detail = f"{number(connected)} connected, {number(run.run.rate)} deliveries/s at {run.run.cpu_percent:.0f} % CPU, "
    detail += f"{number(_rss_mb(run))} MB, {lost([run])}"
    facts = {"asked": MOST, "lost": float(run.run.lost if run.run.lost is not None else -1)}
    return {"connections": Measured(values=(served,), detail=detail, facts=facts)}


def cut(session: Session) -> dict[str, Measured]:
    """The clients' link is down for 10 s, by the local stack's Toxiproxy."""
    bench = session.bench
    with bench.sender("--redis", bench.redis()) as sender, toxiproxy(bench, sender.address) as proxy:
        run = run_ours(bench, CUT, gateway=proxy.address, toxiproxy=proxy.api, proxy=proxy.name)
    fault = run.results["recovery"][0] if run.results["recovery"] else {"summary": "no recovery was judged"}
    detail = f"{MANY:,} consumers × {CUT.rate_per_s:g}/s; {fault['summary']}"
    return {"history-cut": Measured(values=(run.history_bytes / 1e6,), detail=detail, facts={"seconds": CUT.seconds})}


def judging(session: Session) -> dict[str, Measured]:
    """A real history: that of the run with the most deliveries, scaled to 10 M where it has fewer."""
    run = session.largest or session.run(PLAIN_100)
    unique = run.results["delivery"]["unique"] or 0
    took = [judge_again(session.bench, run) for _ in range(session.bench.repeats)]
    scale = max(1.0, JUDGED / max(unique, 1))
    bound = "" if scale == 1 else f", times {scale:.3g}, which is an upper bound"
    detail = (
        f"`tickstorm analyze` of a real run's history: {number(unique)} deliveries to {run.load.consumers:,} consumers "
        f"in {number(statistics.median(took))} s{bound}; what it reads "
        f"grows with consumers, streams and time, not with messages: {number(run.history_bytes / 1000)} KB"
    )
    facts = {"deliveries": float(unique), "took": statistics.median(took)}
    return {"judging": Measured(values=tuple(t * scale for t in took), detail=detail, facts=facts)}


def long(session: Session) -> dict[str, Measured]:
    """Half an hour of 50,000/s."""
    run = run_ours(session.bench, HOURS)
    found = slope_per_hour(run.rss_mb)
    if found is None:
        return {"long": Measured(missing="too few readings of memory")}
    slope, low, high = found
    detail = f"slope {number(slope)} MB/h, 95 % interval {number(low)} to {number(high)}; {number(run.run.rate)}/s at "
    detail += f"{run.run.cpu_percent:.0f} % CPU, {lost([run])}"
    return {"long": Measured(values=(high,), detail=detail, facts={"slope": slope, "low": low, "high": high})}


def _rss_mb(run: OwnRun) -> float:
    """Of the plan's last seconds, before the drain gives memory back or takes more."""
    end = next(p["from_s"] for p in run.results["phases"] if p["phase"] == "drain")
    return statistics.median([mb for second, mb in run.rss_mb if second <= end][-3:])
