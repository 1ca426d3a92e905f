"""What does a consumer do in each fault: read slowly or not at all, vanish, stay away, storm, show bad tokens?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import gevent

from loadtests.drive.consume.consumer_faults import ConsumerFault
from loadtests.drive.consume.kernel_socket import Gauge, close_with_reset, gauge
from loadtests.drive.user_faults import UserFaultReading

if TYPE_CHECKING:
    from loadtests.drive.consume.connection import Connection
    from loadtests.drive.consume.tokens import Tokens

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
