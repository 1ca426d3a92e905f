"""Which messages were published, when, and with which outcome?  One table of rows: stream x due slice x sent slice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from loadtests.measure.history_tables import OUTCOME_CODE, Bools, HistoryTables, Ints, ints, sums_at
from loadtests.measure.interval_set import EMPTY, SHIFT, StreamLine
from loadtests.model.contract import Contract
from loadtests.model.ids import MAX_ROUTES, SLICE_NS

_UNANSWERED_SLICES = 20


class RowSums:
    """Counts per row, added up set by set.  A set costs what its ranges cost, not what its rows do."""

    def __init__(self, table: StreamTable) -> None:
        self._table = table
        self._some = np.zeros(len(table.start), dtype=np.int64)
        self._steps = np.zeros(len(table.start) + 1, dtype=np.int64)  # of how often a row counts as a whole

    def add(self, line: StreamLine, times: int) -> None:
        """Count every message of a set so many times in its row."""
        table = self._table
        if not table.apart:
            rows, count = table.cut(line)
            np.add.at(self._some, rows, times * count)
            return
        low = np.searchsorted(table.end, line.start, side="right")
        high = np.searchsorted(table.start, line.end, side="left")
        there = high > low
        low, high, start, end = low[there], high[there], line.start[there], line.end[there]
        np.add.at(self._steps, low, times)
        np.add.at(self._steps, high, -times)
        for rows, lacks in ((low, start - table.start[low]), (high - 1, table.end[high - 1] - end)):
            part = lacks > 0
            np.add.at(self._some, rows[part], -times * lacks[part])

    def total(self) -> Ints:
        """The counts."""
        table = self._table
        return self._some + np.cumsum(self._steps[:-1]) * (table.end - table.start)


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamTable:
    """Published rows in the order of stream and seq; arrays ending in `_of` are indexed by stream index."""

    ids: Ints  # packed streams, ascending; includes streams that only a consumer names
    route_of: Ints
    family_of: Ints  # -1: a route that the profile does not have
    slot_of: Ints
    stream: Ints  # from here on one value per row
    due: Ints
    sent: Ints
    start: Ints  # places on the line
    end: Ints
    ok_count: Ints
    row_family: Ints
    byte_count: int
    published: StreamLine
    failed: StreamLine
    unknown: StreamLine
    ok: StreamLine
    told_to: Ints  # per stream: place behind the last message that any record tells of; none can come later, but ...
    open_end: Bools  # ... of streams whose publisher was lost before it had told of all

    def index(self, packed: Ints) -> Ints:
        """Stream indices of packed streams, all of which the table knows."""
        return np.searchsorted(self.ids, packed)

    def line(self, packed: Ints, first: Ints, last: Ints) -> StreamLine:
        """The set of inclusive seq ranges of packed streams."""
        base = self.index(packed) << SHIFT
        return StreamLine.of(base + first, base + last + 1)

    def of_rows(self, rows: Bools) -> StreamLine:
        """All messages of some rows, whatever their outcome."""
        if not self.apart:
            return StreamLine.of(self.start[rows], self.end[rows])
        goes_on = rows[:-1] & rows[1:] & self.joined
        begins, ends = rows.copy(), rows.copy()
        begins[1:] &= ~goes_on
        ends[:-1] &= ~goes_on
        return StreamLine(self.start[begins], self.end[ends])

    @cached_property
    def joined(self) -> Bools:
        """Of each row but the last: the next one goes on where it ends."""
        return np.equal(self.end[:-1], self.start[1:])

    @cached_property
    def apart(self) -> bool:
        """Every row holds messages, and none that another one holds: so it is, unless a history is damaged."""
        return bool((self.start < self.end).all() and (self.end[:-1] <= self.start[1:]).all())

    def cut(self, line: StreamLine) -> tuple[Ints, Ints]:
        """(row, count) of a set of published messages; a row may come more than once."""
        if not line or not len(self.start):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        rows, start, end = line.cut(StreamLine(self.start, self.end))
        return rows, end - start

    def per_family(self, line: StreamLine, families: int) -> Ints:
        """Members per family."""
        family = self.family_of[line.start >> SHIFT]
        known = family >= 0
        return sums_at(family[known], (line.end - line.start)[known], families)


def streams(facts: HistoryTables, contract: Contract) -> StreamTable:
    """The table of a history."""
    published = np.concatenate([p.published.numpy() for _, p in facts.each()] or [np.zeros((6, 0), dtype=np.int64)], 1)
    settled = np.concatenate([p.settled.numpy() for _, p in facts.each()] or [np.zeros((5, 0), dtype=np.int64)], 1)
    named = [published[0], settled[0]]
    for _, process in facts.each():
        named += [ints(c.stream) for c in process.closings]
        named.append(process.deviations.numpy()[3])
    ids = np.unique(np.concatenate(named)) if named else np.zeros(0, dtype=np.int64)
    route = ids & (MAX_ROUTES - 1)
    family_of_route = np.array([r.family for r in contract.routes], dtype=np.int64)
    known = route < len(family_of_route)
    family = np.where(known, family_of_route[np.where(known, route, 0)], -1)

    stream, due, sent, first, last, size = published
    index = np.searchsorted(ids, stream)
    order = np.lexsort((due, first, index))
    index, due, sent, first, last = index[order], due[order], sent[order], first[order], last[order]
    start, end = (index << SHIFT) + first, (index << SHIFT) + last + 1

    failed, unknown = _outcomes(ids, settled)
    # What a process sent shortly before it was lost may have been answered with an error that is in no record.
    unknown = unknown.union(_unanswered(facts, ids))
    failed = failed.minus(unknown)
    everything = StreamLine.of(start, end)
    ok = everything.minus(failed).minus(unknown)
    table = StreamTable(
        ids=ids,
        route_of=route,
        family_of=family,
        slot_of=ids >> 32,
        stream=index,
        due=due,
        sent=sent,
        start=start,
        end=end,
        ok_count=end - start,
        row_family=family[index],
        byte_count=int(size.sum()),
        published=everything,
        failed=failed.both(everything),
        unknown=unknown.both(everything),
        ok=ok,
        told_to=_told_to(len(ids), index, end),
        open_end=_open_end(facts, ids, index),
    )
    table.ok_count[:] = 0
    rows, count = table.cut(ok)
    np.add.at(table.ok_count, rows, count)
    return table


def _outcomes(ids: Ints, settled: Ints) -> tuple[StreamLine, StreamLine]:
    """FAILED and UNKNOWN messages. UNKNOWN outranks: what one says may have happened, no other can deny."""
    if not settled.shape[1]:
        return EMPTY, EMPTY
    stream, first, last, outcome, _ = settled
    base = np.searchsorted(ids, stream) << SHIFT
    bad, may = outcome == OUTCOME_CODE["FAILED"], outcome == OUTCOME_CODE["UNKNOWN"]
    failed = StreamLine.of((base + first)[bad], (base + last + 1)[bad])
    unknown = StreamLine.of((base + first)[may], (base + last + 1)[may])
    return failed.minus(unknown), unknown


def _told_to(streams_: int, index: Ints, end: Ints) -> Ints:
    found = np.arange(streams_, dtype=np.int64) << SHIFT
    np.maximum.at(found, index, end)
    return found


def _lost_from(facts: HistoryTables, name: str) -> list[int]:
    """When a process was lost; empty where it was not."""
    return [t.from_ns for t in facts.lost() if t.process == name]


def _open_end(facts: HistoryTables, ids: Ints, index: Ints) -> Bools:
    """Streams of lost processes: of publishers whose rows they wrote, and those without any row."""
    lost = [p.published.numpy()[0] for n, p in facts.each() if _lost_from(facts, n)]
    if not lost:
        return np.zeros(len(ids), dtype=np.bool_)
    publishers = np.unique(np.concatenate(lost) // MAX_ROUTES)
    found: Bools = np.isin(ids // MAX_ROUTES, publishers) | ~np.isin(np.arange(len(ids)), index)
    return found


def _unanswered(facts: HistoryTables, ids: Ints) -> StreamLine:
    """What processes sent whose trouble lasts to the end, from two seconds before it on."""
    found = EMPTY
    for name, process in facts.each():
        lost = _lost_from(facts, name)
        if lost and len(process.published):
            stream, _, sent, first, last, _ = process.published.numpy()
            tail = sent >= min(lost) // SLICE_NS - _UNANSWERED_SLICES
            base = np.searchsorted(ids, stream[tail]) << SHIFT
            found = found.union(StreamLine.of(base + first[tail], base + last[tail] + 1))
    return found


def overlaps(table: StreamTable) -> list[str]:
    """Rows that claim the same message: a history that holds a frame's content twice."""
    if len(table.start) < 2:
        return []
    bad = np.flatnonzero(table.start[1:] < table.end[:-1])
    return [f"stream {int(table.ids[table.stream[b]])} is published twice from one seq on" for b in bad[:5]]
