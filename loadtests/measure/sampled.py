"""Do the sampled reads say what all reads say?  Both by the read clock, so that nothing but the choice can differ.

Every read is sampled with the same chance, whatever the others are like: how alike the reads themselves are, those of
one fan-out say, is part of what is drawn from and widens nothing.  Only the messages of one read come together.  So n
sampled messages are worth (sum of m)^2 / (sum of m^2) independent ones, m being those of each read (Kish, Survey
Sampling, 1965).  Of a random sample, k or more of n lie within a part p < k/n of the whole with a probability of at
most exp(-n D(k/n || p)), D being the relative entropy, also when drawn without putting back (Hoeffding 1963, theorems 1
and 4).  So where a sampled quantile lies in the whole is known, for any distribution and any n.
"""

from __future__ import annotations

from math import log
from typing import Final

import numpy as np
import numpy.typing as npt

QUANTILES: Final = (0.5, 0.9, 0.95, 0.99, 0.999)
CHANCE: Final = 1e-4
"""How often a random sample may be called a contradiction: for each quantile and side."""

_Ints = npt.NDArray[np.int64]


def contradiction(sampled: _Ints, whole: _Ints, size: float) -> float | None:
    """The first quantile at which a sample of so many independent messages contradicts the whole; None: at none.

    Both are histograms of the same buckets; what was sampled is part of the whole.
    """
    if not size or not sampled.any() or not whole.any():
        return None
    below = np.cumsum(whole) / whole.sum()
    parts = np.cumsum(sampled)
    for q in QUANTILES:
        rank = -int(-q * size // 1)
        bucket = int(np.searchsorted(parts, q * parts[-1]))
        up_to, before = float(below[bucket]), float(below[bucket - 1]) if bucket else 0.0
        too_low = _beyond(size, rank / size, up_to)
        too_high = _beyond(size, 1 - (rank - 1) / size, 1 - before)
        if too_low or too_high:
            return q
    return None


def _beyond(size: float, share: float, chance: float) -> bool:
    """Whether a sample has surely not by chance so great a share of what each has with a smaller chance."""
    share = min(share, 1.0)
    if share <= chance:
        return False
    if chance <= 0:
        return True
    found = share * log(share / chance)
    if share < 1:
        found += (1 - share) * log((1 - share) / (1 - chance))
    return size * found > -log(CHANCE)
