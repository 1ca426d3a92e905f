"""Whose is a lost message?  A fault on its path, its own lost connection, the broker, or else the target: a defect.

A fault counts that was in force, or not yet recovered from, at any time from sending until the delivery limit; where a
later message of the stream overtook the lost one, only until that moment: no fault takes what was lost before it began,
and no end of a connection takes what that connection had already passed over.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from loadtests.measure.facts import Bools, Facts, Ints
from loadtests.measure.line import EMPTY, Line
from loadtests.measure.owing import FOREVER, Stay
from loadtests.measure.phases import Window
from loadtests.measure.streams import Streams
from loadtests.model.contract import Contract
from loadtests.model.fault_rules import HIDES
from loadtests.model.ids import SLICE_NS

DEFECT, DISCONNECTED, CHARGED, BROKER = range(4)
OVERRUN = "client_output_buffer_limit_disconnections"
"""Redis's own counter of subscribers that it closed because their output buffer was full."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attribution:
    """What can be said of each published row before one knows who lost it."""

    windows: tuple[Window, ...]
    on_path: tuple[Bools, ...]  # per window: rows whose path leads over its link
    window_of: Ints  # index of the window that a loss of this row is charged to; -1: its path was free
    in_injector: Bools  # bytes of it may have been in Toxiproxy's buffers when a link was cut
    overrun: Bools  # Redis closed a subscriber around then
    broker_known: bool  # samples or slow groups can show losses at the broker
    late_slices: int

    def free(self, table: Streams, start: Ints, end: Ints, at: Ints) -> Line:
        """Of gaps, each noticed at a moment: what had been sent and overtaken while no fault was on its path."""
        if not self.windows or not len(table.start):
            return Line.of(start, end)
        order = np.argsort(start, kind="stable")
        start, end, at = start[order], end[order], at[order]
        rows, left, right = Line(start, end).cut(Line(table.start, table.end))
        noticed = at[np.searchsorted(start, left, side="right") - 1]
        hit = np.zeros(len(rows), dtype=np.bool_)
        for window, on_path in zip(self.windows, self.on_path, strict=True):
            hit |= on_path[rows] & (table.sent[rows] * SLICE_NS < window.to_ns) & (noticed >= window.from_ns)
        return Line.of(left[~hit], right[~hit]) if len(rows) else EMPTY

    def category(
        self, rows: Ints, sent: Ints, stays: tuple[Stay, ...], *, expect_slow: bool, overtaken: bool, free: bool
    ) -> Ints:
        """One of the four for each lost row of a consumer with these stays.

        `overtaken`: later messages of their streams had come; `free`: before any fault was on their path.
        """
        found = np.full(len(rows), BROKER if expect_slow else DEFECT, dtype=np.int64)
        found[self.overrun[rows]] = BROKER
        for stay in stays:
            if stay.broke < FOREVER and not overtaken:
                here = (sent >= stay.may_from) & (sent < stay.may_to) & (stay.broke <= sent + self.late_slices)
                found[here] = DISCONNECTED
        if not free:
            found[self.window_of[rows] >= 0] = CHARGED
        return found


def attribution(facts: Facts, table: Streams, contract: Contract, windows: list[Window]) -> Attribution:
    """Windows, injector and broker laid over the published rows."""
    profile = contract.profile
    late_ns = round(profile.run.late_s * 1e9)
    family, begin = table.row_family, table.sent * SLICE_NS
    until = begin + SLICE_NS + late_ns
    window_of = np.full(len(begin), -1, dtype=np.int64)
    on_path = [np.isin(family, np.array(sorted(w.act.families), dtype=np.int64)) for w in windows]
    for index, w in enumerate(windows):
        window_of[on_path[index] & (begin < w.to_ns) & (until > w.from_ns)] = index
    for index, w in enumerate(windows):  # what is in force explains more than what is being recovered from
        window_of[on_path[index] & (begin < w.healed_ns) & (until > w.from_ns)] = index
    in_injector = np.zeros(len(begin), dtype=np.bool_)
    for index, w in enumerate(windows):
        if w.act.kind in HIDES and w.act.injected_ns is not None:
            in_injector |= (window_of == index) & (begin < w.act.injected_ns + (w.act.error_ns or 0))
    overrun = np.zeros(len(begin), dtype=np.bool_)
    rises = _rises(facts)
    through_redis = np.isin(
        family,
        np.array([i for i, f in enumerate(profile.families) if any("redis" in p for p in f.path)], dtype=np.int64),
    )
    for start, end in rises:
        overrun |= through_redis & (begin < end + late_ns) & (until > start)
    return Attribution(
        windows=tuple(windows),
        on_path=tuple(on_path),
        window_of=window_of,
        in_injector=in_injector,
        overrun=overrun,
        broker_known=bool(rises) or any(c.expect_slow for c in profile.consumers),
        late_slices=-(-late_ns // SLICE_NS),
    )


def _rises(facts: Facts) -> list[tuple[int, int]]:
    """Between which readings Redis closed subscribers."""
    readings = sorted(v for _, p in facts.each() for v in p.samples.get(("redis", OVERRUN), ()))
    return [(a, b) for (a, x), (b, y) in itertools.pairwise(readings) if y > x]
