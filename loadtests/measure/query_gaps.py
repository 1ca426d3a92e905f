"""What became of the readers' queries since a fault?  Their recovery is not measured, so a run says so.

From a fault's begin until the next one began, and at least until its recovery limit, no query may fail and no group of
readers may fall silent; else nothing is known of how the database came back.  What our own trouble touched does not
count.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from loadtests.measure.analysis import Analysis
from loadtests.measure.fault_windows import FaultWindow
from loadtests.measure.measures_target import queries_of
from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.profile.tables import Threshold
from loadtests.model.profile.workload import Readers
from loadtests.model.records import Queried
from loadtests.model.results import RecoveryResult, Verdict

NOT_MEASURED = "the recovery of queries is not measured"
_DATABASE = "postgres"
_ALL = Threshold(measure="query_failed", at_most=0, phases=["all"])
_EXPECTED = 5
"""Readers are silent when none of them had an answer, or an error, for as long as so many queries were due."""
_TURNS = 2
"""... and each of them was due to ask twice."""


def unanswered(case: Analysis) -> dict[str, list[str]]:
    """Act -> what went wrong with the queries in or after it; acts without such a thing are not in it."""
    if not case.profile.readers:
        return {}
    cells = list(queries_of(case, _ALL))
    found = {}
    begun = [(a, at) for a in case.acts if (at := a.tried_ns if a.began_ns is None else a.began_ns) is not None]
    for index, (act, from_ns) in enumerate(begun):
        next_ns = begun[index + 1][1] if index + 1 < len(begun) else case.times.plan_end_ns
        to_ns = min(max(next_ns, act.end_ns or case.times.plan_end_ns), case.times.plan_end_ns)
        if lines := _failed(cells, from_ns, to_ns) + _silent(case, cells, from_ns, to_ns):
            found[act.name] = [f"{line} in or after {act.name}" for line in lines]
    return found


def _failed(cells: list[tuple[Queried, bool]], from_ns: int, to_ns: int) -> list[str]:
    bad = [q for q, ours in cells if q.failed and not ours and from_ns // SLICE_NS <= q.due_slice < to_ns / SLICE_NS]
    if not bad:
        return []
    return [f"{sum(q.failed for q in bad)} queries failed ({bad[0].query}: {bad[0].example})"]


def _silent(case: Analysis, cells: list[tuple[Queried, bool]], from_ns: int, to_ns: int) -> list[str]:
    """Groups of readers that were heard of before it, and then for long not."""
    first, last = max(from_ns // SLICE_NS, case.low), to_ns // SLICE_NS
    lines = []
    for group, spec in enumerate(case.profile.readers):
        mine = np.array(sorted({q.due_slice for q, _ in cells if q.readers == group}), dtype=np.int64)
        if not len(mine) or mine[0] >= first or _fewer(case):
            continue
        heard = np.zeros(max(last - first, 0), dtype=np.bool_)
        heard[mine[(mine >= first) & (mine < last)] - first] = True
        heard |= case.ours[first - case.low : last - case.low]
        at = np.concatenate(([-1], np.flatnonzero(heard), [len(heard)]))
        gap = int(np.diff(at).max()) - 1
        if gap >= _width(spec):
            lines.append(f"nothing was heard of the queries of {spec.name} for {gap * SLICE_NS / NS_PER_S:.1f} s")
    return lines


def _width(spec: Readers) -> int:
    """Slices without a word that are a silence."""
    seconds = max(_EXPECTED / (spec.rate_per_s * spec.count), _TURNS / spec.rate_per_s)
    return -(-round(seconds * NS_PER_S) // SLICE_NS)


def _fewer(case: Analysis) -> bool:
    """Whether readers were taken away by hand: who is not there asks nothing."""
    count = sum(r.count for r in case.profile.readers)
    return any(u.wanted.get("DatabaseReader", count) < count for _, p in case.facts.each() for u in p.users)


def with_queries(case: Analysis) -> Analysis:
    """The case with recoveries that do not speak for queries: where those failed, nothing was surely recovered from."""
    bad = unanswered(case)
    return replace(
        case, recovery=[_told(r, a, bad.get(a.name, [])) for r, a in zip(case.recovery, case.acts, strict=True)]
    )


def _told(back: RecoveryResult, act: FaultWindow, lines: list[str]) -> RecoveryResult:
    if lines:
        verdict = Verdict.UNKNOWN if back.verdict is Verdict.PASS else back.verdict
        summary = f"{back.summary}; but {lines[0]}, and {NOT_MEASURED}"
        return msgspec.structs.replace(back, verdict=verdict, summary=summary)
    if _DATABASE in (act.link, *act.link.split("-")):
        return msgspec.structs.replace(back, summary=f"{back.summary}; of deliveries: {NOT_MEASURED}")
    return back
