"""How long did each single consumer's messages take?  A coarse histogram of all its reads, for each stretch of the run.

A pooled percentile hides three slow clients of sixty-four.  So every delivery is counted under its consumer as well,
by the read clock, in buckets of an eighth of an octave.  A stretch is judged or left out as a whole: it ends after a
second, and where calm may end or begin: with the warm-up, and where a fault is announced or its recovery closed.  Where
consumers are many it is longer, so that about a hundred of them are written a second, whatever their number.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.records import ClientLatency
from loadtests.tally.histogram import BUCKETS, bounds_us

Ints = npt.NDArray[np.int64]

COARSE_BITS: Final = 4
COARSE: Final = (BUCKETS >> COARSE_BITS) + 1
STRETCH_SLICES: Final = NS_PER_S // SLICE_NS
_CONSUMERS_A_SLICE: Final = 10
_CONSUMERS_A_RECORD: Final = 1000
"""A record of more may be longer than a frame."""
_ROWS: Final = 64


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
        self._cuts: list[int] = []  # slices with which a stretch must begin

    def cut(self, slice_: int) -> None:
        """A stretch begins with this slice."""
        self._cuts.append(slice_)

    def begin(self, slice_: int) -> list[ClientLatency]:
        """What comes next was received in this slice; the records of the stretch before it, if that is over."""
        longest = max(STRETCH_SLICES, len(self._consumers) // _CONSUMERS_A_SLICE)
        cut = any(self._first < at <= slice_ for at in self._cuts)
        over = self._first >= 0 and (cut or slice_ >= self._first + longest)
        records = self.take() if over else []
        self._cuts = [at for at in self._cuts if at > slice_]
        if self._first < 0:
            self._first = slice_
        self._last = max(self._last, slice_)
        return records

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
                more = len(self._consumers) - len(self._counts) + _ROWS + len(self._counts) // 8
                self._counts = np.concatenate((self._counts, np.zeros((more, COARSE), dtype=np.uint32)))
        np.add.at(self._counts.reshape(-1), rows * COARSE + (buckets >> COARSE_BITS), np.uint32(1))

    def take(self) -> list[ClientLatency]:
        """The records of the present stretch; the next one begins empty."""
        order = sorted(self._consumers)
        records = [
            self._record(order[at : at + _CONSUMERS_A_RECORD]) for at in range(0, len(order), _CONSUMERS_A_RECORD)
        ]
        self._row[:] = -1
        self._counts[: len(order)] = 0
        self._consumers = []
        self._first = self._last = -1
        return records

    def _record(self, consumers: list[int]) -> ClientLatency:
        counts = self._counts[self._row[consumers]]
        of, bucket = np.nonzero(counts)
        return ClientLatency(
            first_slice=self._first,
            last_slice=self._last,
            consumer=consumers,
            buckets=np.bincount(of, minlength=len(consumers)).tolist(),
            bucket=bucket.tolist(),
            count=_list(counts[of, bucket]),
        )


def _list(values: npt.NDArray[Any]) -> list[int]:
    found: list[int] = values.tolist()
    return found
