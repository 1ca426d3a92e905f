"""How long may something still be waited for?  A deadline and a stop in one value."""

from __future__ import annotations

import threading
import time

from loadtests.model.ids import NS_PER_S


class Watch:
    """Ends at a time of the monotonic clock, or when another thread sets the stop, whichever comes first."""

    def __init__(self, until_ns: int, stop: threading.Event | None = None) -> None:
        self.until_ns = until_ns
        self.stop = stop if stop is not None else threading.Event()

    @classmethod
    def of_s(cls, seconds: float, stop: threading.Event | None = None) -> Watch:
        """A watch that ends so many seconds from now."""
        return cls(time.monotonic_ns() + int(seconds * NS_PER_S), stop)

    @property
    def left_s(self) -> float:
        """Seconds left; 0 when it is over."""
        return 0.0 if self.stop.is_set() else max(0.0, (self.until_ns - time.monotonic_ns()) / NS_PER_S)

    @property
    def over(self) -> bool:
        """The time is up, or it was stopped."""
        return self.left_s <= 0

    def within_s(self, seconds: float) -> Watch:
        """A watch that ends as this one, but after so many seconds at the latest."""
        return Watch(min(self.until_ns, time.monotonic_ns() + int(seconds * NS_PER_S)), self.stop)

    def wait(self, until_ns: int | None = None) -> bool:
        """Waits to its end, or to an earlier time; False when it was stopped."""
        end = self.until_ns if until_ns is None else min(until_ns, self.until_ns)
        while (left := end - time.monotonic_ns()) > 0:
            if self.stop.wait(left / NS_PER_S):
                return False
        return not self.stop.is_set()

    def pause(self, seconds: float = 0.02) -> bool:
        """Waits before another look; False when the watch is over."""
        return self.wait(time.monotonic_ns() + int(seconds * NS_PER_S)) and not self.over
