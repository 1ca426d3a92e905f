"""Whose is a lost message?  A fault's on its path, the broker's, or else the target's: a defect, or a missing replay.

What a slow reader lost that is expected to be slow is unattributed: the target may drop for it, and which buffer was
full is not seen.  The broker is named only where Redis counted that it closed a subscriber.

A fault counts that was in force, or not yet recovered from, at any time from sending until the delivery limit; where a
later message of the stream overtook the lost one, only until that moment: no fault takes what was lost before it began.
A fault that only delays takes nothing from the middle of a stream either: what was passed over under it alone, the
target had dropped.  What a consumer is owed at its return was kept from it by no fault on its own connection.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np

from loadtests.measure.fault_windows import FaultWindow, escalated
from loadtests.measure.history_tables import Bools, HistoryTables, Ints
from loadtests.measure.interval_set import EMPTY, StreamLine
from loadtests.measure.phases import Window
from loadtests.measure.streams import StreamTable
from loadtests.model.contract import Contract
from loadtests.model.fault_kinds import KINDS
from loadtests.model.ids import SLICE_NS
from loadtests.model.profile.profile import Profile

DEFECT, CHARGED, BROKER, UNATTRIBUTED, NOT_REPLAYED = range(5)
"""UNATTRIBUTED: its path was under a fault that no probe could observe, or what took it is not seen."""
CATEGORIES = ("defect", "charged", "broker", "unattributed", "not_replayed")
PROXY = "toxiproxy"
OVERRUN = "client_output_buffer_limit_disconnections"
"""Redis's own counter of subscribers that it closed because their output buffer was full."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reach:
    """Which published rows one window concerns, as indices."""

    on_path: Bools  # by family (the last: none): its path leads over the window's place
    open: Ints  # on the path, and it was in force or not recovered from before their delivery limit had passed
    force: Ints  # on the path, and it was in force itself
    inside: Ints  # bytes of them may have been in Toxiproxy's buffers when this window cut connections
    before: Ints  # open, and the place is before the last link of their path


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attribution:
    """What can be said of each published row before one knows who lost it.

    Faults that consumers play concern the consumers that they chose: ask `of` for what is so of some consumers.
    """

    windows: tuple[Window, ...]
    reaches: tuple[Reach, ...]  # per window
    spared: frozenset[int]  # indices of the windows that do not concern whom this is about
    window_of: Ints  # index of the window that a loss of this row is charged to; -1: its path was free
    delayed: Bools  # nothing but delays was on the path of this row
    before_gateway: Bools  # a fault before its last link may have taken it: also what is to be replayed is charged then
    in_injector: Bools  # bytes of it may have been in Toxiproxy's buffers when a link was cut
    overrun: Bools  # Redis closed a subscriber around then
    broker_known: bool  # samples show losses at the broker
    late_slices: int
    kept: dict[frozenset[int], Attribution]

    def spares(self, consumer: int) -> frozenset[int]:
        """Indices of the windows that do not concern a consumer."""
        return frozenset(
            i for i, w in enumerate(self.windows) if w.fault.consumers is not None and consumer not in w.fault.consumers
        )

    def of(self, spared: frozenset[int]) -> Attribution:
        """The same for consumers whom some windows do not concern."""
        if spared == self.spared:
            return self
        found = self.kept.get(spared)
        if found is None:
            found = replace(self, spared=spared, **_laid(self.windows, self.reaches, spared, len(self.overrun)))
            self.kept[spared] = found
        return found

    def free(self, table: StreamTable, start: Ints, end: Ints, at: Ints) -> StreamLine:
        """Of gaps, each noticed at a moment: what had been sent and overtaken while no fault was on its path."""
        if len(self.spared) == len(self.windows) or not len(table.start):
            return StreamLine.of(start, end)
        order = np.argsort(start, kind="stable")
        start, end, at = start[order], end[order], at[order]
        rows, left, right = StreamLine(start, end).cut(StreamLine(table.start, table.end))
        noticed = at[np.searchsorted(start, left, side="right") - 1]
        hit = np.zeros(len(rows), dtype=np.bool_)
        for index, (window, reach) in enumerate(zip(self.windows, self.reaches, strict=True)):
            if index in self.spared:
                continue
            hit |= (
                reach.on_path[table.row_family[rows]]
                & (table.sent[rows] * SLICE_NS < window.to_ns)
                & (noticed >= window.from_ns)
            )
        return StreamLine.of(left[~hit], right[~hit]) if len(rows) else EMPTY

    def category(self, rows: Ints, replayed: Bools, *, expect_slow: bool, overtaken: bool, free: bool) -> Ints:
        """The category of each lost row of a consumer; `replayed` are those that it was owed at a return.

        `overtaken`: later messages of their streams had come on the same connection; `free`: before any fault was on
        their path.
        """
        found = np.full(len(rows), UNATTRIBUTED if expect_slow else DEFECT, dtype=np.int64)
        found[self.overrun[rows]] = BROKER
        found[replayed] = NOT_REPLAYED
        if not free:
            under = self.window_of[rows] >= 0
            found[
                np.where(replayed, self.before_gateway[rows], under & ~self.delayed[rows] if overtaken else under)
            ] = CHARGED
            unseen = np.array([w.fault.unseen for w in self.windows] + [False])
            found[(found == CHARGED) & unseen[self.window_of[rows]]] = UNATTRIBUTED
        return found


def attribution(facts: HistoryTables, table: StreamTable, contract: Contract, windows: list[Window]) -> Attribution:
    """Windows, injector and broker laid over the published rows."""
    profile = contract.profile
    late_ns = round(profile.run.late_s * 1e9)
    family, begin = table.row_family, table.sent * SLICE_NS
    until = begin + SLICE_NS + late_ns
    reaches = []
    order = np.argsort(begin, kind="stable")
    in_order = begin[order]
    for w in windows:
        on_path = np.isin(np.arange(len(profile.families) + 1), sorted(w.fault.families))
        cut_ns = cuts(w.fault, w.healed_ns)
        first = np.searchsorted(in_order, w.from_ns - SLICE_NS - late_ns, side="right")
        rows = np.sort(order[first : np.searchsorted(in_order, max([w.to_ns, w.healed_ns, *cut_ns]), side="left")])
        rows = rows[on_path[family[rows]]]
        sent = begin[rows]
        open_ = rows[sent < w.to_ns]
        reaches.append(
            Reach(
                on_path=on_path,
                open=open_,
                force=rows[sent < w.healed_ns],
                inside=rows[sent < max(cut_ns, default=0)] if cut_ns else rows[:0],
                before=open_[np.isin(family[open_], _with_more_path(profile, w.fault))],
            )
        )
    none: frozenset[int] = frozenset()
    overrun = np.zeros(len(begin), dtype=np.bool_)
    rises = _rises(facts, windows)
    through_redis = np.isin(
        family,
        np.array([i for i, f in enumerate(profile.families) if any("redis" in p for p in f.path)], dtype=np.int64),
    )
    for start, end in rises:
        overrun |= through_redis & (begin < end + late_ns) & (until > start)
    return Attribution(
        windows=tuple(windows),
        reaches=tuple(reaches),
        spared=none,
        **_laid(tuple(windows), tuple(reaches), none, len(begin)),
        overrun=overrun,
        broker_known=bool(rises),
        late_slices=-(-late_ns // SLICE_NS),
        kept={},
    )


class _Laid(TypedDict):
    window_of: Ints
    delayed: Bools
    before_gateway: Bools
    in_injector: Bools


def _with_more_path(profile: Profile, fault: FaultWindow) -> Ints:
    """Families of whose path the place of a fault is not the last link, nor the consumers themselves."""
    if fault.consumers is not None:
        return np.zeros(0, dtype=np.int64)
    return np.array(
        [i for i in sorted(fault.families) if profile.families[i].path[-1:] != [fault.link]], dtype=np.int64
    )


def _laid(windows: tuple[Window, ...], reaches: tuple[Reach, ...], spared: frozenset[int], rows: int) -> _Laid:
    """The window that each row is charged to, and whether any window that counts may have held it when it cut."""
    window_of = np.full(rows, -1, dtype=np.int64)
    inside = np.zeros(rows, dtype=np.bool_)
    taken = np.zeros(rows, dtype=np.bool_)
    before = np.zeros(rows, dtype=np.bool_)
    counted = [(i, reaches[i], takes(windows[i].fault)) for i in range(len(windows)) if i not in spared]
    # What can take explains a loss better than what only delays, what is known to have met a consumer better than
    # what may have met none; then what is in force, than what is recovered from.
    for wanted in ((False, True), (False, False), (True, True), (True, False)):
        these = [(i, reach) for i, reach, can in counted if (can, windows[i].fault.unseen) == wanted]
        for index, reach in these:
            window_of[reach.open] = index
        for index, reach in these:
            window_of[reach.force] = index
    for _, reach, can in counted:
        inside[reach.inside] = True
        before[reach.before] = True
        if can:
            taken[reach.open] = True
    under = window_of >= 0
    return _Laid(window_of=window_of, delayed=under & ~taken, before_gateway=before, in_injector=inside & under)


def takes(fault: FaultWindow) -> bool:
    """Whether a fault may have taken messages from the middle of a stream on a connection that lasted."""
    kind = KINDS.get(fault.kind)
    return kind is None or kind.loses or fault.unseen or escalated(fault.lifted_by)


def cuts(fault: FaultWindow, healed_ns: int) -> list[int]:
    """Moments until which a fault may have cut connections, with whatever Toxiproxy had read and not passed on."""
    if fault.injected_ns is None:
        return []
    begun = fault.injected_ns + (fault.error_ns or 0)
    kind = KINDS.get(fault.kind)
    found = []
    if kind is not None and kind.cuts == "while it lasts":
        found.append(healed_ns)
    elif kind is not None and (kind.cuts or (kind.ends_process and fault.link == PROXY)):
        found.append(begun)
    if escalated(fault.lifted_by):  # proxies disabled, deleted, or the whole server started again
        found.append(max(healed_ns, fault.lifted_ns or 0) + (fault.error_ns or 0))
    return found


def _rises(facts: HistoryTables, windows: list[Window]) -> list[tuple[int, int]]:
    """Between which readings Redis closed subscribers of the target.

    A fault that squeezes the buffers proves itself by a subscriber of its own: Redis counts that one as well.
    """
    readings = sorted(v for _, p in facts.each() for v in p.samples.get(("redis", OVERRUN), ()))
    found = []
    for (start, x), (end, y) in itertools.pairwise(readings):
        ours = sum(_own_subscribers(w.fault) for w in windows if w.from_ns < end and w.healed_ns > start)
        if y - x > ours:
            found.append((start, end))
    return found


def _own_subscribers(fault: FaultWindow) -> float:
    kind = KINDS.get(fault.kind)
    closed = fault.effective.get(kind.own_closed) if kind is not None and kind.own_closed else None
    return closed if isinstance(closed, int | float) else 0
