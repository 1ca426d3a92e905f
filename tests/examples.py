"""How many random examples does a law get?  An eighth in `make test`, all in `make prove-all`."""

from __future__ import annotations

import os

ALL = "TICKSTORM_ALL_EXAMPLES"
LEAST = 5


def examples(count: int) -> int:
    """So many of `count` now."""
    return count if os.environ.get(ALL) else max(LEAST, count // 8)
