"""How far is a percentile that was read off a histogram from the truth?  Pure; the scale's own grain is no error."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log2

_LINEAR_US = 256
_STEPS = 128
"""The scale cuts every power of two of microseconds into so many equal buckets; below 256 us, a bucket is one."""


def nearest_rank(ascending: Sequence[int], q: float, further: int = 0) -> int:
    """The q-quantile of what is sorted, or what lies so many ranks further. Raises IndexError for nothing."""
    return ascending[min(max(ceil(q * len(ascending)) - 1, 0) + further, len(ascending) - 1)]


def bucket_ms(middle_ms: float) -> tuple[float, float]:
    """What a bucket holds, from its middle."""
    us = middle_ms * 1000
    half = 0.5 if us < _LINEAR_US else 2 ** floor(log2(us)) / _STEPS / 2
    return (us - half) / 1000, (us + half) / 1000


def error_ms(found_ms: float, least_ms: float, most_ms: float) -> float:
    """How far a bucket lies from a truth that lies between two values; 0 where they meet."""
    low, high = bucket_ms(found_ms)
    return max(0.0, least_ms - high, low - most_ms)
