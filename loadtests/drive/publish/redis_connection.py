"""How do bytes get to Redis and replies back without stopping the hub?  A publisher's non-blocking connection.

Callbacks run in the hub: they must not wait and must not raise.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import accumulate
from typing import Any

import gevent

from loadtests.drive.dialing import connected
from loadtests.drive.publish.resp import Replies, Reply, RespError, command
from loadtests.model.address import written
from loadtests.model.logins import redis_login

_READ, _WRITE = 1, 2
_CHUNK = 65536


def dial(address: tuple[str, int], timeout_s: float) -> Any:
    """A gevent socket on which Redis answered a PING, logged in where a login is known for it.

    A connect alone proves nothing: through Toxiproxy it succeeds also without a server behind it.  Raises OSError.
    """
    with gevent.Timeout(timeout_s, TimeoutError("no answer in time")):
        sock = connected(address)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if (login := redis_login(written(*address), os.environ)) is not None:
                reply = ask(sock, command(b"AUTH", login.user.encode(), login.password.encode()), timeout_s)
                if reply != "OK":
                    raise ConnectionError(f"Redis does not let {login.user} in: {str(reply)[:80]}")
            reply = ask(sock, command(b"PING"), timeout_s)
            if reply != "PONG":
                raise ConnectionError(f"PING was answered by {str(reply)[:80]}")
        except BaseException:
            sock.close()
            raise
        return sock


def ask(sock: Any, request: bytes, timeout_s: float) -> Reply:
    """The answer to one command on a dialled socket.

    Raises OSError, also for a closed connection, for what is no RESP, and when the time is up.
    """
    with gevent.Timeout(timeout_s, TimeoutError("no answer in time")):
        sock.sendall(request)
        return next(replies_of(sock))[0]


def replies_of(sock: Any) -> Iterator[tuple[Reply, int]]:
    """Replies on a dialled socket as they come, each with how often it stood in a row; blocks this greenlet.

    Raises OSError, also for a closed connection and for what is no RESP.
    """
    parser = Replies()
    while True:
        data = sock.recv(_CHUNK)
        if not data:
            raise ConnectionError("closed by the peer")
        try:
            found = parser.feed(data)
        except RespError as error:
            raise ConnectionError(str(error)) from error
        yield from found


class RedisConnection:
    """A dialled socket, watched by the hub."""

    def __init__(
        self,
        sock: Any,
        *,
        replies: Callable[[list[tuple[Reply, int]]], None],
        lost: Callable[[str], None],
        writable: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._replies, self._lost, self._writable = replies, lost, writable
        self._parser = Replies()
        self.rest = b""  # end of a message of which the kernel has taken only the beginning
        loop: Any = gevent.get_hub().loop
        self._reader = loop.io(sock.fileno(), _READ)
        self._writer = loop.io(sock.fileno(), _WRITE)
        self._reader.start(self.read)

    def send(self, data: bytes, messages: Sequence[Sized]) -> int:
        """How many messages went, the last perhaps in part (then `rest` is what follows by itself).

        `data` are the messages joined. Raises OSError when the connection is broken: then none of them went.
        """
        try:
            taken = self._sock.send(data)
        except BlockingIOError:
            taken = 0
        if taken == len(data):
            return len(messages)
        self._writer.start(self._continue)
        ends = list(accumulate(map(len, messages)))
        whole = next(number for number, end in enumerate(ends) if end > taken)
        if taken == (ends[whole - 1] if whole else 0):
            return whole
        self.rest = data[taken : ends[whole]]
        return whole + 1

    @property
    def full(self) -> bool:
        """The kernel takes no more for now."""
        return self._sock is not None and bool(self._writer.active)

    def read(self) -> None:
        """Take what has come; the hub calls it, and a slot that would blame Redis for a late hub."""
        if self._sock is None:
            return
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(f"{type(error).__name__}: {error}")
            return
        if not data:
            self._lost("closed by the peer")
            return
        try:
            found = self._parser.feed(data)
        except RespError as error:
            self._lost(f"no RESP: {error}")
            return
        if found:
            self._replies(found)

    def close(self) -> None:
        """Stop watching and close; safe to repeat."""
        if self._sock is None:
            return
        for watcher in (self._reader, self._writer):
            watcher.stop()
            watcher.close()
        self._sock.close()
        self._sock = None

    def _continue(self) -> None:
        if self._sock is None:
            return
        if self.rest:
            try:
                self.rest = self.rest[self._sock.send(self.rest) :]
            except BlockingIOError:
                return
            except OSError as error:
                self._lost(f"{type(error).__name__}: {error}")
                return
        if not self.rest:
            self._writer.stop()
            self._writable()
