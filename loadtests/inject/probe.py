"""What does a link do to a request right now?  One probe connection of our own, at a rate that disturbs nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtests.inject.deadline import Watch
from loadtests.inject.probe_connection import Cut, Layer, OwnPorts, Piece, ProbeConnection, Seen
from loadtests.inject.probe_protocols import DIALECTS, ProbeLoad
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
    pieces: tuple[Piece, ...] = ()  # in which the answer came


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one connection carried until it ended."""

    ended: Seen  # how; "answer" where it did not end
    answered_bytes: int  # sent, and surely arrived: their answer came
    sent_bytes: int  # sent at most
    got_bytes: int


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

    def __init__(
        self,
        address: tuple[str, int],
        speaks: str,
        pace: Pace,
        layer: Callable[[], Layer] | None = None,
        saw: Callable[[Ping], None] = lambda _: None,
        own: OwnPorts | None = None,
    ) -> None:
        """`saw` hears every ping that is returned; `own` is told of every connection."""
        self._own = own
        self._address = address
        self._dialect = DIALECTS.get(speaks)
        self._pace = pace
        self._layer = layer
        self._saw = saw
        self._connection: ProbeConnection | None = None

    @property
    def asks(self) -> bool:
        """It speaks the protocol behind the link, so that it can measure times."""
        return self._dialect is not None

    @property
    def keeps(self) -> bool:
        """A connection takes more than one question."""
        return self._dialect is not None and self._dialect.reusable

    @property
    def local_port(self) -> int | None:
        """Port of its connection at our end, while there is one."""
        return self._connection.local_port if self._connection else None

    def turn(self, watch: Watch) -> bool:
        """Waits for its turn; False when the watch ended before."""
        return watch.wait(self._pace.turn_ns()) and not watch.over

    def ping(self, watch: Watch, *, fresh: bool = False) -> Ping | None:
        """One ping, at its turn; None when the watch ended before its turn came, or was stopped before the answer."""
        if fresh:
            self.close()
        if not self.turn(watch):
            return None
        ping = self._pinged(watch)
        if ping is not None:
            self._saw(ping)
        return ping

    def _pinged(self, watch: Watch) -> Ping | None:
        is_fresh, started = self._connection is None, time.monotonic_ns()
        try:
            connection = self._connected(watch)
            if self._dialect is not None:
                started = time.monotonic_ns()
                connection.ask(self._dialect.ping, self._dialect.complete, watch)
        except Cut as cut:
            self.close()
            if watch.stop.is_set() and cut.seen != "silent":
                return None  # it may have been the lifting that it saw
            return Ping(seen=cut.seen, fresh=is_fresh, took_ns=time.monotonic_ns() - started)
        took_ns = time.monotonic_ns() - started
        if self._dialect is None or not self._dialect.reusable:
            self.close()
        return None if watch.stop.is_set() else Ping(seen="answer", fresh=is_fresh, took_ns=took_ns)

    def accepts(self, watch: Watch) -> Seen:
        """Whether a new connection is accepted; asks nothing on it."""
        try:
            ProbeConnection(self._address, watch, own=self._own).close()
        except Cut as cut:
            return cut.seen
        return "answer"

    def carry(self, size: int, *, down: bool, watch: Watch) -> Carried | None:
        """Sends about so many bytes, and gets many back where `down`; None where the protocol or the link denies it."""
        make = None if self._dialect is None else self._dialect.load_down if down else self._dialect.load_up
        if make is None:
            return None
        load: ProbeLoad = make(size)
        try:
            connection = self._connected(watch)
            started, sent, got = time.monotonic_ns(), connection.sent_bytes, connection.got_bytes
            connection.ask(load.request, load.complete, watch)
        except Cut:
            self.close()
            return None
        took_ns = time.monotonic_ns() - started
        carried = Carried(
            up_bytes=connection.sent_bytes - sent,
            down_bytes=connection.got_bytes - got,
            took_ns=took_ns,
            pieces=tuple(connection.pieces),
        )
        if self._dialect is None or not self._dialect.reusable:
            self.close()
        return carried

    def spend(self, step: int, *, down: bool, most: int, watch: Watch) -> Spent | None:
        """Asks on a connection of its own, about `step` bytes at a time, until it ends or `most` bytes have passed.

        None where the protocol allows no such load.
        """
        dialect = self._dialect
        make = None if dialect is None else (dialect.fetch or dialect.load_down) if down else dialect.load_up
        if dialect is None or make is None:
            return None
        load, answered = make(step), 0
        ended: Seen = "answer"
        connection: ProbeConnection | None = None
        try:
            connection = self._opened(watch)
            while (connection.got_bytes if down else answered) <= most:
                connection.ask(load.request, load.complete, watch)
                answered = connection.sent_bytes
                if not dialect.reusable:
                    break
        except Cut as cut:
            ended = cut.seen
        finally:
            if connection is not None:
                connection.close()
        if connection is None:
            return Spent(ended=ended, answered_bytes=0, sent_bytes=0, got_bytes=0)
        return Spent(
            ended=ended, answered_bytes=answered, sent_bytes=connection.sent_bytes, got_bytes=connection.got_bytes
        )

    def ask(self, question: tuple[bytes, Callable[[bytes], bool]], watch: Watch) -> bytes | None:
        """The answer to a question on a connection of its own; None where there was none."""
        connection: ProbeConnection | None = None
        try:
            connection = self._opened(watch)
            return connection.ask(*question, watch)
        except Cut:
            return None
        finally:
            if connection is not None:
                connection.close()

    def close_takes_ns(self, watch: Watch) -> tuple[Seen, int]:
        """Opens a connection, closes our half and waits for the other: what was seen, and how long it took."""
        started = time.monotonic_ns()
        try:
            connection = ProbeConnection(self._address, watch, own=self._own)
        except Cut as cut:
            return cut.seen, time.monotonic_ns() - started
        started = time.monotonic_ns()
        try:
            return "closed", connection.close_takes_ns(watch)
        except Cut as cut:
            return cut.seen, time.monotonic_ns() - started
        finally:
            connection.close()

    def close(self) -> None:
        """Closes its connection; safe to repeat."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self, watch: Watch) -> ProbeConnection:
        if self._connection is None:
            self._connection = self._opened(watch)
        return self._connection

    def _opened(self, watch: Watch) -> ProbeConnection:
        return ProbeConnection(self._address, watch, None if self._layer is None else self._layer(), self._own)
