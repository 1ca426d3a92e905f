"""What is to be done later?  Callbacks by time on the monotonic clock, run by the gateway's loop."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable


class Timers:
    """Callbacks in the order of their times; equal times in the order of their entry."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._entered = 0

    def at(self, at_ns: int, call: Callable[[], None]) -> None:
        """Call once, at or after a time."""
        self._entered += 1
        heapq.heappush(self._heap, (at_ns, self._entered, call))

    def after(self, wait_ns: int, call: Callable[[], None]) -> None:
        """Call once, so much later."""
        self.at(time.monotonic_ns() + wait_ns, call)

    def next_ns(self) -> int | None:
        """When the next is due; None where there is none."""
        return self._heap[0][0] if self._heap else None

    def run(self) -> None:
        """Call what is due now; what these add waits for the next run."""
        now_ns = time.monotonic_ns()
        due: list[Callable[[], None]] = []
        while self._heap and self._heap[0][0] <= now_ns:
            due.append(heapq.heappop(self._heap)[2])
        for call in due:
            call()
