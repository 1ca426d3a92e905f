"""What time is it in the run?  CLOCK_MONOTONIC minus the run's origin; one clock for all processes of one boot.

Also tells whether two processes share that clock: same boot id and same time namespace.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path


class MonotonicClock:
    """The run clock of one process. `offset_ns` is added to this process's monotonic clock to get the master's."""

    __slots__ = ("_shift",)

    def __init__(self, origin_ns: int, offset_ns: int = 0) -> None:
        self._shift = offset_ns - origin_ns

    def now_ns(self) -> int:
        """Time of the run clock in nanoseconds."""
        return time.monotonic_ns() + self._shift

    def at_monotonic_ns(self, monotonic_ns: int) -> int:
        """A reading of this process's monotonic clock, on the run clock."""
        return monotonic_ns + self._shift


def clock_identity() -> str:
    """Equal for two processes if, and only if, they read one monotonic clock.

    Where the system tells neither boot id nor namespace, the machine's node id stands in: processes of one machine.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"node-{uuid.getnode():x}"
    try:
        namespace = os.readlink("/proc/self/ns/time")
    except OSError:
        namespace = "none"
    return f"{boot}/{namespace}"
