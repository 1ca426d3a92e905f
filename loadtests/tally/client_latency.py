"""How long did each single consumer's messages take?  A coarse histogram of all its reads, for each stretch of the run.

A pooled percentile hides three slow clients of sixty-four.  So every delivery is counted under its consumer as well,
by the read clock, in buckets of an eighth of an octave.  A stretch ends after five seconds, and after one between the
announcement of a fault and the end of its recovery, so that what is calm there can be told from what is not.
"""

from __future__ import annotations

from bisect import insort
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.records import ClientLatency
from loadtests.tally.histogram import BUCKETS, bounds_us

Ints = npt.NDArray[np.int64]

COARSE_BITS: Final = 4
COARSE: Final = (BUCKETS >> COARSE_BITS) + 1
STRETCH_SLICES: Final = 5 * NS_PER_S // SLICE_NS
FINE_SLICES: Final = NS_PER_S // SLICE_NS


def coarse_bounds_ms(bucket: int) -> tuple[float, float]:
    """Begin of a coarse bucket and of what is beyond it, in milliseconds."""
    last = min(((bucket + 1) << COARSE_BITS) - 1, BUCKETS - 1)
    return bounds_us(bucket << COARSE_BITS)[0] / 1000, bounds_us(last)[1] / 1000


class ClientLatencies:
    """The histograms of the present stretch of one process."""

    def __init__(self) -> None:
        self._row: Ints = np.zeros(0, dtype=np.int64)  # consumer -> row, -1: none in this stretch
        self._consumers: list[int] = []  # row -> consumer
        self._counts: npt.NDArray[np.uint32] = np.zeros((0, COARSE), dtype=np.uint32)
        self._first = self._last = -1  # slices of the present stretch
        self._changes: list[tuple[int, int]] = []  # slice, from which on so many more faults are open
        self._open = 0

    def open(self, slice_: int) -> None:
        """A fault is announced: from this slice on stretches are short."""
        insort(self._changes, (slice_, 1))

    def close(self, slice_: int) -> None:
        """The recovery of one of the faults was closed."""
        insort(self._changes, (slice_, -1))

    def begin(self, slice_: int) -> ClientLatency | None:
        """What comes next was received in this slice; the record of the stretch before it, if that is over."""
        longest = FINE_SLICES if self._open > 0 else STRETCH_SLICES
        changed = [change for change in self._changes if change[0] <= slice_]
        over = self._first >= 0 and (slice_ >= self._first + longest or bool(changed))
        record = self.take() if over else None
        self._open += sum(step for _, step in changed)
        del self._changes[: len(changed)]
        if self._first < 0:
            self._first = slice_
        self._last = max(self._last, slice_)
        return record

    def add(self, consumers: Ints, buckets: Ints) -> None:
        """Count deliveries of consumers, with their buckets of the fine scale."""
        if not len(consumers):
            return
        most = int(consumers.max())
        if most >= len(self._row):
            self._row = np.concatenate((self._row, np.full(most + 1, -1, dtype=np.int64)))
        rows = self._row[consumers]
        if rows.min() < 0:
            for consumer in np.unique(consumers[rows < 0]).tolist():
                self._row[consumer] = len(self._consumers)
                self._consumers.append(consumer)
            rows = self._row[consumers]
            if len(self._consumers) > len(self._counts):
                more = max(len(self._consumers), 2 * len(self._counts)) - len(self._counts)
                self._counts = np.concatenate((self._counts, np.zeros((more, COARSE), dtype=np.uint32)))
        np.add.at(self._counts.reshape(-1), rows * COARSE + (buckets >> COARSE_BITS), np.uint32(1))

    def take(self) -> ClientLatency | None:
        """The record of the present stretch; the next one begins empty."""
        if self._first < 0:
            return None
        order = sorted(self._consumers)
        counts = self._counts[self._row[order]] if order else self._counts[:0]
        of, bucket = np.nonzero(counts)
        record = ClientLatency(
            first_slice=self._first,
            last_slice=self._last,
            consumer=order,
            buckets=np.bincount(of, minlength=len(order)).tolist(),
            bucket=bucket.tolist(),
            count=_list(counts[of, bucket]),
        )
        self._row[:] = -1
        self._consumers = []
        self._counts[:] = 0
        self._first = self._last = -1
        return record if order else None


def _list(values: npt.NDArray[Any]) -> list[int]:
    found: list[int] = values.tolist()
    return found
