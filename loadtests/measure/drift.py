"""Since when is a measure on another level? Values of weeks in, change points out; the same values give the same
answer.

Binary segmentation: the split with the greatest difference of means is kept where chance rarely makes one as great (a
permutation test with a fixed seed), and both sides are searched again. Logarithms, outliers clipped. No segment
crosses a break, which is a week from which on the machine or the epoch is another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

LEAST_SIDE = 3
"""Weeks on either side of a change."""
LEAST_WEEKS = 10
"""A series shorter than this is not searched."""
SHUFFLES = 499
CHANCE = 0.01
_CLIP = 2.5 * 1.4826


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`at`: index of the first week of the new level. `ratio`: of the medians of both sides. `p`: chance of as much."""

    at: int
    ratio: float
    p: float


def changes(values: Sequence[float], *, breaks: Sequence[int] = (), seed: int = 1) -> list[Change]:
    """Change points in order of time. All values must be greater than 0."""
    logs = np.log(np.asarray(values, dtype=float))
    if len(logs) < LEAST_WEEKS:
        return []
    edges = sorted({0, len(logs), *(at for at in breaks if 0 < at < len(logs))})
    found: list[Change] = []
    for first, end in pairwise(edges):
        found += _within(logs, first, end, np.random.default_rng(seed))
    return sorted(found, key=lambda change: change.at)


def _within(logs: NDArray[np.float64], first: int, end: int, dice: np.random.Generator) -> list[Change]:
    length = end - first
    if length < 2 * LEAST_SIDE:
        return []
    middle = np.median(logs[first:end])
    reach = _CLIP * np.median(np.abs(logs[first:end] - middle)) + 1e-9
    clipped = np.clip(logs[first:end], middle - reach, middle + reach)
    splits = np.arange(LEAST_SIDE, length - LEAST_SIDE + 1)
    weights = np.sqrt(splits * (length - splits) / length)

    def contrast(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.cumsum(rows, axis=1)
        left = sums[:, splits - 1]
        found: NDArray[np.float64] = np.abs(left / splits - (sums[:, -1:] - left) / (length - splits)) * weights
        return found

    own = contrast(clipped[None])[0]
    shuffled = dice.permuted(np.tile(clipped, (SHUFFLES, 1)), axis=1)
    p = (1 + int((contrast(shuffled).max(axis=1) >= own.max() - 1e-12).sum())) / (SHUFFLES + 1)
    if p > CHANCE:
        return []
    at = first + int(splits[own.argmax()])
    ratio = float(np.exp(np.median(logs[at:end]) - np.median(logs[first:at])))
    return [*_within(logs, first, at, dice), Change(at=at, ratio=ratio, p=p), *_within(logs, at, end, dice)]
