"""Which numbers of one stream are missing so far?  Sorted ranges, 16 bytes each."""

from __future__ import annotations

from array import array
from bisect import bisect_right


class Gaps:
    """Inclusive, disjoint ranges of missing `seq`; `missing` also counts the ranges that were not kept."""

    __slots__ = ("_first", "_last", "missing")

    def __init__(self) -> None:
        self._first = array("q")
        self._last = array("q")
        self.missing = 0

    def __len__(self) -> int:
        return len(self._first)

    def open(self, first: int, last: int) -> None:
        """Keep a range that overlaps none of the kept ones."""
        place = bisect_right(self._first, first) if self._first and self._first[-1] > first else len(self._first)
        self._first.insert(place, first)
        self._last.insert(place, last)
        self.missing += last - first + 1

    def forget(self, first: int, last: int) -> None:
        """Count a range without keeping it: nothing of it can be filled any more."""
        self.missing += last - first + 1

    def fill(self, seq: int) -> bool:
        """Take one number out; False where it is in no kept range."""
        place = bisect_right(self._first, seq) - 1
        if place < 0 or seq > self._last[place]:
            return False
        first, last = self._first[place], self._last[place]
        if first == last:
            del self._first[place]
            del self._last[place]
        elif seq == first:
            self._first[place] = seq + 1
        elif seq == last:
            self._last[place] = seq - 1
        else:
            self._last[place] = seq - 1
            self._first.insert(place + 1, seq + 1)
            self._last.insert(place + 1, last)
        self.missing -= 1
        return True

    def ranges(self) -> list[tuple[int, int]]:
        """The kept ranges, ascending."""
        return list(zip(self._first, self._last, strict=True))
