"""How much was delivered, lost, repeated, reordered, foreign or late?  One function per measure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loadtests.measure.case import Case
from loadtests.measure.deliveries import later_than
from loadtests.measure.facts import KIND_CODE, Bools, Ints
from loadtests.measure.phases import chosen
from loadtests.measure.select import Figure, came_rows, family_of, groups_of, published_rows, untroubled, within
from loadtests.model.ids import NS_PER_S
from loadtests.model.profile import Threshold
from loadtests.model.results import Verdict

OURS = "but only while the load generator was in trouble"

# -- deliveries


def deliveries_(case: Case, t: Threshold) -> Figure:
    return Figure(value=float(case.came.unique[came_rows(case, t)].sum()))


def published_(case: Case, t: Threshold) -> Figure:
    return Figure(value=float(case.table.ok_count @ published_rows(case, t)))


def delivery_rate(case: Case, t: Threshold) -> Figure:
    rows, groups = published_rows(case, t), groups_of(case, t)

    def rate(of: Ints) -> float | None:
        owed = int((case.ledger.owed_rows[groups] @ of).sum())
        return (owed - int(case.ledger.lost(of)[:, groups].sum())) / owed if owed else None

    value = rate(rows)
    if value is not None and value < t.limit and ((clean := rate(rows * untroubled(case))) is None or clean >= t.limit):
        return Figure(value=value, verdict=Verdict.UNKNOWN, why_not=OURS)
    return Figure(value=value, why_not="nothing was owed")


def received_per_s(case: Case, t: Threshold) -> Figure:
    seconds = case.phases.seconds_of(chosen(t.phases))
    value = float(case.came.unique[came_rows(case, t)].sum()) / seconds if seconds else None
    return Figure(value=value, why_not="the phases did not occur")


def lost(*categories: int) -> Callable[[Case, Threshold], Figure]:
    def measure(case: Case, t: Threshold) -> Figure:
        rows, groups = published_rows(case, t), groups_of(case, t)
        if not int((case.ledger.owed_rows[groups] @ rows).sum()):
            return Figure(value=None, why_not="nothing was owed")

        def sum_of(of: Ints) -> float:
            return float(case.ledger.lost(of)[:, groups].sum(axis=1)[list(categories)].sum())

        gone = sum_of(rows)
        lines = [line for c in categories for line in case.ledger.evidence.get(c, [])] if gone else []
        # A reader that cannot keep up is a slow consumer, whom a target may drop: that is no evidence against it.
        if gone > t.limit and sum_of(rows * untroubled(case)) <= t.limit:
            return Figure(value=gone, evidence=lines, verdict=Verdict.UNKNOWN, why_not=OURS)
        return Figure(value=gone, evidence=lines)

    return measure


def repeated(
    case: Case, rows: Bools, published: Ints, groups: list[int], wanted: set[int] | None, only: int | None = None
) -> int:
    """Deliveries beyond the contract's copies: within a connection and across them."""
    single = np.array([f.copies == 1 for f in case.profile.families])[case.came.family]
    count = int(case.came.repeated[rows & single].sum())
    count += int((case.ledger.across_rows[groups] @ published).sum())
    if not single.all():
        kind, consumer, _, stream, first, last, at = _deviations(case)
        family = case.table.family_of[case.table.index(stream)]
        for i in np.flatnonzero((kind == KIND_CODE["repeated"]) & (family >= 0)):
            many = case.profile.families[int(family[i])].copies > 1 and only in (None, int(family[i]))
            if many and case.subs.group_of.get(int(consumer[i])) in groups and within(case, int(at[i]), wanted):
                count += int(last[i] - first[i] + 1)
    return count


def _deviations(case: Case) -> Ints:
    parts = [p.deviations.numpy() for _, p in case.facts.each()]
    return np.concatenate(parts or [np.zeros((7, 0), dtype=np.int64)], 1)


def repeated_(case: Case, t: Threshold) -> Figure:
    if not case.came.unique.any():
        return Figure(value=None, why_not="nothing was received")
    count = repeated(
        case, came_rows(case, t), published_rows(case, t), groups_of(case, t), chosen(t.phases), family_of(case, t)
    )
    return Figure(value=float(count), evidence=deviation_lines(case, "repeated") if count else [])


def reordered(case: Case, groups: list[int], family: int | None, wanted: set[int] | None) -> int:
    """Messages of gaps that were filled later."""
    kind, consumer, _, stream, first, last, at = _deviations(case)
    families = case.table.family_of[case.table.index(stream)]
    keep = kind == KIND_CODE["filled"]
    if family is not None:
        keep &= families == family
    return sum(
        int(last[i] - first[i] + 1)
        for i in np.flatnonzero(keep)
        if case.subs.group_of.get(int(consumer[i])) in groups and within(case, int(at[i]), wanted)
    )


def reordered_(case: Case, t: Threshold) -> Figure:
    if not case.came.unique.any():
        return Figure(value=None, why_not="nothing was received")
    count = reordered(case, groups_of(case, t), family_of(case, t), chosen(t.phases))
    return Figure(value=float(count), evidence=deviation_lines(case, "filled") if count else [])


def deviation_lines(case: Case, kind: str) -> list[str]:
    """The first exceptions of a kind, in order of time."""
    rows = _deviations(case)
    rows = rows[:, rows[0] == KIND_CODE[kind]]
    rows = rows[:, np.lexsort((rows[4], rows[3], rows[1], rows[6]))][:, :20]
    at = case.times.seconds
    return [
        f"consumer {r[1]} epoch {r[2]} stream {r[3]} seq {r[4]} to {r[5]} {kind} at {at(int(r[6])):.3f} s"
        for r in rows.T
    ]


STRANGE: dict[str, frozenset[str]] = {
    "foreign": frozenset({"foreign run", "foreign route"}),
    "stray": frozenset({"no identity"}),
    "undecodable": frozenset({"undecodable"}),
    "protocol": frozenset({"protocol"}),
    "altered": frozenset({"altered"}),
    "restamped": frozenset({"restamped"}),
}
"""Measure -> the kinds of `Strange` records that it counts."""


def strange_rows(case: Case, measure: str) -> list[tuple[int, str, int, int, str, int]]:
    """What a measure counts over the whole run, in order of time."""
    kinds = STRANGE[measure]
    return sorted(s for _, p in case.facts.each() for s in p.strange if s[1] in kinds)


def _of_threshold(case: Case, t: Threshold, measure: str) -> list[tuple[int, str, int, int, str, int]]:
    groups, family = groups_of(case, t), family_of(case, t)
    other = groups[0] if groups else 0
    return [
        row
        for row in strange_rows(case, measure)
        if case.subs.group_of.get(row[2], other) in groups and (family is None or row[5] in (-1, family))
    ]


def strange(measure: str) -> Callable[[Case, Threshold], Figure]:
    def count(case: Case, t: Threshold) -> Figure:
        wanted = chosen(t.phases)
        rows = [row for row in _of_threshold(case, t, measure) if within(case, row[0], wanted)]
        if not rows and not case.came.unique.any():
            return Figure(value=None, why_not="nothing was received")
        lines = [f"consumer {c}: {n} x {kind}: {example}" for _, kind, c, n, example, _ in rows]
        return Figure(value=float(sum(row[3] for row in rows)), evidence=lines)

    return count


def altered_(case: Case, t: Threshold) -> Figure:
    figure = strange("altered")(case, t)
    families = [f for f in case.profile.families if t.family in (None, f.name)]
    if figure.value == 0 and (contents(case) is None or all(f.content == "unchecked" for f in families)):
        return Figure(value=None, why_not="the integrity of the content was not tested", verdict=Verdict.PASS)
    return figure


def contents(case: Case) -> tuple[int, int] | None:
    """Distinct frames whose content was checked, and of how many; None where nobody counted them."""
    told = [second for _, p in case.facts.each() for second in p.seconds if second.frames >= 0]
    return (sum(s.checked for s in told), sum(s.frames for s in told)) if told else None


def moved_times(case: Case, t: Threshold) -> str | None:
    """Why the times of a threshold's messages say nothing: somebody changed them on the way, in whatever phase."""
    count = sum(row[3] for row in _of_threshold(case, t, "restamped"))
    return f"but {count} messages of these came with other numbers or times than they were sent with" if count else None


def late(case: Case, rows: Bools) -> int:
    """Deliveries later than the delivery limit."""
    return later_than(case.came.latency, rows & case.came.counts, round(case.profile.run.late_s * NS_PER_S))


def late_(case: Case, t: Threshold) -> Figure:
    rows = came_rows(case, t) & case.clean
    return Figure(value=float(late(case, rows)) if (rows & case.came.counts).any() else None)
