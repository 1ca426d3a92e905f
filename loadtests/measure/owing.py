"""Which published rows was a consumer owed?  Its subscriptions laid over slices; edges due to a fault count nowhere."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from loadtests.measure.facts import Bools, Ints
from loadtests.measure.line import Line
from loadtests.measure.phases import Window
from loadtests.measure.streams import Streams
from loadtests.measure.subscriptions import OWN, Interval
from loadtests.model.contract import Contract
from loadtests.model.ids import SLICE_NS

FOREVER = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """One subscription in slices: undecided, owed, undecided.  Equal for all consumers that could not be told apart."""

    routes: tuple[int, ...]
    may_from: int  # first slice whose messages may have been sent after it was confirmed
    owed_from: int
    owed_to: int  # first slice that is not owed for sure
    may_to: int
    start_faults: int  # bit per family: a fault or its recovery was on its path at the start edge
    end_faults: int
    broke: int  # slice in which the connection was lost; FOREVER where it was not


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Due:
    """What a set of stays makes of the published rows."""

    owed: Bools
    undecided: Bools  # not owed for sure, edge not caused by a fault
    owed_line: Line  # OK ones
    undecided_line: Line
    may_line: Line  # OK ones at any edge


class Owing:
    """Stays and their rows, remembered for consumers with equal ones."""

    def __init__(self, table: Streams, contract: Contract, windows: list[Window], *, end_ns: int) -> None:
        self.table = table
        self._contract = contract
        profile = contract.profile
        self._settle_ns = profile.run.settle_ms * 1_000_000
        self._late = -(-round(profile.run.late_s * 1e9) // SLICE_NS)
        self._end_ns = end_ns
        self._first = int(table.sent.min()) if len(table.sent) else 0
        self._last = int(table.sent.max()) if len(table.sent) else 0
        self._windows = windows
        self._measured = np.array([f.mode != "unmeasured" for f in profile.families] + [False])
        self._replayed = any(f.offline == "replayed" for f in profile.families)
        self._replays = np.array([f.offline == "replayed" for f in profile.families] + [False])
        self._rows_of: dict[tuple[int, ...], Bools] = {}
        self._due: dict[tuple[tuple[Stay, ...], tuple[tuple[int, int], ...]], Due] = {}

    def stays(self, intervals: list[Interval], spared: frozenset[int] = frozenset()) -> tuple[Stay, ...]:
        """The stays of one consumer, whom some windows (by index) do not concern."""
        return tuple(self._stay(i, spared) for i in intervals)

    def _stay(self, interval: Interval, spared: frozenset[int]) -> Stay:
        to_ns = self._end_ns if interval.to_ns is None else interval.to_ns
        own = interval.to_ns is None or interval.why in OWN
        broke = FOREVER if own else to_ns // SLICE_NS
        low, high = self._first, self._last + 1
        return Stay(
            routes=interval.routes,
            may_from=min(max(interval.from_ns // SLICE_NS, low), high),
            owed_from=min(max(-(-(interval.from_ns + self._settle_ns) // SLICE_NS), low), high),
            owed_to=max(min((to_ns - self._settle_ns) // SLICE_NS, high), low),
            may_to=max(min(-(-to_ns // SLICE_NS), high), low),
            start_faults=self._faults_at(interval.from_ns, spared) if low <= interval.from_ns // SLICE_NS < high else 0,
            end_faults=self._faults_at(to_ns, spared) if -(-to_ns // SLICE_NS) < high else 0,
            broke=broke if low <= broke <= self._last + 1 + self._late else FOREVER,
        )

    def _faults_at(self, at_ns: int, spared: frozenset[int]) -> int:
        bits = 0
        for index, window in enumerate(self._windows):
            if index not in spared and window.from_ns <= at_ns < window.to_ns:
                for family in window.act.families:
                    bits |= 1 << family
        return bits

    def _rows(self, routes: tuple[int, ...]) -> Bools:
        rows = self._rows_of.get(routes)
        if rows is None:
            wanted = np.isin(self.table.route_of, np.array(routes, dtype=np.int64))
            wanted &= self._measured[self.table.family_of]
            rows = self._rows_of[routes] = wanted[self.table.stream]
        return rows

    def due(self, stays: tuple[Stay, ...], excluded: tuple[tuple[int, int], ...] = ()) -> Due:
        """Rows owed by some stays, but for excluded stretches of sent slices (harness trouble)."""
        found = self._due.get((stays, excluded))
        if found is None:
            found = self._due[stays, excluded] = self._lay(stays, excluded)
        return found

    def _lay(self, stays: tuple[Stay, ...], excluded: tuple[tuple[int, int], ...]) -> Due:
        sent = self.table.sent
        owed = np.zeros(len(sent), dtype=np.bool_)
        edge = owed.copy()
        excused = owed.copy()
        families = self.table.row_family
        for stay in stays:
            rows = self._rows(stay.routes)
            owed |= rows & (sent >= stay.owed_from) & (sent < stay.owed_to)
            start = rows & (sent >= stay.may_from) & (sent < min(stay.owed_from, stay.may_to))
            end = rows & (sent >= max(stay.owed_to, stay.may_from)) & (sent < stay.may_to)
            edge |= start | end
            if stay.start_faults:
                excused |= start & _bit(stay.start_faults, families)
            if stay.end_faults:
                excused |= end & _bit(stay.end_faults, families)
        if self._replayed:
            self._replay(stays, edge)
        for first, last in excluded:
            out = (sent >= first) & (sent <= last)
            owed &= ~out
            edge &= ~out
        edge &= ~owed
        undecided = edge & ~excused
        ok = self.table.ok
        return Due(
            owed=owed,
            undecided=undecided,
            owed_line=self.table.of_rows(owed).both(ok),
            undecided_line=self.table.of_rows(undecided).both(ok),
            may_line=self.table.of_rows(edge).both(ok),
        )

    def _replay(self, stays: tuple[Stay, ...], edge: Bools) -> None:
        """What was sent between two connections may be replayed: undecided unless seen."""
        sent = self.table.sent
        for before, after in itertools.pairwise(stays):
            rows = self._rows(after.routes) & self._replays[self.table.row_family]
            edge |= rows & (sent >= before.may_to) & (sent < after.may_from)


def _bit(bits: int, families: Ints) -> Bools:
    return ((np.int64(bits) >> np.maximum(families, 0)) & 1).astype(np.bool_) & (families >= 0)
