"""How are durations counted?  One log-linear scale: 1 us to 71 min, relative error at most 0.4 %, mergeable.

Bucket b < 256 holds b microseconds.  Above, every power of two is cut into 128 equal buckets (HdrHistogram's idea).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from loadtests.model.records import Sparse

Times = np.ndarray[Any, np.dtype[np.int64]]
"""Many times or durations; the unit stands with each."""

_SUB_BITS = 7
_SUB = 1 << _SUB_BITS
LINEAR_US = _SUB << 1
"""A shorter duration is its own bucket."""
MAX_US = (1 << 32) - 1
"""Longer durations (above 71 minutes) are counted in the last bucket."""


def bucket_of_us(us: int) -> int:
    """Bucket of a duration in whole microseconds, which must not be negative."""
    if us < LINEAR_US:
        return us
    if us > MAX_US:
        us = MAX_US
    shift = us.bit_length() - _SUB_BITS - 1
    return (shift << _SUB_BITS) + (us >> shift)


def buckets_of_us(us: Times) -> Times:
    """Buckets of many durations in whole microseconds, none of them negative."""
    us = np.minimum(us, MAX_US)
    # The exponent of a double is the bit length of an integer below 2**53.
    shift = np.maximum(np.frexp(us.astype(np.float64))[1].astype(np.int64) - _SUB_BITS - 1, 0)
    found: Times = (shift << _SUB_BITS) + (us >> shift)
    return found


def bucket_of(ns: int) -> int:
    """Bucket of a duration in nanoseconds, which must not be negative."""
    return bucket_of_us(ns // 1000)


def bounds_us(bucket: int) -> tuple[int, int]:
    """First microsecond of a bucket, and the first that is beyond it."""
    if bucket < LINEAR_US:
        return bucket, bucket + 1
    shift = (bucket >> _SUB_BITS) - 1
    low = ((bucket & (_SUB - 1)) + _SUB) << shift
    return low, low + (1 << shift)


BUCKETS = bucket_of_us(MAX_US) + 1


def middle_ms(bucket: int) -> float:
    """What a bucket stands for, in milliseconds."""
    low, high = bounds_us(bucket)
    return (low + high) / 2 / 1000


class Histogram:
    """A fold of durations; equal contents are equal whatever the order in which they came."""

    __slots__ = ("counts",)

    def __init__(self, sparse: Sparse = ([], [])) -> None:
        self.counts: dict[int, int] = dict(zip(*sparse, strict=True))

    def add(self, ns: int, times: int = 1) -> None:
        """Count one duration. Raises ValueError for a negative one: the caller counts those apart."""
        if ns < 0:
            raise ValueError("a negative duration is no sample")
        bucket = bucket_of(ns)
        self.counts[bucket] = self.counts.get(bucket, 0) + times

    def merge(self, sparse: Sparse) -> None:
        """Add a stored histogram."""
        counts = self.counts
        for bucket, count in zip(*sparse, strict=True):
            counts[bucket] = counts.get(bucket, 0) + count

    def merge_all(self, others: Iterable[Histogram]) -> Histogram:
        """Add others; returns itself."""
        for other in others:
            self.merge((list(other.counts), list(other.counts.values())))
        return self

    @property
    def count(self) -> int:
        """Number of samples."""
        return sum(self.counts.values())

    def sparse(self) -> Sparse:
        """As the records store it: ascending buckets and their counts."""
        ordered = sorted(self.counts.items())
        return [b for b, _ in ordered], [c for _, c in ordered]

    def quantile_ms(self, q: float) -> float | None:
        """Nearest rank in milliseconds; None while fewer than ten samples lie beyond it."""
        total = self.count
        rank = -int(-q * total // 1)
        if total - rank < 10:
            return None
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return middle_ms(bucket)
        return None

    def max_ms(self) -> float | None:
        """Greatest sample's bucket in milliseconds; None without a sample."""
        return middle_ms(max(self.counts)) if self.counts else None
