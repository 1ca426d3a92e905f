"""Has a Socket.IO server fallen silent?  Consumers leave as its clients do: without a ping for as long as it announced.

One timer for all connections of a process, and nothing per message: the receiver notes a ping when it answers it.
Engine.IO 4 says *ping*: a server that sends events and no pings has lost its browsers all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

import gevent

from loadtests.drive.consume.connection import Connection
from loadtests.drive.consume.kernel_socket import unread
from loadtests.model.ids import NS_PER_MS, NS_PER_S
from loadtests.model.interfaces import RunClock

PERIOD_S: Final = 0.5
_PERIOD_NS: Final = round(PERIOD_S * NS_PER_S)
_LATE_NS: Final = 100 * NS_PER_MS
"""A look that comes so late means that this process stood still: that time is charged to no server."""
_AT_ONCE: Final = 32
_LET_OTHERS_S: Final = 0.001


class Heartbeat:
    """Looks after the connections of one process until it is closed."""

    def __init__(
        self,
        connections: Collection[Connection],
        clock: RunClock,
        *,
        held: Callable[[Connection], bool],
        lost: Callable[[Connection, int], None],
    ) -> None:
        self._connections, self._clock, self._held, self._lost = connections, clock, held, lost
        self._last_ns = clock.now_ns()
        self._timer: Any = gevent.get_hub().loop.timer(PERIOD_S, PERIOD_S)
        self._timer.start(self._look)

    def close(self) -> None:
        """Stop looking."""
        self._timer.stop()
        self._timer.close()

    def _look(self) -> None:
        now_ns = self._clock.now_ns()
        late_ns = now_ns - self._last_ns - _PERIOD_NS
        self._last_ns = now_ns
        silent = self.silent(now_ns, late_ns)
        if silent:
            gevent.spawn(self._leave, silent)

    def silent(self, now_ns: int, late_ns: int) -> list[Connection]:
        """Connections that the server owes a ping; this look came `late_ns` later than it was due."""
        found = []
        for connection in self._connections:
            if not connection.patience_ns:
                continue
            if late_ns > _LATE_NS:
                connection.heard_ns += late_ns
            if self._held(connection):
                connection.heard_ns = now_ns  # a ping may lie unread in the kernel
            elif now_ns - connection.heard_ns > connection.patience_ns and connection.end is None:
                if not unread(connection.sock):
                    found.append(connection)
                elif connection.read_bytes_per_s is not None:
                    connection.heard_ns = now_ns
        return found

    def _leave(self, silent: list[Connection]) -> None:
        for number, connection in enumerate(silent):
            now_ns = self._clock.now_ns()
            if connection.end is None and now_ns - connection.heard_ns > connection.patience_ns:
                self._lost(connection, now_ns)
            if number % _AT_ONCE == _AT_ONCE - 1:
                gevent.sleep(_LET_OTHERS_S)
