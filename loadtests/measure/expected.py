"""Which published rows was a consumer owed, which are undecided, and which did it miss while it was away, and why?

Theory of operation.  The subscriptions of one consumer are laid over the slices in which messages were sent.  Each row
of its routes is then in exactly one place: *owed* (inside a subscription, or to be replayed after an absence),
*undecided* (within the settle time of an end of one), or *away* with a cause (`absences`).  A row of a slice that lies
on both sides of an end is away where the target made that end, else undecided.

Example: a subscription from 5.00 s to 9.00 s, settle time 250 ms, slices of 100 ms.

    sent slice    .. 49 | 50 .. 52  | 53 .. 86 | 87 .. 89  | 90 ..
                  away  | undecided | owed     | undecided | away

If the target closed the connection at 9.00 s, slices 90 and on are away by *disconnected*; if a fault was in force on
its path then, 87 to 89 are away by *charged*; if the contract replays, the newest rows sent while it was away are owed
at its return.

Invariants: offered = owed + undecided + away holds row by row; excluded stretches (trouble of the load generator) are
never owed; what a consumer saw all the same is moved to owed when the account is made (`ledger`).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loadtests.measure.absences import CHARGED, DISCONNECTED, HARNESS, OWN_PLAN, Absence
from loadtests.measure.deliveries import Deliveries
from loadtests.measure.history_tables import FOREVER, Bools, Ints
from loadtests.measure.interval_set import EMPTY, StreamLine
from loadtests.measure.phases import Window
from loadtests.measure.streams import StreamTable
from loadtests.measure.subscriptions import Interval
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_MS, SLICE_NS

NOT_AWAY = -1
Causes = npt.NDArray[np.int8]


class MissedWhileAway(NamedTuple):
    """Sent slices, from one to before another, in which a consumer had no subscription, and the cause."""

    first: int
    end: int
    cause: int


class Opened(NamedTuple):
    """One connection in slices: when it was open, and when leaving was confirmed; clipped to what was sent."""

    first: int
    left: int


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Due:
    """What the stays and absences of a consumer make of the published rows; a row is in one of the three at most."""

    cell: Ints  # of each row; what follows is told per cell
    owed_cells: Bools
    away_cells: Causes  # the cause, NOT_AWAY where it is none
    replayed_cells: Bools  # of the owed ones: what the contract wants replayed at the return
    line: StreamLine  # all that its routes have, of the families that are measured
    owed_line: StreamLine  # OK ones
    undecided_line: StreamLine

    @property
    def owed(self) -> Bools:
        """Rows that are owed."""
        return self.owed_cells[self.cell]

    def away(self, cause: int) -> Bools | None:
        """Rows that are missed of one cause; None: no row is."""
        cells = self.away_cells == cause
        return cells[self.cell] if cells.any() else None

    def replayed(self, rows: Ints) -> Bools:
        """Which of some rows the contract wants replayed."""
        return self.replayed_cells[self.cell[rows]]


class _Rows(NamedTuple):
    """What some routes have."""

    cells: Bools
    line: StreamLine


_KEPT_BYTES = 64 << 20
"""So much of what was laid is remembered."""


class Owing:
    """Stays and their rows, remembered for consumers with equal ones."""

    def __init__(
        self,
        table: StreamTable,
        came: Deliveries,
        contract: Contract,
        windows: list[Window],
        route_sets: Collection[Iterable[int]],
        *,
        end_ns: int,
    ) -> None:
        """`route_sets`: all that any consumer subscribed to or was to."""
        self.table = table
        self._contract = contract
        profile = contract.profile
        self._settle_ns = profile.run.settle_ms * NS_PER_MS
        self._settle = -(-self._settle_ns // SLICE_NS)
        self._end_ns = end_ns
        self._first = int(table.sent.min()) if len(table.sent) else 0
        self._last = int(table.sent.max()) if len(table.sent) else 0
        self._windows = windows
        self._from_ns = np.array([w.from_ns for w in windows], dtype=np.int64)
        self._to_ns = np.array([w.to_ns for w in windows], dtype=np.int64)
        families = profile.families
        self._measured = np.array([f.mode != "unmeasured" for f in families] + [False])
        self._replays = [i for i, f in enumerate(families) if f.offline == "replayed"]
        # Rows that are sent in one slice and that every route set has or has not are one cell: what is said of one is
        # said of all.  Cells are in the order of sending; how much is replayed is counted row by row.
        alike = _alike(table, route_sets)
        order = np.lexsort((alike, table.sent))
        single = np.isin(table.row_family[order], self._replays)
        new = (np.diff(table.sent[order]) != 0) | (np.diff(alike[order]) != 0) | single[1:]
        new = np.append(np.ones(min(len(order), 1), dtype=np.bool_), new)
        self._cell: Ints = np.empty(len(order), dtype=np.int64)
        self._cell[order] = np.cumsum(new) - 1
        self._row = order[new]  # the first of each cell
        self._sent, self._family = table.sent[self._row], table.row_family[self._row]
        self._in_seconds = np.array([f.mode == "latest" for f in families] + [False])[self._family]
        forgets = np.array([f.offline == "lost" for f in families] + [False])[table.row_family]
        # What was missed comes back at the return, or its absence counts in seconds.
        self._returns = np.array([f.mode == "latest" or f.offline == "replayed" for f in families] + [False])[
            self._family
        ]
        # When a row was first received by anybody, where it is not replayed; bounds of it and of sending in a stream.
        self._forgotten = np.where(forgets, _first_received(table, came), FOREVER)
        apart = table.stream * (4 * FOREVER)
        self._forgotten_from = np.minimum.accumulate((self._forgotten + apart)[::-1])[::-1] - apart
        self._sent_until = np.maximum.accumulate(table.sent + apart) - apart
        self._rows_of: dict[tuple[int, ...], _Rows] = {}
        self._due: dict[tuple[object, ...], Due] = {}

    def stays(self, intervals: list[Interval], spared: frozenset[int] = frozenset()) -> tuple[Stay, ...]:
        """The stays of one consumer, whom some windows (by index) do not concern."""
        return tuple(self._stay(i, spared) for i in intervals)

    def away(self, absences: tuple[Absence, ...]) -> tuple[MissedWhileAway, ...]:
        """Absences in slices; those in which nothing was sent are left out."""
        found = []
        for absence in absences:
            first = max(absence.from_ns // SLICE_NS, self._first)
            end = min(-(-absence.to_ns // SLICE_NS), self._last + 1)
            if end > first:
                found.append(MissedWhileAway(first, end, absence.cause))
        return tuple(found)

    def opened(self, opened_ns: int, left_ns: int | None) -> Opened:
        """A connection in slices, clipped so that consumers that were there all the time are alike."""
        left = FOREVER if left_ns is None else -(-left_ns // SLICE_NS)
        return Opened(max(opened_ns // SLICE_NS, self._first), left if left <= self._last else FOREVER)

    def _stay(self, interval: Interval, spared: frozenset[int]) -> Stay:
        to_ns = self._end_ns if interval.to_ns is None else interval.to_ns
        low, high = self._first, self._last + 1
        return Stay(
            routes=interval.routes,
            may_from=min(max(interval.from_ns // SLICE_NS, low), high),
            owed_from=min(max(-(-(interval.from_ns + self._settle_ns) // SLICE_NS), low), high),
            owed_to=max(min((to_ns - self._settle_ns) // SLICE_NS, high), low),
            may_to=max(min(-(-to_ns // SLICE_NS), high), low),
            start_faults=self._faults_at(interval.from_ns, spared) if low <= interval.from_ns // SLICE_NS < high else 0,
            end_faults=self._faults_at(to_ns, spared) if -(-to_ns // SLICE_NS) < high else 0,
        )

    def _faults_at(self, at_ns: int, spared: frozenset[int]) -> int:
        bits = 0
        for index in np.flatnonzero((self._from_ns <= at_ns) & (at_ns < self._to_ns)).tolist():
            window = self._windows[index]
            if index not in spared:
                for family in window.fault.families:
                    bits |= 1 << family
        return bits

    def rows(self, routes: tuple[int, ...]) -> _Rows:
        """Rows of some routes, of the families that are measured."""
        rows = self._rows_of.get(routes)
        if rows is None:
            wanted = np.isin(self.table.route_of, np.array(routes, dtype=np.int64))
            wanted &= self._measured[self.table.family_of]
            every: Bools = wanted[self.table.stream]
            rows = self._rows_of[routes] = _Rows(every[self._row], self.table.of_rows(every))
        return rows

    def due(
        self,
        routes: tuple[int, ...],
        stays: tuple[Stay, ...],
        away: tuple[MissedWhileAway, ...] = (),
        excluded: tuple[tuple[int, int], ...] = (),
    ) -> Due:
        """Rows of some routes by stays and absences; of excluded stretches of sent slices (harness trouble) nothing is
        owed."""
        key = (routes, stays, away, excluded)
        found = self._due.get(key)
        if found is None:
            found = self._due[key] = self._lay(routes, stays, away, excluded)
            while len(self._due) > max(_KEPT_BYTES // (3 * len(self._sent) + 1), 1):
                del self._due[next(iter(self._due))]
        return found

    def _span(self, first: int, end: int) -> slice:
        """Cells from a slice to before another."""
        low, high = np.searchsorted(self._sent, (first, max(end, first)))
        return slice(int(low), int(high))

    def _lay(
        self,
        routes: tuple[int, ...],
        stays: tuple[Stay, ...],
        absences: tuple[MissedWhileAway, ...],
        excluded: tuple[tuple[int, int], ...],
    ) -> Due:
        """In the order of sending each stay and absence is one stretch, so that it costs what it holds."""
        every, families = self.rows(routes).cells, self._family
        owed, edge, excused, inside = (np.zeros(len(every), dtype=np.bool_) for _ in range(4))
        for stay in stays:
            rows = self.rows(stay.routes).cells
            whole, sure = self._span(stay.may_from, stay.may_to), self._span(stay.owed_from, stay.owed_to)
            owed[sure] |= rows[sure]
            inside[whole] |= rows[whole]
            for at, faults in (
                (self._span(stay.may_from, min(stay.owed_from, stay.may_to)), stay.start_faults),
                (self._span(max(stay.owed_to, stay.may_from), stay.may_to), stay.end_faults),
            ):
                edge[at] |= rows[at]
                if faults:
                    excused[at] |= rows[at] & _bit(faults, families[at])
        # What the history does not date is as if the consumer had been away by our plan: before T0, say.
        outside = every & ~inside
        away: Causes = np.where(outside, np.int8(OWN_PLAN), np.int8(NOT_AWAY))
        shut_out = np.zeros(len(every), dtype=np.bool_)
        for absence in absences:
            at = self._span(absence.first, absence.end)
            away[at][outside[at]] = absence.cause
            if absence.cause == DISCONNECTED:
                shut_out[at] |= every[at]
        away[edge & excused & ~owed] = CHARGED
        # A slice in which the target ended the connection, or took it back, holds messages of both sides.
        shut_out &= edge & ~excused & ~owed & ~self._returns
        away[shut_out] = DISCONNECTED
        replayed = self._replay(stays, outside)
        owed |= replayed.owed
        undecided = (edge & ~excused & ~owed & ~shut_out) | replayed.undecided
        for first, last in excluded:
            at = self._span(first, last + 1)
            out = every[at]
            owed[at] &= ~out
            undecided[at] &= ~out
            away[at][out] = HARNESS
        away[owed | undecided | (self._in_seconds & ~inside)] = NOT_AWAY
        table, cell = self.table, self._cell
        return Due(
            cell=cell,
            owed_cells=owed,
            away_cells=away,
            replayed_cells=replayed.owed & owed,
            line=self.rows(routes).line,
            owed_line=table.of_rows(owed[cell]).both(table.ok),
            undecided_line=table.of_rows(undecided[cell]).both(table.ok) if undecided.any() else EMPTY,
        )

    def _replay(self, stays: tuple[Stay, ...], outside: Bools) -> _Replay:
        """What was sent between two connections is owed at the return: the newest ones, up to number and age.

        Beyond those bounds, and within the settle time of either end, it is undecided.
        """
        found = _Replay(np.zeros(len(outside), dtype=np.bool_), np.zeros(len(outside), dtype=np.bool_))
        if not self._replays:
            return found
        ordered = sorted(stays, key=lambda s: (s.may_from, s.may_to))
        for before, after in itertools.pairwise(ordered):
            span = self._span(before.may_to, after.may_from)
            sent, place = self._sent[span], self._row[span]
            for family in self._replays:
                spec = self._contract.profile.families[family]
                rows = outside[span] & (self._family[span] == family)
                sure = rows & (sent >= before.may_to + self._settle) & (sent < after.may_from - self._settle)
                sure &= sent > after.may_from - round(spec.replay_age_s * 1e9) // SLICE_NS
                newest = np.flatnonzero(rows)
                newest = newest[np.lexsort((place[newest], -sent[newest]))]
                # A row of which only a part is within the number is beyond it.
                within = np.cumsum(self.table.ok_count[place[newest]]) <= spec.replay_messages
                sure[newest[~within]] = False
                found.owed[span][sure] = True
                found.undecided[span][rows & ~sure] = True
        return found

    def unasked(self, connections: Sequence[Opened], parts: Sequence[StreamLine]) -> list[StreamLine]:
        """What each connection brought and may not: sent well after leaving was confirmed; or, where the contract
        replays nothing, received by another consumer well before the connection was open."""
        table, settle = self.table, self._settle
        found = [EMPTY] * len(parts)
        left = np.array([c.left + settle for c in connections], dtype=np.int64)
        first = np.array([c.first - 1 - settle for c in connections], dtype=np.int64)
        suspects: Iterable[int] = range(len(parts))
        if table.apart and parts:
            of = np.repeat(np.arange(len(parts)), [len(part.start) for part in parts])
            low = np.searchsorted(table.end, np.concatenate([part.start for part in parts]), side="right")
            high = np.searchsorted(table.start, np.concatenate([part.end for part in parts]), side="left")
            there = high > low
            of, low, high = of[there], low[there], high[there] - 1
            suspects = np.unique(
                of[(self._sent_until[high] > left[of]) | (self._forgotten_from[low] < first[of])]
            ).tolist()
        for index in suspects:
            rows: Bools = (table.sent > left[index]) | (self._forgotten < first[index])
            found[index] = table.of_rows(rows).both(parts[index]) if rows.any() else EMPTY
        return found


class _Replay(NamedTuple):
    owed: Bools
    undecided: Bools


def _alike(table: StreamTable, route_sets: Collection[Iterable[int]]) -> Ints:
    """A number per row, equal for rows whose family is the same and whose route is in the same sets."""
    of_stream = [table.family_of, *(np.isin(table.route_of, list(routes)) for routes in route_sets)]
    _, number = np.unique(np.array(of_stream), axis=1, return_inverse=True)
    return number.reshape(-1)[table.stream]


def _first_received(table: StreamTable, came: Deliveries) -> Ints:
    """Per published row the first slice in which any consumer received something of its family and due slice."""
    found: Ints = np.full(len(table.due), FOREVER, dtype=np.int64)
    if not len(table.due):
        return found
    low, high = int(table.due.min()), int(table.due.max())
    width = high - low + 1
    rows = came.counts & (came.unique > 0) & (came.due >= low) & (came.due <= high)
    rows &= came.received >= came.due  # before it was due nothing is sent: that time was written by the target
    if not rows.any():
        return found
    families = max(int(came.family.max()), int(table.row_family.max())) + 1
    first: Ints = np.full(families * width, FOREVER, dtype=np.int64)
    np.minimum.at(first, came.family[rows] * width + came.due[rows] - low, came.received[rows])
    known = table.row_family >= 0
    found[known] = first[(table.row_family * width + table.due - low)[known]]
    return found


def _bit(bits: int, families: Ints) -> Bools:
    return ((np.int64(bits) >> np.maximum(families, 0)) & 1).astype(np.bool_) & (families >= 0)
