"""Did a fault touch what it should not?  Streams off its path and the readers' queries, before, during and after it."""

from __future__ import annotations

import numpy as np

from loadtests.measure.analysis import Analysis
from loadtests.measure.deliveries import latency_spread, spread_of
from loadtests.measure.fault_windows import FaultWindow
from loadtests.measure.history_tables import Bools, Ints
from loadtests.measure.recovery import meanwhile
from loadtests.model.ids import SLICE_NS
from loadtests.model.profile.tables import Steady
from loadtests.model.results import Interference, Spread
from loadtests.tally.histogram import BUCKETS

DATABASE = "postgres"
ALL = "all"
"""All queries together: a short fault leaves too few of each to say much."""
Stretch = tuple[int, int]
"""From a slice to before another."""


def interferences(case: Analysis) -> list[Interference]:
    """For each act that was lifted: every family off its path that was published, then every query."""
    found: list[Interference] = []
    for index, act in enumerate(case.acts):
        stretches = _stretches(case, index)
        if stretches is not None:
            found += _streams(case, act, stretches)
            found += _queries(case, act, stretches)
    return found


def _stretches(case: Analysis, index: int) -> tuple[Stretch, Stretch, Stretch] | None:
    """Calm before, in force, and calm after an act; None where it was not both begun and lifted."""
    act, outcome = case.acts[index], case.outcomes[index]
    if act.began_ns is None or act.injected_ns is None or act.healed_ns is None or act.missed:
        return None
    others = [w for w in case.windows if w.act is not act]
    calm_from = max([case.times.warm_ns] + [w.to_ns for w in others if w.to_ns <= act.began_ns])
    back_ns = max(act.healed_ns, act.end_ns or 0) if outcome.settled_ns is None else outcome.settled_ns
    calm_to = min([case.times.plan_end_ns] + [w.from_ns for w in others if w.from_ns >= back_ns])
    return _inside(calm_from, act.began_ns), _inside(act.injected_ns, act.healed_ns), _inside(back_ns, calm_to)


def _inside(from_ns: int, to_ns: int) -> Stretch:
    return -(-from_ns // SLICE_NS), to_ns // SLICE_NS


def _streams(case: Analysis, act: FaultWindow, stretches: tuple[Stretch, Stretch, Stretch]) -> list[Interference]:
    found = []
    published = set(np.unique(case.table.row_family).tolist())
    lost_rows = case.ledger.lost_rows.sum(axis=(0, 1))
    judged = [i for i, g in enumerate(case.profile.consumers) if not g.expect_slow]
    for family, spec in enumerate(case.profile.families):
        # A planted defect and the faults of consumers touch no path: then every family is one that should go on.
        if family in act.families or family not in published or act.consumers is not None:
            continue
        rows = (case.came.family == family) & case.clean & np.isin(case.came.consumers, judged)
        before, during, after = (
            latency_spread(case.came, rows & _within(case.came.due, s), case.slow_read) for s in stretches
        )
        mine: Bools = (case.table.row_family == family) & _within(case.table.sent, stretches[1])
        lost = int(lost_rows[mine].sum()) if case.ledger.judged else None
        found.append(_row(case, act, ("stream", spec.name), (before, during, after), lost, on_path=False))
    return found


def _queries(case: Analysis, act: FaultWindow, stretches: tuple[Stretch, Stretch, Stretch]) -> list[Interference]:
    names = sorted({q.query for _, p in case.facts.each() for q in p.queried})
    on_path = act.link == DATABASE  # readers go to it directly, past every proxy
    found = []
    for name in [*names, *([ALL] if len(names) > 1 else [])]:
        spreads, failed = [], 0
        for number, stretch in enumerate(stretches):
            dense: Ints = np.zeros(BUCKETS, dtype=np.int64)
            for _, process in case.facts.each():
                for q in process.queried:
                    if name not in (q.query, ALL) or not stretch[0] <= q.due_slice < stretch[1]:
                        continue
                    bucket, count = q.latency
                    dense[bucket] += np.array(count, dtype=np.int64)
                    failed += q.failed if number == 1 else 0
            spreads.append(spread_of(dense))
        before, during, after = spreads
        found.append(_row(case, act, ("query", name), (before, during, after), failed, on_path=on_path))
    return found


def _within(slices: Ints, stretch: Stretch) -> Bools:
    chosen: Bools = (slices >= stretch[0]) & (slices < stretch[1])
    return chosen


def _row(
    case: Analysis,
    act: FaultWindow,
    what: tuple[str, str],
    spreads: tuple[Spread, Spread, Spread],
    lost: int | None,
    *,
    on_path: bool,
) -> Interference:
    before, during, after = spreads
    touched = _touched(case.profile.steady, before, during, lost)
    kind, name = what
    missing = "failed" if kind == "query" else "lost"
    if touched is None:
        said = "too little is known before or during it to compare"
    elif touched and lost:
        said = f"{lost} {missing} while it was in force"
    elif touched:
        said = "slower while it was in force than a steady state may be"
    else:
        said = "as before it"
    beside = [f'"{a.name}"' for a in meanwhile(case.acts, act)] if touched else []
    return Interference(
        fault=act.name,
        what=kind,
        name=name,
        on_path=on_path,
        before=before,
        during=during,
        after=after,
        lost=lost,
        touched=touched,
        summary=f"{kind} {name}: {said}" + (f"; {' and '.join(beside)} was in force meanwhile" if beside else ""),
    )


def _touched(steady: Steady, before: Spread, during: Spread, lost: int | None) -> bool | None:
    """Beyond the band: by p95 where both carry it, else by the median; anything lost or failed is beyond it."""
    if lost:
        return True
    for name in ("p95", "p50"):
        calm, then = getattr(before, name), getattr(during, name)
        if calm is not None and then is not None:
            return bool(then > max(calm * steady.latency_factor, calm + steady.latency_add_ms))
    return None
