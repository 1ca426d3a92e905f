"""What does a server answer to one HTTP request, whatever it is?  A deadline over all of it, and a cap on its bytes."""

from __future__ import annotations

import http.client
import io
import socket
from typing import Any, NamedTuple

import msgspec

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import NoAnswer, NotThere, Refused
from loadtests.inject.probe_connection import Cut, connected
from loadtests.model.address import host_port
from loadtests.model.words import plain

MOST_BYTES = 4 << 20
"""A longer answer is none, its head included: so many hold ten thousand proxies."""


class Reply(NamedTuple):
    """Status and body of an answer."""

    status_code: int
    content: bytes


class _Answer(io.RawIOBase):
    """What a connection brings, as HTTPResponse wants it."""

    def __init__(self, sock: socket.socket, watch: Watch) -> None:
        self._socket, self._watch, self._left = sock, watch, MOST_BYTES

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        _limit(self._socket, self._watch)
        count = self._socket.recv_into(buffer)
        self._left -= count
        if self._left < 0:
            raise http.client.HTTPException(f"it is longer than {MOST_BYTES:,} bytes")
        return count


def _limit(sock: socket.socket, watch: Watch) -> None:
    if watch.over:
        raise TimeoutError
    sock.settimeout(watch.left_s)


def ask(name: str, address: str, method: str, path: str, body: object = None, *, timeout_s: float) -> Reply:
    """The answer to one request on a connection of its own; `name` is the server's, for sentences.

    Raises NoAnswer, after `timeout_s` at the latest, NotThere, or Refused where what came is no answer.
    """
    what = f"{method} {path}"
    try:
        return _exchange(address, method, path, body, Watch.of_s(timeout_s))
    except Cut as cut:
        if cut.seen == "refused":
            raise NotThere(f"nobody listens at {address}, where {name} should") from cut
        raise NoAnswer(f"{name} at {address} did not accept within {timeout_s:g} s") from cut
    except TimeoutError as error:
        raise NoAnswer(f"{name} did not answer {what} within {timeout_s:g} s") from error
    except (OSError, http.client.IncompleteRead) as error:
        raise NoAnswer(f"{name} broke off {what}") from error
    except (http.client.HTTPException, ValueError) as error:
        raise Refused(f"the answer to {what} is not HTTP as it should be: {plain(str(error))}") from error


def _exchange(address: str, method: str, path: str, body: object, watch: Watch) -> Reply:
    asked = b"" if body is None else msgspec.json.encode(body)
    head = f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nAccept-Encoding: identity\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(asked)}\r\n\r\n"
    with connected(host_port(address), watch) as sock:
        _limit(sock, watch)
        sock.sendall(head.encode("ascii") + asked)
        answer = http.client.HTTPResponse(_Answer(sock, watch), method=method)  # type: ignore[arg-type]
        answer.begin()
        content = answer.read(MOST_BYTES)
        if answer.length:  # of what its head announced, this much never came
            raise http.client.IncompleteRead(content)
        return Reply(answer.status, content)
