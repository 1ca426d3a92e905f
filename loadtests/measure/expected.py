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

    owed: Bools
    away: Causes  # per row the cause, NOT_AWAY where it is none
    replayed: Bools  # of the owed rows: what the contract wants replayed at the return
    line: StreamLine  # all that its routes have, of the families that are measured
    owed_line: StreamLine  # OK ones
    undecided_line: StreamLine


class _Rows(NamedTuple):
    """Rows of some routes."""

    by_sent: Bools  # in the order of sending
    line: StreamLine


_KEPT_BYTES = 64 << 20
"""So much of what was laid is remembered."""


class Owing:
    """Stays and their rows, remembered for consumers with equal ones."""

    def __init__(
        self, table: StreamTable, came: Deliveries, contract: Contract, windows: list[Window], *, end_ns: int
    ) -> None:
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
        # Rows in the order of sending, and the place of each row in that order.
        self._by_sent = np.argsort(table.sent, kind="stable")
        self._place = np.argsort(self._by_sent, kind="stable")
        self._sent, self._family = table.sent[self._by_sent], table.row_family[self._by_sent]
        self._in_seconds = np.array([f.mode == "latest" for f in families] + [False])[self._family]
        forgets = np.array([f.offline == "lost" for f in families] + [False])[table.row_family]
        # What was missed comes back at the return, or its absence counts in seconds.
        self._returns = np.array([f.mode == "latest" or f.offline == "replayed" for f in families] + [False])[
            self._family
        ]
        self._replays = [i for i, f in enumerate(families) if f.offline == "replayed"]
        # When each row was sent, and first received by anybody where it is not replayed; one more, for `reduceat`.
        self._sent_then = np.append(table.sent, 0)
        self._forgotten = np.append(np.where(forgets, _first_received(table, came), FOREVER), FOREVER)
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
            rows = self._rows_of[routes] = _Rows(every[self._by_sent], self.table.of_rows(every))
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
            while len(self._due) > max(_KEPT_BYTES // (5 * len(self._sent) + 1), 1):
                del self._due[next(iter(self._due))]
        return found

    def _span(self, first: int, end: int) -> slice:
        """Rows in the order of sending, from a slice to before another."""
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
        every, families = self.rows(routes).by_sent, self._family
        owed, edge, excused, inside = (np.zeros(len(every), dtype=np.bool_) for _ in range(4))
        for stay in stays:
            rows = self.rows(stay.routes).by_sent
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
        table, place = self.table, self._place
        return Due(
            owed=owed[place],
            away=away[place],
            replayed=(replayed.owed & owed)[place],
            line=self.rows(routes).line,
            owed_line=table.of_rows(owed[place]).both(table.ok),
            undecided_line=table.of_rows(undecided[place]).both(table.ok),
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
            sent, place = self._sent[span], self._by_sent[span]
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

    def unasked(self, connection: Opened, seen: StreamLine) -> StreamLine:
        """What a connection brought and may not: sent well after leaving was confirmed; or, where the contract replays
        nothing, received by another consumer well before the connection was open."""
        table, left = self.table, connection.left + self._settle
        if table.apart:
            low = np.searchsorted(table.end, seen.start, side="right")
            high = np.searchsorted(table.start, seen.end, side="left")
            span = np.column_stack((low, high))[high > low].ravel()
            if not len(span):
                return EMPTY
            last = np.maximum.reduceat(self._sent_then, span)[::2].max()
            first = np.minimum.reduceat(self._forgotten, span)[::2].min()
            if last <= left and first + 1 + self._settle >= connection.first:
                return EMPTY
        rows: Bools = table.sent > left
        rows |= self._forgotten[:-1] + 1 + self._settle < connection.first
        return table.of_rows(rows).both(seen) if rows.any() else EMPTY


class _Replay(NamedTuple):
    owed: Bools
    undecided: Bools


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
