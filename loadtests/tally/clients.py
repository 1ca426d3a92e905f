"""How long did it take to each single consumer?  A coarse histogram of all its reads, written once a stretch of slices.

Three slow consumers of sixty-four are not seen in any percentile over all.  Eight buckets of the scale are one here: an
error of 3.2 % at most, so that a consumer costs 832 bytes of memory, and some 30 on disk for each stretch.  A stretch
lasts one second, but longer where consumers are many: about a hundred rows a second are written whatever their number.
It ends where calm may end or begin, since the judge can take it or leave it only as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.records import ClientLatency
from loadtests.tally.histogram import COARSE_BITS, COARSE_BUCKETS

_SLICES: Final = NS_PER_S // SLICE_NS
_CONSUMERS_A_SLICE: Final = 10
_ROWS_A_RECORD: Final = 512
_FULL: Final = 1 << 15
_ROWS: Final = 64
_GROWTH: Final = 8

Ints = np.ndarray[Any, np.dtype[np.int64]]


class ClientLatencies:
    """Latencies by the read clock of each consumer of this process, of the present stretch."""

    def __init__(self, index: int) -> None:
        self._counts = np.zeros((_ROWS, COARSE_BUCKETS), dtype=np.uint16)
        self._row: dict[int, int] = {}
        self._consumers: list[int] = []
        self._from = self._to = index
        self._cuts: list[int] = []  # slices with which a stretch must begin
        self._room = _FULL  # so many messages can come before a count may be too great for its place

    def row(self, consumer: int) -> int:
        """Where a consumer is counted."""
        row = self._row.get(consumer)
        if row is None:
            row = self._row[consumer] = len(self._consumers)
            self._consumers.append(consumer)
            if row == len(self._counts):
                more = np.zeros((max(_ROWS, row // _GROWTH), COARSE_BUCKETS), dtype=np.uint16)
                self._counts = np.concatenate((self._counts, more))
        return row

    def cut(self, index: int) -> None:
        """A stretch begins with this slice, unless it is over."""
        if index > self._from:
            self._cuts.append(index)

    def turn(self, index: int) -> Iterator[ClientLatency]:
        """What comes now belongs to this slice; a stretch that it does not belong to is written."""
        end = min((cut for cut in self._cuts if cut > self._from), default=index + 1)
        if index >= min(end, self._from + max(_SLICES, len(self._consumers) // _CONSUMERS_A_SLICE)):
            yield from self.records()
            self._from = index
            self._cuts = [cut for cut in self._cuts if cut > index]
        self._to = index

    def add(self, rows: Ints, buckets: Ints) -> None:
        """Count latencies: the row of each, and its bucket of the fine scale."""
        self._room -= len(rows)
        counts = self._counts.reshape(-1)
        np.add.at(counts, rows * COARSE_BUCKETS + (buckets >> COARSE_BITS), np.uint16(1))

    @property
    def full(self) -> bool:
        """Whether it must be written before more is counted."""
        if self._room <= 0:
            self._room = _FULL - int(self._counts.max())
        return self._room <= 0

    def records(self) -> Iterator[ClientLatency]:
        """All that was counted since the last time, and forget it."""
        for begin in range(0, len(self._consumers), _ROWS_A_RECORD):
            part = self._counts[begin : begin + _ROWS_A_RECORD]
            row, bucket = np.nonzero(part)
            count = part[row, bucket].tolist()
            part[:] = 0
            if count:
                who, entries = np.unique(row, return_counts=True)
                yield ClientLatency(
                    from_slice=self._from,
                    to_slice=self._to,
                    consumer=[self._consumers[begin + at] for at in who.tolist()],
                    entries=entries.tolist(),
                    bucket=bucket.tolist(),
                    count=count,
                )
        self._room = _FULL
