"""How does the receiving side of this process fare, and what could it not take, though the target may send it?

`Readings` are connections, reads, read delay and hub lag, for the harness. `Inabilities` is trouble of ours, of single
consumers: it begins with what we could not take and lasts until the connection is over; where we ended it for that,
until the consumer is back. Told in groups, so that what happens to all is told once.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic_ns
from typing import Any, Final, Protocol

import gevent

from loadtests.tally.accountant import Sums
from loadtests.tally.histogram import middle_ms

_PERIOD_S: Final = 0.01
_PERIOD_NS: Final = 10_000_000
_KEPT: Final = 4096
_OUR_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


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


class TellTrouble(Protocol):
    """Records harness trouble of this process."""

    def __call__(self, from_ns: int, to_ns: int, what: str, consumers: Sequence[int] = (), /) -> None:
        """`to_ns` -1: to the end; no consumers: all of the process."""
        ...


def is_ours(error: OSError) -> bool:
    """Whether we lack what a connection needs: descriptors, ports, memory."""
    return error.errno in _OUR_RESOURCES


class Inabilities:
    """What the consumers of one process and run could not take."""

    def __init__(self, trouble: TellTrouble) -> None:
        self._trouble = trouble
        self._open: dict[int, tuple[int, str]] = {}
        self._over: dict[str, tuple[int, int, set[int]]] = {}

    def begin(self, consumer: int, at_ns: int, what: str) -> None:
        """From now on we do not have all that a consumer was sent; the first reason counts until it is over."""
        self._open.setdefault(consumer, (at_ns, what))

    def end(self, consumer: int, at_ns: int) -> None:
        """A connection of the consumer is over, or a new one carries."""
        begun = self._open.pop(consumer, None)
        if begun is not None:
            from_ns, what = begun
            first, last, who = self._over.get(what, (from_ns, at_ns, set()))
            self._over[what] = min(first, from_ns), max(last, at_ns), who | {consumer}

    def tell(self, *, final: bool = False) -> None:
        """Report what is over; at the end also what is not."""
        over, self._over = self._over, {}
        for what, (from_ns, to_ns, consumers) in sorted(over.items()):
            self._trouble(from_ns, to_ns, what, sorted(consumers))
        if final:
            left: dict[str, list[int]] = {}
            for consumer, (_, what) in sorted(self._open.items()):
                left.setdefault(what, []).append(consumer)
            for what, who in sorted(left.items()):
                self._trouble(min(self._open[consumer][0] for consumer in who), -1, what, who)
            self._open.clear()
