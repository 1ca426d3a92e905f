"""What does a link do to a request right now?  One probe connection of our own, at a rate that disturbs nobody."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from loadtests.inject.dialects import DIALECTS, Load
from loadtests.inject.socketry import Connection, Cut, Seen
from loadtests.inject.watch import Watch
from loadtests.model.ids import NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """One question through the link and what came of it."""

    seen: Seen
    fresh: bool  # on a connection opened for it
    took_ns: int  # to the answer, or to whatever was seen instead; without connecting


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Bytes that a link carried, and how long it took."""

    up_bytes: int
    down_bytes: int
    took_ns: int


class Pace:
    """Turns at a link, so that all its probes together ask no more often than they may."""

    def __init__(self, every_s: float) -> None:
        self._every_ns = int(every_s * NS_PER_S)
        self._next_ns = 0
        self._lock = threading.Lock()

    def turn_ns(self) -> int:
        """Takes the next turn: its time of the monotonic clock, now or later."""
        with self._lock:
            turn_ns = max(self._next_ns, time.monotonic_ns())
            self._next_ns = turn_ns + self._every_ns
            return turn_ns


class Probe:
    """Asks through one link. Keeps its connection where the protocol allows it, so that a cut of it is seen."""

    def __init__(self, address: tuple[str, int], speaks: str, pace: Pace) -> None:
        self._address = address
        self._dialect = DIALECTS.get(speaks)
        self._pace = pace
        self._connection: Connection | None = None

    @property
    def asks(self) -> bool:
        """It speaks the protocol behind the link, so that it can measure times."""
        return self._dialect is not None

    @property
    def local_port(self) -> int | None:
        """Port of its connection at our end, while there is one."""
        return self._connection.local_port if self._connection else None

    def ping(self, watch: Watch, *, fresh: bool = False) -> Ping | None:
        """One ping, at its turn; None when the watch ended before its turn came."""
        if fresh:
            self.close()
        if not watch.wait(self._pace.turn_ns()) or watch.over:
            return None
        is_fresh, started = self._connection is None, time.monotonic_ns()
        try:
            connection = self._connected(watch)
            if self._dialect is not None:
                started = time.monotonic_ns()
                connection.ask(self._dialect.ping, self._dialect.complete, watch)
        except Cut as cut:
            self.close()
            return Ping(seen=cut.seen, fresh=is_fresh, took_ns=time.monotonic_ns() - started)
        took_ns = time.monotonic_ns() - started
        if self._dialect is None or not self._dialect.reusable:
            self.close()
        return Ping(seen="answer", fresh=is_fresh, took_ns=took_ns)

    def accepts(self, watch: Watch) -> Seen:
        """Whether a new connection is accepted; asks nothing on it."""
        try:
            Connection(self._address, watch).close()
        except Cut as cut:
            return cut.seen
        return "answer"

    def carry(self, size: int, *, down: bool, watch: Watch) -> Carried | None:
        """Sends about so many bytes, and gets many back where `down`; None where the protocol or the link denies it."""
        make = None if self._dialect is None else self._dialect.load_down if down else self._dialect.load_up
        if make is None:
            return None
        load: Load = make(size)
        try:
            connection = self._connected(watch)
            started = time.monotonic_ns()
            got = connection.ask(load.request, load.complete, watch)
        except Cut:
            self.close()
            return None
        took_ns = time.monotonic_ns() - started
        if self._dialect is None or not self._dialect.reusable:
            self.close()
        return Carried(up_bytes=len(load.request), down_bytes=len(got), took_ns=took_ns)

    def close(self) -> None:
        """Closes its connection; safe to repeat."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self, watch: Watch) -> Connection:
        if self._connection is None:
            self._connection = Connection(self._address, watch)
        return self._connection
