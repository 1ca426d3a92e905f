"""How does one consumer play a fault?  Reads slowly or not at all, vanishes, stays away, storms, shows bad tokens.

It decides; `consumer` connects and waits, and the receiver's source reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import gevent
from gevent.event import Event

from loadtests.drive.consume.kernel_socket import Gauge, close_with_reset, gauge
from loadtests.drive.user_faults import READING, Key, PlayedFault, UserFaultReading
from loadtests.model.profile.faults import CONSUMERS

if TYPE_CHECKING:
    from loadtests.drive.consume.connection import Connection
    from loadtests.drive.run_context import RunContext

VANISH_AGAIN_S: Final = 1.0
STORM_PAUSE_S: Final = 0.02
"""In a storm a consumer does not wait before its first attempt, and only so long after a failed one."""


class ConsumerFault:
    """The faults that one consumer slot plays. Nothing here waits but `wait_turn`."""

    __slots__ = (
        "_connection",
        "_context",
        "_own_pace",
        "_plays",
        "_presented",
        "_since",
        "_slot",
        "_stirred",
        "go",
    )  # fmt: skip

    def __init__(self, context: RunContext, slot: int, read_bytes_per_s: int | None) -> None:
        self._context, self._slot, self._own_pace = context, slot, read_bytes_per_s
        self._plays: dict[str, PlayedFault] = {}
        self._connection: Connection | None = None  # the one whose subscription was confirmed last
        self._since: dict[str, tuple[Connection, Gauge, int]] = {}
        self._presented: PlayedFault | None = None  # the fault whose bad token was presented last
        self._stirred = Event()
        self.go = Event()
        """It shall leave in good order."""

    @property
    def key(self) -> Key:
        """Its place and slot."""
        return CONSUMERS, self._slot

    # -- called by UserFaults

    def begin(self, play: PlayedFault) -> None:
        """Play it from now on."""
        self._plays[play.order.fault] = play
        self._act(play)

    def finish(self, play: PlayedFault) -> None:
        """Play it no more."""
        if self._plays.pop(play.order.fault, None) is None:
            return
        self._since.pop(play.order.fault, None)
        connection, kind = self._open, play.order.kind
        if kind == "half-open-consumers" and connection is not None:
            self._drop(connection, play, goodbye=False)
        elif kind in READING and connection is not None:
            self._read(connection)
        if not self._kept_away:
            self.go.clear()
        self._stirred.set()

    def in_force(self, play: PlayedFault) -> bool:
        """Whether it is with this consumer as the fault asks."""
        if play.order.fault not in self._plays:
            return False
        connection, source = self._open, self._context.receiver.source
        match play.order.kind:
            case "slow-consumers":
                return connection is not None and connection.read_bytes_per_s == self._pace
            case "stalled-consumers" | "half-open-consumers":
                return connection is not None and source.holds(connection)
            case "offline-consumers" | "bad-token":
                return connection is None
        return self._slot in play.once.get("closed", ())

    def reading(self, play: PlayedFault) -> UserFaultReading | None:
        """How the connection was read since it is held or slow."""
        began = self._since.get(play.order.fault)
        connection = self._open
        if began is None or connection is not began[0]:
            return None
        now = gauge(connection.sock)
        if now is None:
            return None
        return UserFaultReading(now.unread, now.read - began[1].read, time.monotonic_ns() - began[2])

    # -- called by Consuming

    def present(self) -> str | None:
        """The token for the connection that is about to be made; None: none."""
        tokens = self._context.tokens
        self._presented = bad = self._playing("bad-token")
        if tokens is None:
            return None
        return tokens.good(self._slot) if bad is None else tokens.bad(self._slot, str(bad.order.asked["token"]))

    def refused(self) -> None:
        """The target refused it, for want of a good token."""
        if self._presented is not None:
            self._presented.count("refused", self._slot)

    def arrived(self, connection: Connection) -> None:
        """Its subscription is confirmed."""
        self._connection = connection
        for play in list(self._plays.values()):
            if self._slot in play.once.get("closed", ()):
                play.count("back", self._slot)
            if play.order.kind == "vanishing-consumers" and self._slot in play.once.get("closed", ()):
                gevent.spawn_later(VANISH_AGAIN_S, self._vanish, play, connection)
            elif play.order.kind == "bad-token":
                if play is self._presented:
                    play.count("accepted", self._slot)
                self._act(play)
            elif play.order.kind != "reconnect-storm":
                self._act(play)

    @property
    def why_go(self) -> str:
        """The fault that wants it away; empty where none does any more."""
        play = self._playing("offline-consumers")
        return "" if play is None else play.order.fault

    def wait_turn(self, attempt: int, delay_s: Callable[[int], float]) -> int:
        """Wait before the n-th attempt in a row (from 0), or until the run is over; the next attempt's number."""
        over, stirred = self._context.over, self._stirred
        while not over.is_set():
            stirred.clear()
            if self._kept_away:
                attempt = 0
                gevent.wait([over, stirred], count=1)
                continue
            seconds = delay_s(attempt)
            if self._playing("reconnect-storm") is not None:
                seconds = STORM_PAUSE_S if attempt else 0.0
            gevent.wait([over, stirred], timeout=seconds, count=1)
            if not stirred.is_set():
                return attempt + 1
            attempt = 0
        return attempt

    # -- acting

    @property
    def _open(self) -> Connection | None:
        connection = self._connection
        return connection if connection is not None and connection.end is None else None

    @property
    def _kept_away(self) -> bool:
        return self._playing("offline-consumers") is not None

    @property
    def _pace(self) -> int | None:
        asked = [
            int(play.order.asked["read_bytes_per_s"])
            for play in self._plays.values()
            if play.order.kind == "slow-consumers"
        ]
        return min(asked, default=None) if self._own_pace is None else min([*asked, self._own_pace])

    def _playing(self, kind: str) -> PlayedFault | None:
        return next((play for play in self._plays.values() if play.order.kind == kind), None)

    def _act(self, play: PlayedFault) -> None:
        connection, kind = self._open, play.order.kind
        if kind == "offline-consumers":
            self.go.set()
        elif kind == "reconnect-storm":
            self._stirred.set()  # a wait by the reconnect policy ends
        if connection is None:
            return
        if kind in READING:
            self._measure_from(connection, play)
            self._read(connection)
        elif kind == "vanishing-consumers":
            self._vanish(play, connection)
        elif kind in ("reconnect-storm", "bad-token"):
            self._drop(connection, play, goodbye=True)

    def _measure_from(self, connection: Connection, play: PlayedFault) -> None:
        now = gauge(connection.sock)
        if now is not None:
            self._since[play.order.fault] = (connection, now, time.monotonic_ns())

    def _read(self, connection: Connection) -> None:
        """Have the connection read as all faults together ask."""
        source = self._context.receiver.source
        source.pace(connection, self._pace)
        silent = self._playing("stalled-consumers") or self._playing("half-open-consumers")
        if silent is None:
            source.release(connection)
        else:
            source.hold(connection)

    def _vanish(self, play: PlayedFault, connection: Connection) -> None:
        if play.order.fault in self._plays and connection.end is None:
            close_with_reset(connection.sock)
            self._drop(connection, play, goodbye=False)

    def _drop(self, connection: Connection, play: PlayedFault, *, goodbye: bool) -> None:
        receiver = self._context.receiver
        if goodbye:
            receiver.say_goodbye(connection)
        receiver.end(connection, self._context.clock.now_ns(), "fault", play.order.fault)
        play.count("closed", self._slot)
