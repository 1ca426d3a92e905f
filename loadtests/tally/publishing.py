"""What was published, with which outcome, and how late?  A fold of sends and answers into the history's records.

Every planned message of a slot that a publisher holds ends in exactly one place: in a Published row (perhaps refined by
Settled), or counted as not offered.  The union of a stream's Published rows is gapless from 0.
Records are additive: rows of one publisher group and slice may come several times, from several processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from loadtests.model.records import Published, PublishTimes, Record, Settled
from loadtests.tally.histogram import LINEAR_US, Histogram, bucket_of_us

Outcome = Literal["FAILED", "UNKNOWN"]
_SAID = 120
_WORDS = 16
"""Different words that are kept between two `records`; a server that makes them up must not fill the history."""


class _Cell:
    """One publisher group in one due slice."""

    __slots__ = ("blocked", "not_offered", "own", "receivers_max", "receivers_min", "receivers_zero", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.not_offered = 0
        self.own: Counter[int] = Counter()
        self.blocked: Counter[int] = Counter()
        self.receivers_min = -1
        self.receivers_max = -1
        self.receivers_zero = 0


class PublishTally:
    """The account of one process's publishers. Totals run through; cells and rows are handed out by `records`."""

    def __init__(self) -> None:
        self.sent_total = 0  # messages that a Published row covers
        self.not_offered_total = 0
        self.failed_total = 0
        self.unknown_total = 0
        self.own_lag = Histogram()  # of the messages since the last `records`
        self._cells: dict[tuple[int, int], _Cell] = {}
        self._rows: dict[tuple[int, int], dict[int, list[int]]] = {}  # due and sent slice, stream -> first, last, bytes
        self._closed: list[tuple[tuple[int, int, int], list[int]]] = []
        self._settled: dict[tuple[int, Outcome, str], list[list[int]]] = {}
        self._words: set[str] = {""}  # said since the last `records`

    def sent(
        self,
        group: int,
        due_slice: int,
        sent_slice: int,
        *,
        streams: Sequence[int],
        seqs: Sequence[int],
        sizes: Sequence[int],
        own_us: Sequence[int],
        blocked_us: Sequence[int] | None = None,
    ) -> None:
        """Messages of one due slice that left together, in their order; times in whole us, None = none was blocked."""
        rows = self._rows.get((due_slice, sent_slice))
        if rows is None:
            rows = self._rows[due_slice, sent_slice] = {}
        for stream, seq, size in zip(streams, seqs, sizes, strict=True):
            row = rows.get(stream)
            if row is None:
                rows[stream] = [seq, seq, size]
            elif row[1] + 1 == seq:
                row[1] = seq
                row[2] += size
            else:
                self._closed.append(((stream, due_slice, sent_slice), row))
                rows[stream] = [seq, seq, size]
        count = len(streams)
        cell = self._cell(group, due_slice)
        cell.sent += count
        self.sent_total += count
        _count(cell.own, own_us)
        if blocked_us is None:
            cell.blocked[0] += count
        else:
            _count(cell.blocked, blocked_us)

    def answered(self, group: int, due_slice: int, receivers: int, count: int) -> None:
        """PUBLISH answered `count` times with so many receivers: these messages are OK."""
        cell = self._cell(group, due_slice)
        if receivers < cell.receivers_min or cell.receivers_min < 0:
            cell.receivers_min = receivers
        if receivers > cell.receivers_max:
            cell.receivers_max = receivers
        if receivers == 0:
            cell.receivers_zero += count

    def settled(self, stream: int, seq: int, outcome: Outcome, at_ns: int, said: str = "") -> None:
        """A message that `sent` covers is not plain OK; `said` is why, as we were told."""
        said = " ".join(said[:_SAID].split())
        if said not in self._words:
            if len(self._words) <= _WORDS:
                self._words.add(said)
            else:
                said = ""
        ranges = self._settled.setdefault((stream, outcome, said), [])
        if ranges and ranges[-1][1] + 1 == seq:
            ranges[-1][1] = seq
        else:
            ranges.append([seq, seq, at_ns])
        if outcome == "FAILED":
            self.failed_total += 1
        else:
            self.unknown_total += 1

    def not_offered(self, group: int, due_slice: int, count: int = 1) -> None:
        """Messages that were planned in a slice and never tried."""
        self._cell(group, due_slice).not_offered += count
        self.not_offered_total += count

    def records(self) -> list[Record]:
        """All that came since the last call, and forget it."""
        found: list[Record] = []
        open_rows = (
            ((stream, due, sent), row) for (due, sent), rows in self._rows.items() for stream, row in rows.items()
        )
        rows = sorted([*self._closed, *open_rows], key=lambda item: (item[0], item[1]))
        if rows:
            found.append(
                Published(
                    stream=[key[0] for key, _ in rows],
                    due_slice=[key[1] for key, _ in rows],
                    sent_slice=[key[2] for key, _ in rows],
                    first=[row[0] for _, row in rows],
                    last=[row[1] for _, row in rows],
                    bytes=[row[2] for _, row in rows],
                )
            )
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
        self._cells, self._rows, self._closed, self._settled = {}, {}, [], {}
        self._words = {""}
        return found

    def _cell(self, group: int, due_slice: int) -> _Cell:
        cell = self._cells.get((group, due_slice))
        if cell is None:
            cell = self._cells[group, due_slice] = _Cell()
        return cell


def _count(counts: Counter[int], times_us: Sequence[int]) -> None:
    linear = max(times_us, default=0) < LINEAR_US
    counts.update(times_us if linear else map(bucket_of_us, times_us))
