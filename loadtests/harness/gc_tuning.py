"""How long does Python's collector hold up the hub?  A full collection looks at every object of Locust: 100 ms.

While a run lasts, what was there at its start is left out, and the rest is looked at rarely; reference counts free
nearly everything anyway.  The collector is the interpreter's, so runs whose lives overlap in a process share one change
of it: the first makes it, the last takes it back.
"""

from __future__ import annotations

import gc
from typing import ClassVar, Final

_RARELY: Final = (50_000, 50, 100)


class QuietHeap:
    """The collector's settings for the length of a run."""

    _quiet: ClassVar[set[QuietHeap]] = set()  # those between begin and end
    _before: ClassVar[tuple[int, int, int]]

    def begin(self) -> None:
        """Collect once, and leave out what is there, unless another run did. Safe to repeat."""
        if not QuietHeap._quiet:
            QuietHeap._before = gc.get_threshold()
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_RARELY)
        QuietHeap._quiet.add(self)

    def end(self) -> None:
        """As before the first, if no other run is left. Safe to repeat."""
        if self not in QuietHeap._quiet:
            return
        QuietHeap._quiet.remove(self)
        if not QuietHeap._quiet:
            gc.set_threshold(*QuietHeap._before)
            gc.unfreeze()
