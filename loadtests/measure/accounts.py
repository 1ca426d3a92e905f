"""What did each consumer see, and of which can nothing be said?  Closings and gaps, joined per connection."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np

from loadtests.measure.attribution import Attribution
from loadtests.measure.history_tables import FOREVER, KIND_CODE, NOT_KEPT_TEXT, HistoryTables, Ints, ints
from loadtests.measure.interval_set import EMPTY, SHIFT, StreamLine, beyond
from loadtests.measure.streams import StreamTable
from loadtests.measure.subscriptions import SubscriptionTable
from loadtests.model.contract import Contract
from loadtests.model.ids import SLICE_NS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sight:
    """What one epoch of one consumer saw, or several epochs with equal vectors and gaps."""

    key: bytes
    seen: StreamLine
    superseded: StreamLine  # skipped, and a newer one came in time (mode "latest")
    overtaken: StreamLine  # skipped, and a newer one of the stream came, whenever
    free: StreamLine  # of those, what no fault can have taken
    wrong: tuple[str, ...]  # why the sum does not close; empty: it does


@dataclass(slots=True, kw_only=True)
class Sights:
    """Sights by (consumer, epoch)."""

    of: dict[tuple[int, int], Sight] = field(default_factory=dict)
    closed_unique: dict[str, int] = field(default_factory=dict)  # process -> sum of Closing.unique
    at_least: set[tuple[int, int]] = field(default_factory=set)
    twice: set[tuple[int, int]] = field(default_factory=set)


def sights(facts: HistoryTables, table: StreamTable, contract: Contract, blame: Attribution) -> Sights:
    """Closings and deviations joined per consumer and epoch."""
    found = Sights()
    gaps = _Gaps(facts, table, contract, blame)
    alike: dict[bytes, Sight] = {}
    for name, process in facts.each():
        total = 0
        for closing in process.closings:
            packed, first, last, unique = (
                ints(c) for c in (closing.stream, closing.first, closing.last, closing.unique)
            )
            total += int(unique.sum()) * len(ints(closing.consumer))
            index = table.index(packed)
            order = np.argsort(index, kind="stable")
            index, first, last, unique = index[order], first[order], last[order], unique[order]
            vector = b"".join(c.tobytes() for c in (index, first, last, unique))
            for place in zip(ints(closing.consumer).tolist(), ints(closing.epoch).tolist(), strict=True):
                if place in found.of:
                    found.twice.add(place)
                if closing.at_least:
                    found.at_least.add(place)
                skipped = gaps.of(place)
                key = vector + b"".join(b"#" + line.key() for line in skipped)
                sight = alike.get(key)
                if sight is None:
                    sight = alike[key] = _sight(key, table, index, first, last, unique, skipped)
                found.of[place] = sight
        found.closed_unique[name] = total
    return found


def _sight(
    key: bytes,
    table: StreamTable,
    index: Ints,
    first: Ints,
    last: Ints,
    unique: Ints,
    skipped: tuple[StreamLine, StreamLine, StreamLine],
) -> Sight:
    unfilled, superseded, free = skipped
    base = index << SHIFT
    whole = StreamLine.of(base + first, base + last + 1)
    seen = whole.minus(unfilled)
    counted = np.zeros(len(table.ids), dtype=np.int64)
    np.add.at(counted, seen.start >> SHIFT, seen.end - seen.start)
    wrong = []
    for at in np.flatnonzero(counted[index] != unique)[:5]:
        stream = int(table.ids[index[at]])
        wrong.append(
            f"stream {stream}: {int(unique[at])} unique counted, {int(counted[index[at]])} by first, last and gaps"
        )
    stray = _never_published(seen, table)
    if stray:
        wrong.append(f"stream {int(table.ids[stray.start[0] >> SHIFT])}: {stray.size} seen that were never published")
    return Sight(
        key=key, seen=seen, superseded=superseded.minus(seen), overtaken=unfilled, free=free, wrong=tuple(wrong)
    )


def _never_published(seen: StreamLine, table: StreamTable) -> StreamLine:
    """Seen, and no record tells that it was published, nor was its publisher lost before it could."""
    stray = seen.minus(table.published)
    stream = stray.start >> SHIFT
    untold = table.open_end[stream] & (stray.start >= table.told_to[stream])
    return StreamLine.of(stray.start[~untold], stray.end[~untold])


class _Gaps:
    """Unfilled gaps per consumer and epoch; of them, what a newer message superseded in time, and no fault can take."""

    def __init__(self, facts: HistoryTables, table: StreamTable, contract: Contract, blame: Attribution) -> None:
        parts = [p.deviations.numpy() for _, p in facts.each()]
        rows = np.concatenate(parts or [np.zeros((7, 0), dtype=np.int64)], 1)
        rows = rows[:, rows[0] != KIND_CODE["repeated"]]
        rows = rows[:, np.lexsort((rows[6], rows[4], rows[3], rows[0], rows[2], rows[1]))]
        self._kind, self._at = rows[0], rows[6]
        base = table.index(rows[3]) << SHIFT
        self._start, self._end = base + rows[4], base + rows[5] + 1
        self._place: dict[tuple[int, int], tuple[int, int]] = {}
        if rows.shape[1]:
            pair = (rows[1] << 24) | rows[2]
            edges = np.concatenate(([0], np.flatnonzero(np.diff(pair)) + 1, [rows.shape[1]]))
            for low, high in itertools.pairwise(edges):
                self._place[int(rows[1][low]), int(rows[2][low])] = (int(low), int(high))
        self._table, self._blame = table, blame
        within = [f.latest_within_s if f.mode == "latest" else -1.0 for f in contract.profile.families]
        self._within_ns = np.array([*(round(w * 1e9) for w in within), -1], dtype=np.int64)

    def of(self, place: tuple[int, int]) -> tuple[StreamLine, StreamLine, StreamLine]:
        blame = self._blame.of(self._blame.spares(place[0]))
        low, high = self._place.get(place, (0, 0))
        if low == high:
            return EMPTY, EMPTY, EMPTY
        kind, start, end, at = (c[low:high] for c in (self._kind, self._start, self._end, self._at))
        gap = kind == KIND_CODE["gap"]
        unfilled = StreamLine.of(start[gap], end[gap]).minus(StreamLine.of(start[~gap], end[~gap]))
        within = self._within_ns[self._table.family_of[start >> SHIFT]]
        superseded = EMPTY
        for i in np.flatnonzero(gap & (within >= 0)):
            superseded = superseded.union(self._in_time(int(start[i]), int(end[i]), int(at[i]) - int(within[i])))
        free = blame.free(self._table, start[gap], end[gap], at[gap])
        return unfilled, superseded.both(unfilled), free.both(unfilled)

    def _in_time(self, start: int, end: int, due_from_ns: int) -> StreamLine:
        """Messages of a skipped range that were due in a slice which begins at or after a moment."""
        table = self._table
        rows, left, right = StreamLine.of(np.array([start]), np.array([end])).cut(StreamLine(table.start, table.end))
        keep = table.due[rows] * SLICE_NS >= due_from_ns
        return StreamLine.of(left[keep], right[keep])


def union(parts: Iterable[StreamLine]) -> StreamLine:
    """Members of any."""
    found = list(parts)
    if not found:
        return EMPTY
    if len(found) == 1:
        return found[0]
    return StreamLine.of(np.concatenate([p.start for p in found]), np.concatenate([p.end for p in found]))


def seen_too_often(parts: list[StreamLine], table: StreamTable, copies: Ints) -> tuple[Ints, Ints]:
    """(row, times) of what a consumer saw on more connections than the contract has copies of its family."""
    start, end, times = beyond(parts, copies[table.family_of])
    rows, left, right = StreamLine(start, end).cut(StreamLine(table.start, table.end))
    return rows, (right - left) * times[np.searchsorted(start, left, side="right") - 1]


def not_kept(facts: HistoryTables) -> list[str]:
    """Processes whose budget of exceptions was exceeded."""
    return [NOT_KEPT_TEXT.format(n, p.deviations_not_kept) for n, p in facts.each() if p.deviations_not_kept]


class Scopes:
    """Scopes of a history's trouble, as far as they concern the account."""

    def __init__(
        self,
        facts: HistoryTables,
        subs: SubscriptionTable,
        views: Sights,
        received: dict[str, int],
        late_slices: int,
        damaged: Collection[str],
    ) -> None:
        self._subs, self._views = subs, views
        self.epochs: dict[int, list[int]] = {}
        known = {(c, i.epoch) for c, intervals in subs.intervals.items() for i in intervals} | set(views.of)
        for consumer, epoch in sorted(known):
            self.epochs.setdefault(consumer, []).append(epoch)
        self._late = late_slices
        self._damaged = damaged
        self._trouble = [(t.process, t) for _, p in facts.each() for t in p.trouble]
        self._open = {name for name, f in facts.each() if views.closed_unique.get(name, 0) != received.get(name, 0)}
        self._missing = {
            place
            for consumer, epochs in self.epochs.items()
            for place in ((consumer, e) for e in epochs)
            if place not in views.of
        }
        self.wrong: list[str] = self._sums(facts, received)

    def _sums(self, facts: HistoryTables, received: dict[str, int]) -> list[str]:
        found = []
        lacking = {p for c, _ in self._missing for p in self._subs.processes_of.get(c, ())}
        for name in facts.names:
            closed, came = self._views.closed_unique.get(name, 0), received.get(name, 0)
            if closed != came and name not in lacking:
                found.append(f"{name}: {came} unique deliveries counted, {closed} in the closings")
        for (consumer, epoch), sight in sorted(self._views.of.items()):
            found.extend(f"consumer {consumer} epoch {epoch}, {line}" for line in sight.wrong[:1])
        return found

    def why_not(self, consumer: int, epochs: list[int]) -> str | None:
        """Why nothing can be said of a consumer, or None."""
        if consumer not in self._subs.group_of:
            return "the history has no subscription of it"
        if damaged := sorted(self._subs.processes_of[consumer].intersection(self._damaged)):
            return f"records of {damaged[0]} are missing"
        if consumer in self._subs.unknown_routes:
            return "the history lacks the routes that it subscribed to"
        for epoch in epochs:
            place = (consumer, epoch)
            sight = self._views.of.get(place)
            if sight is None:
                # It left, and its process counted no delivery beyond the closings there are: it received nothing.
                ended = self._subs.ends.at(*place) is not None and not self._open & self._subs.processes_of[consumer]
                if not ended:
                    return f"the closing of its connection {epoch} is missing"
            elif sight.wrong:
                return f"its tally does not add up: {sight.wrong[0]}"
            elif place in self._views.at_least:
                return "a budget was exceeded: its counts are lower bounds"
            elif place in self._views.twice:
                return f"the closing of its connection {epoch} is there twice"
        return None

    def excluded(self, consumer: int) -> tuple[tuple[int, int], ...]:
        """Sent slices (inclusive) whose delivery to a consumer harness trouble may have hidden."""
        processes = self._subs.processes_of.get(consumer, set())
        found = set()
        for process, t in self._trouble:
            if process in processes and (not t.consumers or consumer in t.consumers):
                last = FOREVER if t.to_ns < 0 else t.to_ns // SLICE_NS
                found.add((t.from_ns // SLICE_NS - self._late, last))
        return tuple(sorted(found))
