"""How is a server asked one question over HTTP, whatever it answers?  And where does an address end?

One deadline for the whole exchange, and a cap on bytes and depth: the server may be broken, or mean harm.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
from typing import Any

from loadtests.model.address import host_port

MOST_BYTES = 1 << 20
"""A longer answer is none, its head included."""
DEEPEST = 32
"""A body whose tables and lists are nested deeper is none."""


class BadAnswer(http.client.HTTPException):
    """What came is no answer that can be read."""


class Bounded(io.RawIOBase):
    """What a socket brings until the deadline, and no more of it than allowed. HTTPResponse takes it for a socket."""

    def __init__(self, sock: socket.socket, deadline: float, most: int) -> None:
        self._socket, self._deadline, self._left = sock, deadline, most

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(left_s(self._deadline))
        count = self._socket.recv_into(buffer)
        self._left -= count
        if self._left < 0:
            raise BadAnswer("too long")
        return count


def left_s(deadline: float) -> float:
    """Seconds until a moment of the monotonic clock. Raises TimeoutError where there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no whole answer in time")
    return left


def get_json(address: str, path: str, timeout_s: float) -> tuple[int, Any]:
    """Status and body of one HTTP GET over a connection of its own; None for a body that is no JSON.

    Raises OSError or http.client.HTTPException, after `timeout_s` at the latest.
    """
    deadline = time.monotonic() + timeout_s
    host, port = host_port(address)
    request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, port), timeout_s) as sock:
        sock.settimeout(left_s(deadline))
        sock.sendall(request.encode("ascii"))
        answer = http.client.HTTPResponse(Bounded(sock, deadline, MOST_BYTES), method="GET")  # type: ignore[arg-type]
        answer.begin()
        body = answer.read(MOST_BYTES)
        if answer.length:  # of what its head announced, this much never came
            raise BadAnswer("cut short")
    return answer.status, _parsed(body)


def _parsed(body: bytes) -> Any:
    try:
        found = json.loads(body)
    except ValueError:  # also a number too long to be read, and what is no text
        return None
    except RecursionError:
        raise BadAnswer("nested too deep") from None
    level, depth = [found], 0
    while level := [x for part in level for x in _inside(part)]:
        depth += 1
        if depth > DEEPEST:
            raise BadAnswer("nested too deep")
    return found


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
