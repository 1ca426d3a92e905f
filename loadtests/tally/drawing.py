"""Which reads are looked at closely?  Each with the same chance, whoever's it is: the gaps between them are drawn.

Every n-th read would be the same consumer's again and again wherever one message goes to n, or 2n, or n/2 of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import log


def gaps(draw: random.Random, one_in: int) -> Iterator[int]:
    """How many reads it is to the next one that is looked at, again and again: geometric, `one_in` on average."""
    if one_in == 1:
        while True:
            yield 1
    scale = 1 / log(1 - 1 / one_in)
    while True:
        yield 1 + int(log(1 - draw.random()) * scale)
