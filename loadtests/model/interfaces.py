"""Which small abilities are handed to the rims?  Protocols only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from loadtests.model.records import Record

Emit = Callable[[Record], None]
"""Hands one record to the recorder; never blocks, never raises."""


class RunClock(Protocol):
    """The clock of a run: nanoseconds of CLOCK_MONOTONIC minus the run's origin."""

    def now_ns(self) -> int:
        """Time of the run clock."""
        ...

    def at_monotonic_ns(self, monotonic_ns: int) -> int:
        """A reading of this process's monotonic clock, on the run clock."""
        ...
