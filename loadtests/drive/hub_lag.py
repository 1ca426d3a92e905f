"""How late does gevent's hub come to its work?  A timer of its own; the longer it waits, the busier the process."""

from __future__ import annotations

from time import monotonic_ns
from typing import Any, Final

import gevent

_PERIOD_S: Final = 0.01
_PERIOD_NS: Final = 10_000_000
_KEPT: Final = 4096


class HubLag:
    """Lateness of a 10 ms timer since it was last asked for."""

    def __init__(self) -> None:
        self._late: list[int] = []
        self._last = monotonic_ns()
        self._timer: Any = gevent.get_hub().loop.timer(_PERIOD_S, _PERIOD_S)
        self._timer.start(self._tick)

    def _tick(self) -> None:
        now = monotonic_ns()
        if len(self._late) < _KEPT:
            self._late.append(max(0, now - self._last - _PERIOD_NS))
        self._last = now

    def take(self) -> tuple[int, int]:
        """99th percentile and maximum, in nanoseconds, since the last call; a wait that still lasts counts."""
        late, self._late = sorted([*self._late, max(0, monotonic_ns() - self._last - _PERIOD_NS)]), []
        return late[max(0, -(-99 * len(late) // 100) - 1)], late[-1]

    def close(self) -> None:
        """Stop the timer."""
        self._timer.stop()
        self._timer.close()
