"""How does the receiving side of this process fare?  Connections, reads, read delay and hub lag, for the harness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic_ns
from typing import Any, Final

import gevent

from loadtests.tally.accountant import Sums
from loadtests.tally.histogram import middle_ms

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


_READ_DELAYS_NEEDED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivingHealth:
    """How the receiving side stands."""

    connected: int  # consumers with a confirmed subscription
    open: int  # connections, confirmed or not


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessReading:
    """How the receiving side fared since the last reading."""

    messages: int
    reads: int
    read_delay_p99_ns: int  # -1: too few stamped reads
    hub_lag_p99_ns: int
    hub_lag_max_ns: int
    connected: int
    frames: int
    checked: int


class Readings:
    """Turns sums since the start into sums since the last reading."""

    def __init__(self, sums: Sums) -> None:
        self._before = sums

    def reading(
        self, sums: Sums, read_delays: Mapping[int, int], lag: HubLag, connected: int, *, frames: int, checked: int
    ) -> HarnessReading:
        """What came between the last call's sums and these; lag and read delays reach up to now."""
        before, self._before = self._before, sums
        lag_p99, lag_max = lag.take()
        return HarnessReading(
            messages=sums.messages - before.messages,
            reads=sums.reads - before.reads,
            read_delay_p99_ns=_p99_ns(read_delays),
            hub_lag_p99_ns=lag_p99,
            hub_lag_max_ns=lag_max,
            connected=connected,
            frames=frames,
            checked=checked,
        )


def _p99_ns(counts: Mapping[int, int]) -> int:
    total = sum(counts.values())
    if total < _READ_DELAYS_NEEDED:
        return -1
    rank = -(-99 * total // 100)
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return round(middle_ms(bucket) * 1_000_000)
    return -1
