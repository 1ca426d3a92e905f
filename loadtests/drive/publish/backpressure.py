"""Whose delay is it?  Splits due -> sent into own lag and the time blocked by backpressure of link or target.

Theory of operation.  A publisher is blocked while it has no connection, the kernel's buffer is full, or too many
commands have no answer.  `block` opens a stretch.  After `release` the overdue messages still have to go out; that
stays the block's doing for as long again as it lasted (the allowance), and is own lag beyond, so that a process that
cannot keep up does not hide behind its blocks.  A block within the allowance goes on with the stretch; `caught_up` ends
it.

Example: blocked from 10 to 11 s; the allowance ends at 12 s.

    due 10.0, sent 11.0     blocked 1.0 s
    due 10.5, sent 12.0     blocked 1.5 s
    due 10.0, sent 13.0     blocked 2.0 s, own lag 1.0 s: beyond the allowance
    due  9.0, sent 11.0     blocked 1.0 s, own lag 1.0 s: late before the block

Invariants:
- Blocked and own lag sum to the delay, and neither is negative.
- What is blocked lies between the stretch's beginning and the end of its allowance.
"""

from __future__ import annotations

import numpy as np

from loadtests.tally.histogram import Times


class Backpressure:
    """The open stretch of blocked time of one publisher; times are ns of the run clock."""

    __slots__ = ("_began", "_blocked", "_from", "_until")

    def __init__(self) -> None:
        self._from: int | None = None
        self._until: int | None = None  # end of the allowance; None while blocked
        self._began = 0
        self._blocked = 0

    @property
    def open(self) -> bool:
        """Whether a message may owe some of its delay to a block."""
        return self._from is not None

    def block(self, now_ns: int) -> None:
        """Pushed back from now on; safe to repeat."""
        if self._from is None or (self._until is not None and now_ns > self._until):
            self._from, self._blocked = now_ns, 0
        elif self._until is None:
            return
        self._began, self._until = now_ns, None

    def release(self, now_ns: int) -> None:
        """Sending is possible again; safe to repeat."""
        if self._from is not None and self._until is None:
            self._blocked += now_ns - self._began
            self._until = now_ns + self._blocked

    def caught_up(self) -> None:
        """Nothing is overdue: whatever is late from here on has a new reason."""
        self._from = self._until = None

    def own_before(self, now_ns: int, limit_ns: int) -> int:
        """What was due before this moment has by now more than so much own lag, whatever it owes to a block."""
        if self._from is None:
            return now_ns - limit_ns
        end = now_ns if self._until is None else min(now_ns, self._until)
        if now_ns - end > limit_ns:
            return now_ns - limit_ns
        return min(self._from, now_ns - limit_ns - (end - self._from))

    def of(self, due_ns: int, now_ns: int) -> int:
        """Blocked part of due -> now; the rest is own lag."""
        if self._from is None:
            return 0
        end = now_ns if self._until is None else min(now_ns, self._until)
        return max(0, end - max(due_ns, self._from))

    def of_each(self, due_ns: Times, now_ns: int) -> Times | None:
        """`of` many at once; None: nothing is blocked of any."""
        if self._from is None:
            return None
        end = now_ns if self._until is None else min(now_ns, self._until)
        blocked: Times = np.maximum(end - np.maximum(due_ns, self._from), 0)
        return blocked
