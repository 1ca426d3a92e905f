"""Where in its plan is a publisher slot?  The message that is due next, its block, and what is given up in bulk.

A plan that no process can keep must not cost what it would have cost to keep it: what is skipped is counted, not built.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from loadtests.model.ids import SLICE_NS
from loadtests.plan.workload import Block, SlotPlan

_NOTHING = Block([], [], [])


class Cursor:
    """A place in one slot's plan. Times of `block` count from T0, all others are those of the run clock."""

    __slots__ = ("_number", "at", "block", "plan", "t0_ns")

    def __init__(self, plan: SlotPlan) -> None:
        self.plan = plan
        self.t0_ns: int | None = None
        self.block = _NOTHING
        self.at = 0
        self._number = -1

    def begin(self, t0_ns: int, now_ns: int) -> None:
        """T0 is known: start there, or at `now` where that is later."""
        self.t0_ns = t0_ns
        self._go(max(0, now_ns - t0_ns))

    def head(self) -> int | None:
        """Due time of the next message; None before T0 and behind the end of the plan."""
        if self.t0_ns is None:
            return None
        while self.at >= len(self.block.due_ns):
            following = self.plan.next_block(self._number + 1) if self._number < self.plan.blocks else None
            self._number = self.plan.blocks if following is None else following
            self.block = _NOTHING if following is None else self.plan.block(following)
            self.at = 0
            if following is None:
                return None
        return self.t0_ns + self.block.due_ns[self.at]

    def skip(self, until_ns: int) -> Iterator[tuple[int, int]]:
        """Go on to the first message due at `until` or later: (due slice, how many) of those that are passed over."""
        head = self.head()
        if head is None or self.t0_ns is None or head >= until_ns:
            return
        end = min(until_ns - self.t0_ns, self.plan.span_ns)
        due, start = self.block.due_ns, head - self.t0_ns
        first = bisect_left(due, end, self.at)
        passed: dict[int, int] = {}
        at = self.at
        while at < first:
            place = (self.t0_ns + due[at]) // SLICE_NS
            stop = bisect_left(due, (place + 1) * SLICE_NS - self.t0_ns, at, first)
            passed[place] = passed.get(place, 0) + stop - at
            at = stop
        start = (self._number + 1) * self.plan.block_ns
        if first < len(due) or start >= end:
            self.at = first
        else:
            while start < end:
                place = (self.t0_ns + start) // SLICE_NS
                stop = min(end, (place + 1) * SLICE_NS - self.t0_ns)
                count = self.plan.count(start, stop)
                if count:
                    passed[place] = passed.get(place, 0) + count
                start = stop
            self._go(end)
        yield from passed.items()

    def _go(self, since_ns: int) -> None:
        self._number = since_ns // self.plan.block_ns
        self.block = self.plan.block(self._number) if self._number < self.plan.blocks else _NOTHING
        self.at = bisect_left(self.block.due_ns, since_ns)
