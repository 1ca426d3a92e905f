"""Which messages are in a set?  Half-open ranges on one line of integers, where every stream has its stretch.

Place of a message: stream index x 2**32 + seq.  Sets cost what their ranges cost, never what their messages do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadtests.measure.history_tables import Bools, Ints

SHIFT = 32
NOWHERE = np.zeros(0, dtype=np.int64)
_FAR = np.int64(2**62)


@dataclass(frozen=True, slots=True, eq=False)
class StreamLine:
    """Disjoint ascending ranges; two that touch are one."""

    start: Ints
    end: Ints

    @staticmethod
    def of(start: Ints, end: Ints) -> StreamLine:
        """The union of any ranges; empty ones are dropped."""
        keep = end > start
        if not keep.all():
            start, end = start[keep], end[keep]
        if len(start) < 2:
            return StreamLine(start, end)
        if (np.diff(start) < 0).any():
            order = np.argsort(start, kind="stable")
            start, end = start[order], end[order]
        reach = np.maximum.accumulate(end)
        fresh = np.concatenate(([True], start[1:] > reach[:-1]))
        ends = np.concatenate((np.flatnonzero(fresh)[1:] - 1, [len(start) - 1]))
        return StreamLine(start[fresh], reach[ends])

    @property
    def size(self) -> int:
        """Number of members."""
        return int((self.end - self.start).sum())

    def __bool__(self) -> bool:
        return len(self.start) > 0

    def union(self, other: StreamLine) -> StreamLine:
        """Members of either."""
        if not other:
            return self
        if not self:
            return other
        return StreamLine.of(np.concatenate((self.start, other.start)), np.concatenate((self.end, other.end)))

    def cut(self, other: StreamLine) -> tuple[Ints, Ints, Ints]:
        """Common stretches as (index of the other's range, start, end), ascending."""
        low = np.searchsorted(other.end, self.start, side="right")
        high = np.searchsorted(other.start, self.end, side="left")
        count = np.maximum(high - low, 0)
        mine = np.repeat(np.arange(len(self.start)), count)
        first = np.repeat(low - (np.cumsum(count) - count), count)
        theirs = (first + np.arange(len(mine))).astype(np.int64)
        return theirs, np.maximum(self.start[mine], other.start[theirs]), np.minimum(self.end[mine], other.end[theirs])

    def both(self, other: StreamLine) -> StreamLine:
        """Members of both."""
        if not self or not other:
            return EMPTY
        _, start, end = self.cut(other)
        return StreamLine.of(start, end)

    def minus(self, other: StreamLine) -> StreamLine:
        """Members of this and not of the other."""
        if not self or not other:
            return self
        rest = StreamLine(np.concatenate(([-_FAR], other.end)), np.concatenate((other.start, [_FAR])))
        return self.both(rest)

    def key(self) -> bytes:
        """Equal for equal sets."""
        return self.start.tobytes() + b"|" + self.end.tobytes()


EMPTY = StreamLine(NOWHERE, NOWHERE)


def runs_of(marks: Bools) -> Ints:
    """Runs of set marks, as rows (first, beyond the last)."""
    edges: Ints = np.flatnonzero(np.diff(np.concatenate(([0], marks.astype(np.int64), [0])))).reshape(-1, 2)
    return edges


def beyond(lines: list[StreamLine], allowed: Ints) -> tuple[Ints, Ints, Ints]:
    """Stretches that more sets hold than are allowed on their stream: (start, end, how often too often)."""
    if len(lines) < 2:
        return NOWHERE, NOWHERE, NOWHERE
    start = np.concatenate([line.start for line in lines])
    end = np.concatenate([line.end for line in lines])
    if not len(start):
        return NOWHERE, NOWHERE, NOWHERE
    at = np.concatenate((start, end))
    step = np.concatenate((np.ones(len(start), dtype=np.int64), -np.ones(len(end), dtype=np.int64)))
    order = np.argsort(at, kind="stable")
    at, depth = at[order], np.cumsum(step[order])
    left, right, depth = at[:-1], at[1:], depth[:-1]
    used = (right > left) & (depth > 0)
    left, right, depth = left[used], right[used], depth[used]
    too_often = depth - allowed[left >> SHIFT]
    bad = too_often > 0
    return left[bad], right[bad], too_often[bad]
