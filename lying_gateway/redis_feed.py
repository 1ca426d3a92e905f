"""What does Redis publish?  One raw subscriber connection that never blocks and heals itself."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Final

PATTERN: Final = b"tickstock.*"
_RETRY_NS: Final = 100_000_000
_PING_NS: Final = 1_000_000_000
_READ_BYTES: Final = 256 << 10
_MOST_READS: Final = 16
_SUBSCRIBE: Final = b"*2\r\n$10\r\nPSUBSCRIBE\r\n$%d\r\n%b\r\n" % (len(PATTERN), PATTERN)
_PING: Final = b"*1\r\n$4\r\nPING\r\n"


class RedisProtocolError(Exception):
    """The peer does not speak RESP2."""


class RedisReplies:
    """Cuts whole replies out of the stream: lists of bulk strings, or whatever else as a list of one."""

    def __init__(self) -> None:
        self._held = b""
        self._wanted = 0  # no reply is whole before so many bytes are held

    def feed(self, data: bytes) -> list[list[bytes]]:
        """All replies that are whole now. Raises ProtocolError."""
        self._held += data
        if len(self._held) < self._wanted:
            return []
        data, at, found = self._held, 0, []
        self._wanted = 0
        while at < len(data):
            reply, after = self._reply(data, at)
            if after < 0:
                self._wanted = max(0, self._wanted - at)
                break
            found.append(reply)
            at = after
        self._held = data[at:]
        return found

    def _reply(self, data: bytes, at: int) -> tuple[list[bytes], int]:
        stop = data.find(b"\r\n", at)
        if stop < 0:
            return [], -1
        kind, line, after = data[at : at + 1], data[at + 1 : stop], stop + 2
        if kind in (b"+", b"-", b":"):
            return [line], after
        try:
            number = int(line)
        except ValueError:
            raise RedisProtocolError(f"{line[:16]!r} is no number") from None
        if kind == b"$":
            end = after + max(number, 0) + (2 if number >= 0 else 0)
            if end > len(data):
                self._wanted = end
                return [], -1
            return [data[after : after + max(number, 0)]], end
        if kind != b"*":
            raise RedisProtocolError(f"{kind!r} begins no reply")
        items: list[bytes] = []
        for _ in range(number):
            if after >= len(data):
                return [], -1
            item, after = self._reply(data, after)
            if after < 0:
                return [], -1
            items += item
        return items, after


class RedisFeed:
    """Keeps the subscription; messages wait in `messages` as channel, payload, time."""

    def __init__(
        self, address: tuple[str, int], watch: Callable[[RedisFeed], None], told: Callable[[str], None]
    ) -> None:
        self._address = address
        self._watch = watch
        self._told = told  # subscribed, lost
        self._replies = RedisReplies()
        self._next_ns = 0  # when to connect, or to ping
        self._heard_ns = 0
        self.sock: socket.socket | None = None
        self.connecting = False
        self.subscribed = False
        self.reconnects = -1
        self.messages: deque[tuple[bytes, bytes, int]] = deque()

    def mind(self) -> None:
        """Connect where there is no connection; ping one that is silent. To be called several times a second."""
        now_ns = time.monotonic_ns()
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + _RETRY_NS
        if self.sock is None:
            self._connect()
        elif now_ns - self._heard_ns > 3 * _PING_NS:
            self._lose()
        elif now_ns - self._heard_ns > _PING_NS and not self.connecting:
            self._next_ns = now_ns + _PING_NS
            self._say(_PING)

    def ready(self) -> None:
        """The socket can be read or written."""
        if self.sock is None:
            return
        if self.connecting:
            error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._lose()
                return
            self.connecting = False
            self._watch(self)
            user, password = os.environ.get("REDIS_USER", "default"), os.environ.get("REDIS_PASSWORD", "")
            if password:
                words = [word.encode() for word in ("AUTH", user, password)]
                self._say(b"*3\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
            self._say(_SUBSCRIBE)
            return
        for _ in range(_MOST_READS):
            try:
                data = self.sock.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._lose()
                return
            now_ns = self._heard_ns = time.monotonic_ns()
            try:
                replies = self._replies.feed(data)
            except RedisProtocolError:
                self._lose()
                return
            for reply in replies:
                if len(reply) == 4 and reply[0] == b"pmessage":
                    self.messages.append((reply[2], reply[3], now_ns))
                elif reply[:2] == [b"psubscribe", PATTERN]:
                    self.subscribed = True
                    self.reconnects += 1
                    self._told("subscribed")
            if len(data) < _READ_BYTES:
                return

    def close(self) -> None:
        """Leave for good, and tell no listener."""
        self._next_ns = 1 << 62
        self.subscribed = False
        if self.sock is not None:
            self._drop()

    def _connect(self) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(*self._address, 0, socket.SOCK_STREAM)[0]
        self.sock = socket.socket(family, kind, protocol)
        self.sock.setblocking(False)
        self._replies = RedisReplies()
        self._heard_ns = time.monotonic_ns()
        self.connecting = True
        if self.sock.connect_ex(address) not in (0, errno.EINPROGRESS):
            self._drop()
            return
        self._watch(self)

    def _say(self, data: bytes) -> None:
        assert self.sock is not None
        try:
            self.sock.send(data)  # a few bytes into an empty buffer
        except OSError:
            self._lose()

    def _lose(self) -> None:
        was, self.subscribed = self.subscribed, False
        self._drop()
        if was:
            self._told("lost")

    def _drop(self) -> None:
        assert self.sock is not None
        self.sock.close()
        self.sock = None
        self.connecting = False
