"""Which reads are looked at more closely?  Drawn at random: every n-th read of n clients is the same client's."""

from __future__ import annotations

import math
import random


class SampleGaps:
    """How many reads to pass until the next sample: geometric with a given mean, from a seed.

    Each read is a sample with probability 1 / mean, whatever the others were, so that no rhythm of the load can hide
    from the samples or fill them.  A mean of 1 takes every read.
    """

    def __init__(self, mean: int, seed: str) -> None:
        self._random = random.Random(seed)
        self._scale = 0.0 if mean <= 1 else 1 / math.log1p(-1 / mean)

    def draw(self) -> int:
        """Reads up to and with the next sample, 1 at least."""
        return 1 + int(math.log(1.0 - self._random.random()) * self._scale)
