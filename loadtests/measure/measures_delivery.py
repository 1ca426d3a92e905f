"""How much was published, delivered, lost, repeated, reordered, foreign or late?  One function per measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from loadtests.measure.absences import CHARGED as CHARGED_AWAY
from loadtests.measure.absences import DISCONNECTED
from loadtests.measure.analysis import Analysis
from loadtests.measure.attribution import BROKER, CHARGED, DEFECT, NOT_REPLAYED, UNATTRIBUTED
from loadtests.measure.deliveries import later_than
from loadtests.measure.history_tables import KIND_CODE, OUTCOME_CODE, Bools, Ints
from loadtests.measure.interval_set import StreamLine
from loadtests.measure.phases import Window, chosen
from loadtests.measure.selectors import Figure, came_rows, family_of, groups_of, published_rows, untroubled, within
from loadtests.measure.target_words import began, said
from loadtests.model.fault_kinds import KINDS
from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.profile.tables import Threshold
from loadtests.model.results import Verdict

_OF_EACH = 8
OURS = "but only while the load generator was in trouble"

# -- deliveries


def deliveries_(analysis: Analysis, t: Threshold) -> Figure:
    return Figure(value=float(analysis.came.unique[came_rows(analysis, t)].sum()))


def published_(analysis: Analysis, t: Threshold) -> Figure:
    return Figure(value=float(analysis.table.ok_count @ published_rows(analysis, t)))


def delivery_rate(analysis: Analysis, t: Threshold) -> Figure:
    """Delivered of what was offered, but for own plan, harness and undecided: the failure never shrinks it."""
    rows, groups, ledger = published_rows(analysis, t), groups_of(analysis, t), analysis.ledger
    delivered, owed, away = (x[..., groups, :] for x in (ledger.delivered_rows, ledger.owed_rows, ledger.away_rows))
    kept_away = away[[CHARGED_AWAY, DISCONNECTED]].sum(axis=0)
    # Just before a fault what it took is its phase's, what the target did is not.
    before = published_rows(analysis, t, no_faults=True) * (1 - rows)
    targets = away[DISCONNECTED] + ledger.lost_rows[[DEFECT, NOT_REPLAYED]][:, groups].sum(axis=0)

    def rate(of: Ints) -> float | None:
        came = int((delivered @ ((rows + before) * of)).sum())
        due = int(((owed + kept_away) @ (rows * of)).sum()) + int(((delivered + targets) @ (before * of)).sum())
        return came / due if due else None

    value = rate(np.ones_like(rows))
    if value is not None and value < t.limit and ((clean := rate(untroubled(analysis))) is None or clean >= t.limit):
        return Figure(value=value, verdict=Verdict.UNKNOWN, why_not=OURS)
    return Figure(value=value, why_not="nothing was offered")


def received_per_s(analysis: Analysis, t: Threshold) -> Figure:
    seconds = analysis.phases.seconds_of(chosen(t.phases))
    value = float(analysis.came.unique[came_rows(analysis, t)].sum()) / seconds if seconds else None
    return Figure(value=value, why_not="the phases did not occur")


def lost(*categories: int) -> Callable[[Analysis, Threshold], Figure]:
    def measure(analysis: Analysis, t: Threshold) -> Figure:
        groups = groups_of(analysis, t)
        rows, targets = (published_rows(analysis, t, no_faults=none) for none in (False, True))
        if not int((analysis.ledger.offered_rows[groups] @ (rows | targets)).sum()):
            return Figure(value=None, why_not="nothing was offered")

        def sum_of(of: Ints) -> float:
            faults, own = (analysis.ledger.lost(which * of)[:, groups].sum(axis=1) for which in (rows, targets))
            return float(sum((own if c in (DEFECT, NOT_REPLAYED) else faults)[c] for c in categories))

        gone = sum_of(np.ones_like(rows))
        lines = [line for c in categories for line in analysis.ledger.evidence.get(c, [])] if gone else []
        # A reader that cannot keep up is a slow consumer, whom a target may drop: that is no evidence against it.
        if gone > t.limit and sum_of(untroubled(analysis)) <= t.limit:
            return Figure(value=gone, evidence=lines, verdict=Verdict.UNKNOWN, why_not=OURS)
        return Figure(value=gone, evidence=lines)

    return measure


def lost_disconnected(analysis: Analysis, t: Threshold) -> Figure:
    """What consumers missed because the target had ended their connections, or would not have them.

    Of families in mode "latest" the absence counts by its seconds: how many messages would have come nobody knows.
    """
    rows, groups, wanted = published_rows(analysis, t, no_faults=True), groups_of(analysis, t), chosen(t.phases)
    if not int((analysis.ledger.offered_rows[groups] @ rows).sum()) and not analysis.plan.offered_rows[groups].any():
        return Figure(value=None, why_not="nothing was offered")
    missed = analysis.ledger.away_rows[DISCONNECTED][groups]
    value, lines = float((missed @ rows).sum()), list(analysis.ledger.away_evidence.get(DISCONNECTED, []))
    if not value and any(f.mode == "latest" for f in analysis.profile.families):
        value = round(_disconnected_s(analysis, groups, wanted), 1)
        lines = [f"consumers were without a subscription for {value:g} s in all; in mode latest that is the measure"]
    run = analysis.times.t0_ns, analysis.times.plan_end_ns
    words = said(analysis, *run) if value else []
    figure = Figure(value=value, evidence=lines[:_OF_EACH] + words, because=began(analysis, *run) if value else "")
    if missed.any() and float((missed @ (rows * untroubled(analysis))).sum()) <= t.limit < value:
        return replace(figure, verdict=Verdict.UNKNOWN, why_not=OURS)
    return figure if value else Figure(value=value)


def _disconnected_s(analysis: Analysis, groups: list[int], wanted: set[int] | None) -> float:
    """Seconds in wanted phases in which consumers of some groups were disconnected by the target, over all of them."""
    settle_ns = analysis.profile.run.settle_ms * 1_000_000
    total = 0
    for consumer, absences in analysis.ledger.away.items():
        if analysis.contract.consumer_group(consumer)[0] not in groups:
            continue
        for a in absences:
            if a.cause == DISCONNECTED and a.to_ns - a.from_ns > settle_ns:
                at = np.arange(a.from_ns // SLICE_NS, min(a.to_ns, analysis.times.plan_end_ns) // SLICE_NS)
                codes = analysis.phases.codes(at, at)
                total += int(np.isin(codes, sorted(wanted)).sum()) if wanted is not None else len(at)
    return total * SLICE_NS / NS_PER_S


def not_admitted(analysis: Analysis, t: Threshold) -> Figure:
    """Planned consumers that the target itself had refused until the run began, or was to begin."""
    ready_ns = analysis.times.ready_ns
    if ready_ns is None:
        return Figure(value=None, why_not="the run ended before all were to be there")
    there = analysis.subs.confirmed_at(ready_ns)
    lines = []
    for group in groups_of(analysis, t):
        for slot in analysis.plan.slots[group][: analysis.plan.count_at(ready_ns, group)]:
            if slot not in there and (refusals := analysis.absences.target_refused(slot, 0, ready_ns)):
                lines.append(f"consumer {slot}: {len(refusals)} x refused, last {refusals[-1][1]}")
    words = said(analysis, to_ns=ready_ns) if lines else []
    return Figure(value=float(len(lines)), evidence=words + lines, because=words[0] if words else "")


def unasked(analysis: Analysis, t: Threshold) -> Figure:
    """Messages that a consumer got though it was not to: after it had left, or from before it was there."""
    if not analysis.came.unique.any():
        return Figure(value=None, why_not="nothing was received")
    rows, groups = published_rows(analysis, t), groups_of(analysis, t)
    value = float((analysis.ledger.unasked_rows[groups] @ rows).sum())
    return Figure(value=value, evidence=analysis.ledger.unasked_evidence if value else [])


def repeated(
    analysis: Analysis,
    rows: Bools,
    published: Ints,
    groups: list[int],
    wanted: set[int] | None,
    only: int | None = None,
) -> int:
    """Deliveries beyond the contract's copies: within a connection and across them."""
    single = np.array([f.copies == 1 for f in analysis.profile.families])[analysis.came.family]
    count = int(analysis.came.repeated[rows & single].sum())
    count += int((analysis.ledger.across_rows[groups] @ published).sum())
    if not single.all():
        kind, consumer, _, stream, first, last, at = _deviations(analysis)
        family = analysis.table.family_of[analysis.table.index(stream)]
        for i in np.flatnonzero((kind == KIND_CODE["repeated"]) & (family >= 0)):
            many = analysis.profile.families[int(family[i])].copies > 1 and only in (None, int(family[i]))
            if many and analysis.subs.group_of.get(int(consumer[i])) in groups and within(analysis, int(at[i]), wanted):
                count += int(last[i] - first[i] + 1)
    return count


def missing_copies(analysis: Analysis, t: Threshold) -> Figure:
    """Deliveries that the contract's copies ask for and that did not come, of messages that came at least once.

    All deliveries are counted, those beyond the copies taken out: what is left must be copies x messages.
    """
    if not analysis.came.unique.any():
        return Figure(value=None, why_not="nothing was received")
    rows, groups = published_rows(analysis, t), groups_of(analysis, t)
    lines, total = [], 0
    for family, spec in enumerate(analysis.profile.families):
        if spec.copies == 1 or spec.mode == "unmeasured":
            continue
        mine = rows * (analysis.table.row_family == family)
        wanted = spec.copies * int((analysis.ledger.delivered_rows[groups] @ mine).sum())
        came = (analysis.came.family == family) & np.isin(analysis.came.consumers, groups) & analysis.came.counts
        came &= _of_phases(analysis, t, analysis.came.due)
        there = int((analysis.came.unique + analysis.came.repeated)[came].sum())
        beyond = int((analysis.ledger.across_rows[groups] @ mine).sum()) + _beyond(analysis, groups, mine)
        if (short := wanted - (there - beyond)) > 0:
            total += short
            lines.append(
                f"{spec.name}: {there - beyond} deliveries, {spec.copies} copies each of what came are {wanted}"
            )
    return Figure(value=float(total), evidence=lines)


def _of_phases(analysis: Analysis, t: Threshold, due: Ints) -> Bools:
    wanted = chosen(t.phases)
    rows: Bools = np.ones(len(due), dtype=np.bool_)
    return rows if wanted is None else np.isin(analysis.phases.codes(due), sorted(wanted))


def _beyond(analysis: Analysis, groups: list[int], published: Ints) -> int:
    """Deliveries of some rows that were repeated on one connection beyond the contract's copies."""
    kind, consumer, _, stream, first, last, _ = _deviations(analysis)
    mine = (kind == KIND_CODE["repeated"]) & np.isin([analysis.subs.group_of.get(int(c), -1) for c in consumer], groups)
    count = 0
    for one in np.flatnonzero(mine):
        rows, times = analysis.table.cut(
            analysis.table.line(stream[one : one + 1], first[one : one + 1], last[one : one + 1])
        )
        count += int((times * published[rows]).sum())
    return count


def _deviations(analysis: Analysis) -> Ints:
    parts = [p.deviations.numpy() for _, p in analysis.facts.each()]
    return np.concatenate(parts or [np.zeros((7, 0), dtype=np.int64)], 1)


def repeated_(analysis: Analysis, t: Threshold) -> Figure:
    if not analysis.came.unique.any():
        return Figure(value=None, why_not="nothing was received")
    count = repeated(
        analysis,
        came_rows(analysis, t),
        published_rows(analysis, t),
        groups_of(analysis, t),
        chosen(t.phases),
        family_of(analysis, t),
    )
    return Figure(value=float(count), evidence=deviation_lines(analysis, "repeated") if count else [])


def reordered(analysis: Analysis, groups: list[int], family: int | None, wanted: set[int] | None) -> int:
    """Messages of gaps that were filled later."""
    kind, consumer, _, stream, first, last, at = _deviations(analysis)
    families = analysis.table.family_of[analysis.table.index(stream)]
    keep = kind == KIND_CODE["filled"]
    if family is not None:
        keep &= families == family
    return sum(
        int(last[i] - first[i] + 1)
        for i in np.flatnonzero(keep)
        if analysis.subs.group_of.get(int(consumer[i])) in groups and within(analysis, int(at[i]), wanted)
    )


def reordered_(analysis: Analysis, t: Threshold) -> Figure:
    if not analysis.came.unique.any():
        return Figure(value=None, why_not="nothing was received")
    count = reordered(analysis, groups_of(analysis, t), family_of(analysis, t), chosen(t.phases))
    return Figure(value=float(count), evidence=deviation_lines(analysis, "filled") if count else [])


def deviation_lines(analysis: Analysis, kind: str) -> list[str]:
    """The first exceptions of a kind, in order of time."""
    rows = _deviations(analysis)
    rows = rows[:, rows[0] == KIND_CODE[kind]]
    rows = rows[:, np.lexsort((rows[4], rows[3], rows[1], rows[6]))][:, :20]
    at = analysis.times.seconds
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


def strange_rows(analysis: Analysis, measure: str) -> list[tuple[int, str, int, int, str, int]]:
    """What a measure counts over the whole run, in order of time."""
    kinds = STRANGE[measure]
    return sorted(s for _, p in analysis.facts.each() for s in p.strange if s[1] in kinds)


def _of_threshold(analysis: Analysis, t: Threshold, measure: str) -> list[tuple[int, str, int, int, str, int]]:
    groups, family = groups_of(analysis, t), family_of(analysis, t)
    other = groups[0] if groups else 0
    return [
        row
        for row in strange_rows(analysis, measure)
        if analysis.subs.group_of.get(row[2], other) in groups and (family is None or row[5] in (-1, family))
    ]


def strange(measure: str) -> Callable[[Analysis, Threshold], Figure]:
    def count(analysis: Analysis, t: Threshold) -> Figure:
        wanted = chosen(t.phases)
        rows = [row for row in _of_threshold(analysis, t, measure) if within(analysis, row[0], wanted)]
        if not rows and not analysis.came.unique.any():
            return Figure(value=None, why_not="nothing was received")
        lines = [f"consumer {c}: {n} x {kind}: {example}" for _, kind, c, n, example, _ in rows]
        return Figure(value=float(sum(row[3] for row in rows)), evidence=lines)

    return count


def altered_(analysis: Analysis, t: Threshold) -> Figure:
    figure = strange("altered")(analysis, t)
    families = [f for f in analysis.profile.families if t.family in (None, f.name)]
    if figure.value == 0 and (contents(analysis) is None or all(f.content == "unchecked" for f in families)):
        return Figure(value=None, why_not="the integrity of the content was not tested", verdict=Verdict.PASS)
    return figure


def contents(analysis: Analysis) -> tuple[int, int] | None:
    """Distinct frames whose content was checked, and of how many; None where nobody counted them."""
    told = [second for _, p in analysis.facts.each() for second in p.seconds if second.frames >= 0]
    return (sum(s.checked for s in told), sum(s.frames for s in told)) if told else None


def moved_times(analysis: Analysis, t: Threshold) -> str | None:
    """Why the times of a threshold's messages say nothing: somebody changed them on the way, in whatever phase."""
    count = sum(row[3] for row in _of_threshold(analysis, t, "restamped"))
    return f"but {count} messages of these came with other numbers or times than they were sent with" if count else None


def late(analysis: Analysis, rows: Bools) -> int:
    """Deliveries later than the delivery limit."""
    return later_than(analysis.came.latency, rows & analysis.came.counts, round(analysis.profile.run.late_s * NS_PER_S))


def late_(analysis: Analysis, t: Threshold) -> Figure:
    rows = came_rows(analysis, t) & analysis.clean
    return Figure(value=float(late(analysis, rows)) if (rows & analysis.came.counts).any() else None)


lost_defect = lost(DEFECT)
lost_not_replayed = lost(NOT_REPLAYED)
lost_charged = lost(CHARGED)
lost_total = lost(DEFECT, CHARGED, BROKER, UNATTRIBUTED, NOT_REPLAYED)
foreign, stray, undecodable, protocol, restamped = map(
    strange, ("foreign", "stray", "undecodable", "protocol", "restamped")
)


Outcome = Literal["FAILED", "UNKNOWN"]
_LINES = 10


def publishes(outcome: Outcome) -> Callable[[Analysis, Threshold], Figure]:
    """Publishes of an outcome whose way from sent to settled no fault or recovery touched; the stop is left out."""

    def measure(analysis: Analysis, t: Threshold) -> Figure:
        table = analysis.table
        if not len(table.start):
            return Figure(value=None, why_not="nothing was published")
        line, at_ns = _settled(analysis, outcome)
        # What a lost process had sent last is unknown as well, but by its own end: nobody was seen not to answer.
        rows, count = table.cut(line.both(table.failed if outcome == "FAILED" else table.unknown))
        settled_ns = at_ns[rows]
        keep = (published_rows(analysis, t, no_faults=True)[rows] > 0) & ~_excused(analysis, rows, settled_ns)
        rows, count, settled_ns = rows[keep], count[keep], settled_ns[keep]
        value, clean = int(count.sum()), int(count[~_ours(analysis, rows, settled_ns)].sum())
        lines = [
            f"publisher {int(table.slot_of[table.stream[row]])}: {int(n)} sent at "
            f"{analysis.times.seconds(int(table.sent[row]) * SLICE_NS):.1f} s"
            for row, n in zip(rows[:_LINES], count[:_LINES], strict=True)
        ]
        if value > t.limit >= clean:
            return Figure(value=float(value), evidence=lines, verdict=Verdict.UNKNOWN, why_not=OURS)
        return Figure(value=float(value), evidence=lines)

    return measure


def _settled(analysis: Analysis, outcome: Outcome) -> tuple[StreamLine, Ints]:
    """Messages that were settled with an outcome, and per row the last moment at which one was."""
    table = analysis.table
    settled = np.concatenate([p.settled.numpy() for _, p in analysis.facts.each()] or [np.zeros((5, 0), np.int64)], 1)
    settled = settled[:, settled[3] == OUTCOME_CODE[outcome]]
    found: Ints = table.sent * SLICE_NS
    line = table.line(settled[0], settled[1], settled[2])
    base = table.index(settled[0]) << 32
    order = np.argsort(base + settled[1], kind="stable")
    start, end, at = (base + settled[1])[order], (base + settled[2] + 1)[order], settled[4][order]
    if len(start):
        places, left, _ = StreamLine(start, np.maximum(end, start + 1)).cut(StreamLine(table.start, table.end))
        np.maximum.at(found, places, at[np.searchsorted(start, left, side="right") - 1])
    return line, found


def _ours(analysis: Analysis, rows: Ints, settled_ns: Ints) -> Bools:
    """Rows between whose sending and settling a process of the load generator was in trouble."""
    before = np.concatenate(([0], np.cumsum(analysis.ours)))
    first = np.clip(analysis.table.sent[rows] - analysis.low, 0, len(analysis.ours))
    last = np.clip(settled_ns // SLICE_NS - analysis.low + 1, 0, len(analysis.ours))
    found: Bools = before[np.maximum(last, first)] > before[first]
    return found


def _excused(analysis: Analysis, rows: Ints, settled_ns: Ints) -> Bools:
    """Rows whose time from sent to settled touches a fault or recovery on the publishers' way, or the run's stop."""
    table = analysis.table
    sent_ns = table.sent[rows] * SLICE_NS
    found: Bools = np.zeros(len(rows), dtype=np.bool_)
    for window in analysis.windows:
        families = [i for i, f in enumerate(analysis.profile.families) if _on_the_way(window, f.path)]
        touched = (sent_ns < window.to_ns) & (settled_ns >= window.from_ns)
        found |= touched & np.isin(table.row_family[rows], np.array(families, dtype=np.int64))
    # Who is stopped waits for no answer.
    finishes = [f for _, p in analysis.facts.each() for f in p.finishes]
    if not finishes or not all(f.plan_done for f in finishes):
        found |= settled_ns >= analysis.times.plan_end_ns
    return found


def _on_the_way(window: Window, path: list[str]) -> bool:
    """Whether a fault acts on the link into Redis, on a service at its ends, or on what publishers send."""
    fault, kind = window.fault, KINDS.get(window.fault.kind)
    if kind is not None and kind.place == "publishers":
        return True
    entry = path[0] if path else ""
    return fault.link == "toxiproxy" or fault.link == entry or fault.link in entry.split("-")


publish_failed = publishes("FAILED")
publish_unknown = publishes("UNKNOWN")
