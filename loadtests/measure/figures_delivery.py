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


FOREIGN = frozenset({"foreign run", "foreign route", "no identity"})


def foreign_(case: Case, t: Threshold) -> Figure:
    if not case.came.unique.any():
        return Figure(value=None, why_not="nothing was received")
    groups, wanted = groups_of(case, t), chosen(t.phases)
    rows = sorted(s for _, p in case.facts.each() for s in p.strange if s[1] in FOREIGN)
    rows = [
        s
        for s in rows
        if case.subs.group_of.get(s[2], groups[0] if groups else 0) in groups and within(case, s[0], wanted)
    ]
    lines = [f"consumer {c}: {n} x {kind}: {example}" for _, kind, c, n, example in rows]
    return Figure(value=float(sum(s[3] for s in rows)), evidence=lines)


def late(case: Case, rows: Bools) -> int:
    """Deliveries later than the delivery limit."""
    return later_than(case.came.latency, rows & case.came.counts, round(case.profile.run.late_s * NS_PER_S))


def late_(case: Case, t: Threshold) -> Figure:
    rows = came_rows(case, t) & case.clean
    return Figure(value=float(late(case, rows)) if (rows & case.came.counts).any() else None)
