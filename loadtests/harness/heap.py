"""How long does Python's collector hold up the hub?  A full collection looks at every object of Locust: 100 ms.

While a run lasts, what was there at its start is left out, and the rest is looked at rarely; reference counts free
nearly everything anyway.
"""

from __future__ import annotations

import gc
from typing import Final

_RARELY: Final = (50_000, 50, 100)


class QuietHeap:
    """The collector's settings for the length of a run."""

    def __init__(self) -> None:
        self._before: tuple[int, int, int] | None = None

    def begin(self) -> None:
        """Collect once, and leave out what is there. Safe to repeat."""
        if self._before is None:
            self._before = gc.get_threshold()
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_RARELY)

    def end(self) -> None:
        """As before. Safe to repeat."""
        if self._before is not None:
            gc.set_threshold(*self._before)
            gc.unfreeze()
            self._before = None
