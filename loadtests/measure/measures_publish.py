"""How many publishes did Redis refuse, or never acknowledge, though no fault was on their way?  A measure each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from loadtests.measure.analysis import Analysis
from loadtests.measure.history_tables import OUTCOME_CODE, Bools, Ints
from loadtests.measure.interval_set import StreamLine
from loadtests.measure.measures_delivery import OURS
from loadtests.measure.phases import Window
from loadtests.measure.selectors import Figure, published_rows
from loadtests.model.fault_kinds import KINDS
from loadtests.model.ids import SLICE_NS
from loadtests.model.profile.tables import Threshold
from loadtests.model.results import Verdict

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
