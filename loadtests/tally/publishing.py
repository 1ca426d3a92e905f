"""What was published or asked, with which outcome, and how late?  A fold of sends and answers into records.

Every planned message of a slot that a publisher holds ends in exactly one place: in a Published row (perhaps refined by
Settled), or counted as not offered.  The union of a stream's Published rows is gapless from 0.
Records are additive: rows of one publisher group and slice may come several times, from several processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from loadtests.model.records import Published, PublishTimes, Record, Settled
from loadtests.tally.histogram import Histogram, Times, buckets_of_us

Outcome = Literal["FAILED", "UNKNOWN"]
Some = Sequence[int] | Times
_SAID = 120
_AT_ONCE = 4096  # messages whose times are kept until they are counted together: half a millisecond
_WORDS = 16
"""Different words that are kept between two `records`; a server that makes them up must not fill the history."""


class _Cell:
    """One publisher group in one due slice."""

    __slots__ = ("blocked", "left", "not_offered", "own", "receivers_max", "receivers_min", "receivers_zero", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.not_offered = 0
        self.left: list[tuple[int, Some, Some | None]] = []  # ns of left, due, blocked; not counted yet
        self.own: Counter[int] = Counter()
        self.blocked: Counter[int] = Counter()
        self.receivers_min = -1
        self.receivers_max = -1
        self.receivers_zero = 0

    def fold(self) -> None:
        """Count own lag and blocked time of what left, of all at once."""
        counts = [len(due) for _, due, _ in self.left]
        total = sum(counts)
        due_ns = np.concatenate([due for _, due, _ in self.left])
        own_us = (np.repeat(np.array([left for left, _, _ in self.left], dtype=np.int64), counts) - due_ns) // 1000
        if any(blocked is not None for _, _, blocked in self.left):
            each = [[0] * n if b is None else b for n, (_, _, b) in zip(counts, self.left, strict=True)]
            blocked_us = np.concatenate(each) // 1000
            own_us -= blocked_us
            _count(self.blocked, blocked_us)
        else:
            self.blocked[0] += total
        _count(self.own, own_us)
        self.left = []


def _count(counts: Counter[int], times_us: Times) -> None:
    found = np.bincount(buckets_of_us(times_us))
    for bucket in np.flatnonzero(found).tolist():
        counts[bucket] += int(found[bucket])


class RowSource(Protocol):
    """Who counts what it published by itself."""

    def hand_rows(self) -> None:
        """Call `row` for all that is in no row yet."""
        ...


class PublishTally:
    """The account of one process's publishers. Totals run through; cells and rows are handed out by `records`."""

    def __init__(self) -> None:
        self.sent_total = 0  # messages that a Published row covers
        self.not_offered_total = 0
        self.failed_total = 0
        self.unknown_total = 0
        self.own_lag = Histogram()  # of the messages since the last `records`
        self._cells: dict[tuple[int, int], _Cell] = {}
        self._rows: list[tuple[int, int, int, int, int, int]] = []  # as `row` has them
        self._sources: set[RowSource] = set()
        self._unfolded = 0
        self._settled: dict[tuple[int, Outcome, str], list[list[int]]] = {}
        self._words: set[str] = {""}  # said since the last `records`

    def follow(self, source: RowSource) -> None:
        """Something has rows to hand over before the next `records`; safe to repeat."""
        self._sources.add(source)

    def row(self, stream: int, due_slice: int, sent_slice: int, first: int, last: int, size: int) -> None:
        """Messages of a stream that left, of one due and sent slice; `size` is the bytes of their payloads."""
        self._rows.append((stream, due_slice, sent_slice, first, last, size))

    def sent(
        self,
        group: int,
        due_slice: int,
        due_ns: Some,
        left_ns: int,
        blocked_ns: Some | None = None,
    ) -> None:
        """Messages of one due slice, which are in some `row`, left at one moment; None = none was blocked."""
        count = len(due_ns)
        cell = self._cell(group, due_slice)
        cell.sent += count
        self.sent_total += count
        cell.left.append((left_ns, due_ns, blocked_ns))
        self._unfolded += count
        if self._unfolded > _AT_ONCE:
            self._fold()

    def answered(self, group: int, due_slice: int, receivers: int, count: int) -> None:
        """PUBLISH answered `count` times with so many receivers: these messages are OK."""
        cell = self._cell(group, due_slice)
        if receivers < cell.receivers_min or cell.receivers_min < 0:
            cell.receivers_min = receivers
        if receivers > cell.receivers_max:
            cell.receivers_max = receivers
        if receivers == 0:
            cell.receivers_zero += count

    def settled(self, stream: int, seq: int, outcome: Outcome, at_ns: int, said: str = "", *, count: int = 1) -> None:
        """Messages that `sent` covers, from a `seq` on, are not plain OK; `said` is why, as we were told."""
        said = " ".join(said[:_SAID].split())
        if said not in self._words:
            if len(self._words) <= _WORDS:
                self._words.add(said)
            else:
                said = ""
        ranges = self._settled.setdefault((stream, outcome, said), [])
        if ranges and ranges[-1][1] + 1 == seq:
            ranges[-1][1] = seq + count - 1
        else:
            ranges.append([seq, seq + count - 1, at_ns])
        if outcome == "FAILED":
            self.failed_total += count
        else:
            self.unknown_total += count

    def not_offered(self, group: int, due_slice: int, count: int = 1) -> None:
        """Messages that were planned in a slice and never tried."""
        self._cell(group, due_slice).not_offered += count
        self.not_offered_total += count

    def records(self) -> list[Record]:
        """All that came since the last call, and forget it."""
        found: list[Record] = []
        for source in self._sources:
            source.hand_rows()
        self._sources.clear()
        self._fold()
        if self._rows:
            columns = zip(*sorted(self._rows), strict=True)
            streams, due, sent, first, last, size = (list(column) for column in columns)
            found.append(Published(stream=streams, due_slice=due, sent_slice=sent, first=first, last=last, bytes=size))
        settled = sorted((key, first, last, at) for key, ranges in self._settled.items() for first, last, at in ranges)
        if settled:
            found.append(
                Settled(
                    stream=[key[0] for key, _, _, _ in settled],
                    first=[first for _, first, _, _ in settled],
                    last=[last for _, _, last, _ in settled],
                    outcome=[key[1] for key, _, _, _ in settled],
                    at_ns=[at for _, _, _, at in settled],
                    said=[key[2] for key, _, _, _ in settled] if len(self._words) > 1 else [],
                )
            )
        lag = Histogram()
        for (group, due_slice), cell in sorted(self._cells.items()):
            own, blocked = Histogram(), Histogram()
            own.counts, blocked.counts = cell.own, cell.blocked
            lag.merge_all([own])
            found.append(
                PublishTimes(
                    publishers=group,
                    due_slice=due_slice,
                    sent=cell.sent,
                    not_offered=cell.not_offered,
                    own_lag=own.sparse(),
                    blocked=blocked.sparse(),
                    receivers_min=cell.receivers_min,
                    receivers_max=cell.receivers_max,
                    receivers_zero=cell.receivers_zero,
                )
            )
        self.own_lag = lag
        self._cells, self._rows, self._settled = {}, [], {}
        self._words = {""}
        return found

    def _cell(self, group: int, due_slice: int) -> _Cell:
        cell = self._cells.get((group, due_slice))
        if cell is None:
            cell = self._cells[group, due_slice] = _Cell()
        return cell

    def _fold(self) -> None:
        for cell in self._cells.values():
            if cell.left:
                cell.fold()
        self._unfolded = 0


class _RequestCell:
    __slots__ = ("connect", "example", "failed", "latency", "ok")

    def __init__(self) -> None:
        self.ok = 0
        self.failed = 0
        self.connect = Histogram()
        self.latency = Histogram()
        self.example = ""


class RequestTally:
    """The account of one user that asks. `record` makes what goes into the history: of a name, and a cell's numbers."""

    def __init__(self, record: Callable[..., Any]) -> None:
        self._record = record
        self._cells: dict[tuple[str, int], _RequestCell] = {}

    def connected(self, name: str, due_slice: int, took_ns: int) -> None:
        """A connection had to be made for a request."""
        self._cell(name, due_slice).connect.add(took_ns)

    def answered(self, name: str, due_slice: int, took_ns: int) -> None:
        """The answer is there; the time is without connecting."""
        cell = self._cell(name, due_slice)
        cell.ok += 1
        cell.latency.add(took_ns)

    def failed(self, name: str, due_slice: int, why: str) -> None:
        """No answer; `why` begins with a code, say the SQLSTATE, where there is one."""
        cell = self._cell(name, due_slice)
        cell.failed += 1
        cell.example = cell.example or why

    def records(self) -> list[Any]:
        """All that came since the last call, and forget it."""
        found = [
            self._record(
                name,
                due_slice=due_slice,
                ok=cell.ok,
                failed=cell.failed,
                connect=cell.connect.sparse(),
                latency=cell.latency.sparse(),
                example=cell.example,
            )
            for (name, due_slice), cell in sorted(self._cells.items())
        ]
        self._cells = {}
        return found

    def _cell(self, name: str, due_slice: int) -> _RequestCell:
        return self._cells.setdefault((name, due_slice), _RequestCell())
