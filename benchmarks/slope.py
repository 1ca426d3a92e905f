"""Does a series of memory readings grow?  Theil-Sen over block medians after the warm-up.  Touches no clock or file."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

BLOCKS = 12


def slope_per_hour(readings: Sequence[tuple[float, float]]) -> tuple[float, float, float] | None:
    """Slope with its 95 % interval (Sen), per hour, of (seconds, value); None for fewer than four readings a block.

    The first quarter is the warm-up and does not count.
    """
    counted = sorted(readings)[len(readings) // 4 :]
    if len(counted) < 4 * BLOCKS:
        return None
    edges = [round(i * len(counted) / BLOCKS) for i in range(BLOCKS + 1)]
    points = [
        (statistics.mean(t for t, _ in counted[a:b]), statistics.median(v for _, v in counted[a:b]))
        for a, b in itertools.pairwise(edges)
    ]
    slopes = sorted((v2 - v1) / (t2 - t1) * 3600 for (t1, v1), (t2, v2) in itertools.combinations(points, 2))
    spread = 1.96 * math.sqrt(BLOCKS * (BLOCKS - 1) * (2 * BLOCKS + 5) / 18)
    low = max(0, math.floor((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))
    return statistics.median(slopes), slopes[low], slopes[high]
