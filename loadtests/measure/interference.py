"""Did a fault touch what it should not?  Streams off its path, and the readers' queries.

A stream or query is compared before, during and after the fault.  Of queries the run says more: from a fault's begin
until the next one began, and at least until its recovery limit, no query may fail and no group of readers may fall
silent; else nothing is known of how the database came back.  What our own trouble touched does not count.
"""

from __future__ import annotations

import msgspec
import numpy as np

from loadtests.measure.analysis import Analysis, Faults
from loadtests.measure.deliveries import latency_spread, spread_of
from loadtests.measure.fault_windows import FaultWindow, meanwhile
from loadtests.measure.history_tables import Bools, Ints
from loadtests.measure.measures_target import queries_of
from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.profile.tables import Steady, Threshold
from loadtests.model.profile.workload import Readers
from loadtests.model.records import Queried
from loadtests.model.registry import READER, wanted
from loadtests.model.results import Interference, RecoveryResult, Spread, Verdict
from loadtests.tally.histogram import BUCKETS

DATABASE = "postgres"
ALL = "all"
"""All queries together: a short fault leaves too few of each to say much."""
Stretch = tuple[int, int]
"""From a slice to before another."""


def interferences(analysis: Analysis) -> list[Interference]:
    """For each fault that was lifted: every family off its path that was published, then every query."""
    found: list[Interference] = []
    for index, fault in enumerate(analysis.fault_windows):
        stretches = _stretches(analysis, index)
        if stretches is not None:
            found += _streams(analysis, fault, stretches)
            found += _queries(analysis, fault, stretches)
    return found


def _stretches(analysis: Analysis, index: int) -> tuple[Stretch, Stretch, Stretch] | None:
    """Calm before, in force, and calm after a fault; None where it was not both begun and lifted."""
    fault, outcome = analysis.fault_windows[index], analysis.outcomes[index]
    if fault.began_ns is None or fault.injected_ns is None or fault.healed_ns is None or fault.missed:
        return None
    others = [w for w in analysis.windows if w.fault is not fault]
    calm_from = max([analysis.times.warm_ns] + [w.to_ns for w in others if w.to_ns <= fault.began_ns])
    back_ns = max(fault.healed_ns, fault.end_ns or 0) if outcome.settled_ns is None else outcome.settled_ns
    calm_to = min([analysis.times.plan_end_ns] + [w.from_ns for w in others if w.from_ns >= back_ns])
    return _inside(calm_from, fault.began_ns), _inside(fault.injected_ns, fault.healed_ns), _inside(back_ns, calm_to)


def _inside(from_ns: int, to_ns: int) -> Stretch:
    return -(-from_ns // SLICE_NS), to_ns // SLICE_NS


def _streams(analysis: Analysis, fault: FaultWindow, stretches: tuple[Stretch, Stretch, Stretch]) -> list[Interference]:
    found = []
    published = set(np.unique(analysis.table.row_family).tolist())
    lost_rows = analysis.ledger.lost_rows.sum(axis=(0, 1))
    judged = [i for i, g in enumerate(analysis.profile.consumers) if not g.expect_slow]
    for family, spec in enumerate(analysis.profile.families):
        # A planted defect and the faults of consumers touch no path: then every family is one that should go on.
        if family in fault.families or family not in published or fault.consumers is not None:
            continue
        rows = (analysis.came.family == family) & analysis.clean & np.isin(analysis.came.consumers, judged)
        before, during, after = (
            latency_spread(analysis.came, rows & _within(analysis.came.due, s), analysis.slow_read) for s in stretches
        )
        mine: Bools = (analysis.table.row_family == family) & _within(analysis.table.sent, stretches[1])
        lost = int(lost_rows[mine].sum()) if analysis.ledger.judged else None
        found.append(_row(analysis, fault, ("stream", spec.name), (before, during, after), lost, on_path=False))
    return found


def _queries(analysis: Analysis, fault: FaultWindow, stretches: tuple[Stretch, Stretch, Stretch]) -> list[Interference]:
    names = sorted({q.query for _, p in analysis.facts.each() for q in p.queried})
    on_path = fault.link == DATABASE  # readers go to it directly, past every proxy
    found = []
    for name in [*names, *([ALL] if len(names) > 1 else [])]:
        spreads, failed = [], 0
        for number, stretch in enumerate(stretches):
            dense: Ints = np.zeros(BUCKETS, dtype=np.int64)
            for _, process in analysis.facts.each():
                for q in process.queried:
                    if name not in (q.query, ALL) or not stretch[0] <= q.due_slice < stretch[1]:
                        continue
                    bucket, count = q.latency
                    dense[bucket] += np.array(count, dtype=np.int64)
                    failed += q.failed if number == 1 else 0
            spreads.append(spread_of(dense))
        before, during, after = spreads
        found.append(_row(analysis, fault, ("query", name), (before, during, after), failed, on_path=on_path))
    return found


def _within(slices: Ints, stretch: Stretch) -> Bools:
    chosen: Bools = (slices >= stretch[0]) & (slices < stretch[1])
    return chosen


def _row(
    analysis: Analysis,
    fault: FaultWindow,
    what: tuple[str, str],
    spreads: tuple[Spread, Spread, Spread],
    lost: int | None,
    *,
    on_path: bool,
) -> Interference:
    before, during, after = spreads
    touched = _touched(analysis.profile.steady, before, during, lost)
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
    beside = [f'"{a.name}"' for a in meanwhile(analysis.fault_windows, fault)] if touched else []
    return Interference(
        fault=fault.name,
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


NOT_MEASURED = "the recovery of queries is not measured"
_EVERY_QUERY = Threshold(measure="query_failed", at_most=0, phases=["all"])
_EXPECTED = 5
"""Readers are silent when none of them had an answer, or an error, for as long as so many queries were due."""
_TURNS = 2
"""... and each of them was due to ask twice."""


def unanswered(of: Faults) -> dict[str, list[str]]:
    """Fault -> what went wrong with the queries in or after it; faults without such a thing are not in it."""
    if not of.profile.readers:
        return {}
    cells = list(queries_of(of, _EVERY_QUERY))
    found = {}
    begun = [(a, at) for a in of.fault_windows if (at := a.begin_ns) is not None]
    for index, (fault, from_ns) in enumerate(begun):
        next_ns = begun[index + 1][1] if index + 1 < len(begun) else of.times.plan_end_ns
        to_ns = min(max(next_ns, fault.end_ns or of.times.plan_end_ns), of.times.plan_end_ns)
        if lines := _failed(cells, from_ns, to_ns) + _silent(of, cells, from_ns, to_ns):
            found[fault.name] = [f"{line} in or after {fault.name}" for line in lines]
    return found


def _failed(cells: list[tuple[Queried, bool]], from_ns: int, to_ns: int) -> list[str]:
    bad = [q for q, ours in cells if q.failed and not ours and from_ns // SLICE_NS <= q.due_slice < to_ns / SLICE_NS]
    if not bad:
        return []
    return [f"{sum(q.failed for q in bad)} queries failed ({bad[0].query}: {bad[0].example})"]


def _silent(of: Faults, cells: list[tuple[Queried, bool]], from_ns: int, to_ns: int) -> list[str]:
    """Groups of readers that were heard of before it, and then for long not."""
    first, last = max(from_ns // SLICE_NS, of.low), to_ns // SLICE_NS
    lines = []
    for group, spec in enumerate(of.profile.readers):
        mine = np.array(sorted({q.due_slice for q, _ in cells if q.readers == group}), dtype=np.int64)
        if not len(mine) or mine[0] >= first or _fewer(of):
            continue
        heard = np.zeros(max(last - first, 0), dtype=np.bool_)
        heard[mine[(mine >= first) & (mine < last)] - first] = True
        heard |= of.ours[first - of.low : last - of.low]
        at = np.concatenate(([-1], np.flatnonzero(heard), [len(heard)]))
        gap = int(np.diff(at).max()) - 1
        if gap >= _width(spec):
            lines.append(f"nothing was heard of the queries of {spec.name} for {gap * SLICE_NS / NS_PER_S:.1f} s")
    return lines


def _width(spec: Readers) -> int:
    """Slices without a word that are a silence."""
    seconds = max(_EXPECTED / (spec.rate_per_s * spec.count), _TURNS / spec.rate_per_s)
    return -(-round(seconds * NS_PER_S) // SLICE_NS)


def _fewer(of: Faults) -> bool:
    """Whether readers were taken away by hand: a reader that is not there asks nothing."""
    count = wanted(of.profile)[READER.name]
    return any(u.wanted.get(READER.user_class, count) < count for _, p in of.facts.each() for u in p.users)


def with_queries(of: Faults, recovery: list[RecoveryResult]) -> list[RecoveryResult]:
    """Recoveries that do not speak for queries: where those failed, nothing was surely recovered from."""
    bad = unanswered(of)
    return [_told(r, fault, bad.get(fault.name, [])) for r, fault in zip(recovery, of.fault_windows, strict=True)]


def _told(back: RecoveryResult, fault: FaultWindow, lines: list[str]) -> RecoveryResult:
    if lines:
        verdict = Verdict.UNKNOWN if back.verdict is Verdict.PASS else back.verdict
        summary = f"{back.summary}; but {lines[0]}, and {NOT_MEASURED}"
        return msgspec.structs.replace(back, verdict=verdict, summary=summary)
    if DATABASE in (fault.link, *fault.link.split("-")):
        return msgspec.structs.replace(back, summary=f"{back.summary}; of deliveries: {NOT_MEASURED}")
    return back
