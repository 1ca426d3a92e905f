"""Which faults does one consumer play, and what do they change in how it connects, waits and is read?

It decides; `consumer` connects and waits, and the receiver's source reads. A kind is a `ConsumerFault`, here or in an
extension: it reads slowly or not at all, vanishes, stays away, storms, shows bad tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent.event import Event

from loadtests.drive.consume.kernel_socket import Gauge, close_with_reset, gauge
from loadtests.drive.user_faults import FaultPlayer, PlayedFault, UserFault, UserFaultReading
from loadtests.model.profile.faults import CONSUMERS

if TYPE_CHECKING:
    from loadtests.drive.consume.connection import Connection
    from loadtests.drive.consume.handshake import Tokens
    from loadtests.drive.run_context import RunContext


class ConsumerFault(UserFault):
    """One fault as one consumer plays it. The base changes nothing; a kind overrides what it changes."""

    user: ConsumerFaults

    keeps_away = False
    """It leaves in good order, and does not connect while this lasts."""
    silences = False
    """Nothing that comes is read."""
    presents = False
    """`token` is shown in place of the good one."""

    def begin(self) -> None:
        """Do it from now on, to the connection that is open."""
        if (connection := self.user.connection) is not None:
            self.act(connection)

    def act(self, connection: Connection) -> None:
        """Do it to a connection with a confirmed subscription."""

    def arrived(self, connection: Connection) -> None:
        """A subscription was confirmed while this lasts."""
        self.act(connection)

    def refused(self) -> None:
        """The target refused the token that this presented."""

    @property
    def read_bytes_per_s(self) -> int | None:
        """It may be read no faster; None: as fast as it comes."""
        return None

    def token(self, tokens: Tokens) -> str | None:
        """What is shown where `presents`; None: none."""
        return None

    def pause_s(self, attempt: int, planned_s: float) -> float:
        """The wait before the n-th attempt in a row (from 0), which the reconnect policy has as `planned_s`."""
        return planned_s


class ConsumerFaults(FaultPlayer[ConsumerFault]):
    """The faults that one consumer slot plays. Nothing here waits but `wait_turn`."""

    __slots__ = ("_last", "_own_pace", "_stirred", "context", "go", "presented", "slot")

    def __init__(self, context: RunContext, slot: int, read_bytes_per_s: int | None) -> None:
        super().__init__((CONSUMERS, slot))
        self.context, self.slot, self._own_pace = context, slot, read_bytes_per_s
        self._last: Connection | None = None  # the one whose subscription was confirmed last
        self.presented: ConsumerFault | None = None
        """Whose token was presented last; None: the good one was."""
        self._stirred = Event()
        self.go = Event()
        """It shall leave in good order."""

    # -- called by UserFaults

    def begin(self, play: PlayedFault) -> None:
        """Play it from now on."""
        super().begin(play)
        self._look_who_is_away()

    def finish(self, play: PlayedFault) -> None:
        """Play it no more."""
        super().finish(play)
        self._look_who_is_away()
        self.stir()

    # -- called by Consuming

    def present(self) -> str | None:
        """The token for the connection that is about to be made; None: none."""
        tokens = self.context.tokens
        self.presented = instead = next((fault for fault in self.faults.values() if fault.presents), None)
        if tokens is None:
            return None
        return tokens.good(self.slot) if instead is None else instead.token(tokens)

    def refused(self) -> None:
        """The target refused it, for want of a good token."""
        if self.presented is not None:
            self.presented.refused()

    def arrived(self, connection: Connection) -> None:
        """Its subscription is confirmed."""
        self._last = connection
        for fault in list(self.faults.values()):
            if self.was_closed_by(fault):
                fault.play.count("back", self.slot)
            fault.arrived(connection)

    @property
    def why_go(self) -> str:
        """The fault that wants it away; empty where none does any more."""
        return next((name for name, fault in self.faults.items() if fault.keeps_away), "")

    def wait_turn(self, attempt: int, delay_s: Callable[[int], float]) -> int:
        """Wait before the n-th attempt in a row (from 0), or until the run is over; the next attempt's number."""
        over, stirred = self.context.over, self._stirred
        while not over.is_set():
            stirred.clear()
            if self.why_go:
                attempt = 0
                gevent.wait([over, stirred], count=1)
                continue
            seconds = delay_s(attempt)
            for fault in self.faults.values():
                seconds = fault.pause_s(attempt, seconds)
            gevent.wait([over, stirred], timeout=seconds, count=1)
            if not stirred.is_set():
                return attempt + 1
            attempt = 0
        return attempt

    # -- called by what a kind does

    @property
    def connection(self) -> Connection | None:
        """The open one whose subscription is confirmed."""
        connection = self._last
        return connection if connection is not None and connection.end is None else None

    @property
    def read_bytes_per_s(self) -> int | None:
        """As fast as all faults together, and its own group, allow; None: as fast as it comes."""
        paces = [self._own_pace, *(fault.read_bytes_per_s for fault in self.faults.values())]
        return min((pace for pace in paces if pace is not None), default=None)

    def read(self, connection: Connection) -> None:
        """Have the connection read as all faults together ask."""
        source = self.context.receiver.source
        source.pace(connection, self.read_bytes_per_s)
        if any(fault.silences for fault in self.faults.values()):
            source.hold(connection)
        else:
            source.release(connection)

    def drop(self, connection: Connection, fault: ConsumerFault, *, goodbye: bool) -> None:
        """Close it, and count that."""
        receiver = self.context.receiver
        if goodbye:
            receiver.say_goodbye(connection)
        receiver.end(connection, self.context.clock.now_ns(), "fault", fault.play.order.fault)
        fault.play.count("closed", self.slot)

    def was_closed_by(self, fault: ConsumerFault) -> bool:
        """Whether a fault has closed a connection of this consumer."""
        return self.slot in fault.play.once.get("closed", ())

    def stir(self) -> None:
        """A wait before the next attempt ends."""
        self._stirred.set()

    def _look_who_is_away(self) -> None:
        if self.why_go:
            self.go.set()
        else:
            self.go.clear()


VANISH_AGAIN_S: Final = 1.0
STORM_PAUSE_S: Final = 0.02
"""In a storm a consumer does not wait before its first attempt, and only so long after a failed one."""


class _Read(ConsumerFault):
    """Changes how the connection is read; the kernel's counts since then prove it."""

    _since: tuple[Connection, Gauge, int] | None = None

    def act(self, connection: Connection) -> None:
        now = gauge(connection.sock)
        if now is not None:
            self._since = connection, now, time.monotonic_ns()
        self.user.read(connection)

    def finish(self) -> None:
        if (connection := self.user.connection) is not None:
            self.user.read(connection)

    @property
    def reading(self) -> UserFaultReading | None:
        began, connection = self._since, self.user.connection
        if began is None or connection is not began[0]:
            return None
        now = gauge(connection.sock)
        if now is None:
            return None
        return UserFaultReading(now.unread, now.read - began[1].read, time.monotonic_ns() - began[2])


class Slow(_Read):
    """Reads so many bytes per second."""

    @property
    def read_bytes_per_s(self) -> int:
        return int(self.play.order.asked["read_bytes_per_s"])

    @property
    def in_force(self) -> bool:
        connection = self.user.connection
        return connection is not None and connection.read_bytes_per_s == self.user.read_bytes_per_s


class Stalled(_Read):
    """Reads nothing."""

    silences = True

    @property
    def in_force(self) -> bool:
        connection = self.user.connection
        return connection is not None and self.user.context.receiver.source.holds(connection)


class HalfOpen(Stalled):
    """Reads nothing, and is gone without a word at the end."""

    def finish(self) -> None:
        if (connection := self.user.connection) is not None:
            self.user.drop(connection, self, goodbye=False)


class _Closes(ConsumerFault):
    @property
    def in_force(self) -> bool:
        return self.user.was_closed_by(self)


class Vanishing(_Closes):
    """Resets its connection, and again after each second of being back."""

    _again: gevent.Greenlet[..., Any] | None = None

    def act(self, connection: Connection) -> None:
        if connection.end is None:
            close_with_reset(connection.sock)
            self.user.drop(connection, self, goodbye=False)

    def arrived(self, connection: Connection) -> None:
        if self.user.was_closed_by(self):
            self._again = gevent.spawn_later(VANISH_AGAIN_S, self.act, connection)
        else:
            self.act(connection)

    def finish(self) -> None:
        if self._again is not None:
            self._again.kill(block=False)


class Storm(_Closes):
    """Closes once, with all others, and comes back without waiting."""

    def begin(self) -> None:
        self.user.stir()
        super().begin()

    def act(self, connection: Connection) -> None:
        self.user.drop(connection, self, goodbye=True)

    def arrived(self, connection: Connection) -> None:
        """It stays."""

    def pause_s(self, attempt: int, planned_s: float) -> float:
        return STORM_PAUSE_S if attempt else 0.0


class _Away(ConsumerFault):
    @property
    def in_force(self) -> bool:
        return self.user.connection is None


class Offline(_Away):
    """Leaves in good order, and comes back at the end."""

    keeps_away = True


class BadToken(_Away):
    """Comes back with a token that must be refused, until the end."""

    presents = True

    def token(self, tokens: Tokens) -> str | None:
        return tokens.bad(self.user.slot, str(self.play.order.asked["token"]))

    def act(self, connection: Connection) -> None:
        self.user.drop(connection, self, goodbye=True)

    def arrived(self, connection: Connection) -> None:
        if self.user.presented is self:
            self.play.count("accepted", self.user.slot)
        self.act(connection)

    def refused(self) -> None:
        self.play.count("refused", self.user.slot)
