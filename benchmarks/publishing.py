"""How fast does Tickstorm publish, and how punctually while it receives?"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import msgspec

from benchmarks.children import ChildError
from benchmarks.figures import ClientRun, Measured, number, ratios
from benchmarks.obtaining import MissingError
from benchmarks.ours import OwnRun, run_ours
from benchmarks.profile_text import Load
from benchmarks.session import PLAIN_100, Session, costs, lost, median_cost

PACED = (5_000, 20_000)
FLOOD = Load(
    consumers=1, rate_per_s=20, seconds=4.0,
    side='{ kind = "constant", rate_per_s = 800000 }', side_publishers=2, side_outstanding=5000,
)  # fmt: skip
"""More than one worker publishes, to a channel that nobody listens to; what is beyond it is not offered."""
BURSTS = Load(
    consumers=1000, rate_per_s=100, seconds=8.0,
    side='{ kind = "burst", base_per_s = 20000, peak_per_s = 200000, length_s = 0.2, period_s = 2 }',
)  # fmt: skip
ALONE = msgspec.structs.replace(BURSTS, consumers=1, rate_per_s=20)


def publish(session: Session) -> dict[str, Measured]:
    """Ours and redis-benchmark in turn; then redis-py."""
    bench = session.bench
    ours: list[OwnRun] = []
    theirs: list[float] = []
    missing = ""
    for _ in range(bench.repeats):
        try:
            theirs.append(bench.redis_benchmark(32, 16))
        except (MissingError, ChildError) as error:
            missing = str(error)
        ours.append(run_ours(bench, FLOOD))
    rates = [run.published_per_s for run in ours]
    own = [
        ClientRun(client="tickstorm", messages=r.published_per_s, seconds=1.0, cpu_s=r.run.cpu_percent / 100)
        for r in ours
    ]
    cost = median_cost(own)
    percent = statistics.median(run.run.cpu_percent for run in ours)
    detail = (
        f"Tickstorm {' '.join(number(r) for r in rates)}/s at {percent:.0f} % CPU, {number(cost)} CPU-s per million; "
        f"redis-benchmark {' '.join(number(r) for r in theirs)}/s"
    )
    if len(theirs) == len(rates):
        facts = {
            "ours": statistics.median(rates), "other": statistics.median(theirs), "percent": percent, "cost": cost,
        }  # fmt: skip
        found = {"publish": Measured(values=ratios(rates, theirs), detail=detail, facts=facts)}
    else:
        found = {"publish": Measured(detail=detail, missing=missing)}
    for key, batch in (("publish-redis-py", 1), ("publish-pipeline", 100)):
        found[key] = _redis_py(session, batch, cost)
    return found


def _redis_py(session: Session, batch: int, ours: float) -> Measured:
    try:
        runs = [session.bench.publish(batch) for _ in range(session.bench.repeats)]
    except (MissingError, ChildError) as error:
        return Measured(missing=str(error))
    detail = f"{number(statistics.median(r.rate for r in runs))}/s, {number(median_cost(runs))} CPU-s per million"
    return Measured(
        values=tuple(cost / ours for cost in costs(runs)), detail=f"{detail}; Tickstorm {number(ours)}",
        facts={"peer": median_cost(runs), "ours": ours},
    )  # fmt: skip


def paced(rate: int) -> Callable[[Session], dict[str, Measured]]:
    """So many a second, evenly, to nobody."""
    load = Load(
        consumers=1, rate_per_s=20, seconds=6.0, side=f'{{ kind = "constant", rate_per_s = {rate} }}',
    )  # fmt: skip

    def measure(session: Session) -> dict[str, Measured]:
        run = run_ours(session.bench, load)
        lag, percent = run.results["own_lag_ms"], run.run.cpu_percent
        cost = percent * 1e4 / run.published_per_s
        detail = (
            f"{number(run.published_per_s)} published/s at {number(percent)} % of a core, {number(cost)} CPU-s per "
            f"million; own lag p50 {number(lag['p50'])} ms, p99 {number(lag['p99'])} ms"
        )
        facts = {"percent": percent, "cost": cost}
        return {
            f"paced-{rate}": Measured(values=(percent,), detail=detail, facts=facts),
            f"paced-{rate}-lag": Measured(values=(lag["p99"],) if lag["p99"] is not None else (), facts=facts),
        }

    return measure


def own_lag(session: Session) -> dict[str, Measured]:
    """Bursts to nobody, beside the deliveries."""
    alone = statistics.median(run.run.cpu_percent for run in session.own(PLAIN_100))
    runs = [run_ours(session.bench, BURSTS) for _ in range(session.bench.repeats)]
    lags = [run.results["own_lag_ms"] for run in runs]
    if any(lag["p99"] is None for lag in lags):
        return {"own-lag": Measured(missing="too few publishes for a p99")}
    percent = statistics.median(run.run.cpu_percent for run in runs)
    not_offered = [run.results["delivery"]["not_offered"] for run in runs]
    detail = (
        f"p50 {number(lags[-1]['p50'])} ms, p99 {number(lags[-1]['p99'])} ms, max {number(lags[-1]['max'])} ms; "
        f"{number(runs[-1].published_per_s)} published/s and {number(runs[-1].run.rate)} delivered/s at "
        f"{percent:.0f} % CPU; not offered {not_offered[-1]}, {lost(runs)}"
    )
    facts = {"percent": percent, "alone": alone}
    found = {"own-lag": Measured(values=tuple(lag["p99"] for lag in lags), detail=detail, facts=facts)}
    return found | {"own-lag-alone": _alone(run_ours(session.bench, ALONE))}


def _alone(run: OwnRun) -> Measured:
    lag = run.results["own_lag_ms"]
    if lag["p99"] is None:
        return Measured(missing="too few publishes for a p99")
    detail = (
        f"p50 {number(lag['p50'])} ms, p99 {number(lag['p99'])} ms, max {number(lag['max'])} ms; "
        f"{number(run.published_per_s)} published/s at {run.run.cpu_percent:.0f} % CPU"
    )
    return Measured(values=(lag["p99"],), detail=detail)
