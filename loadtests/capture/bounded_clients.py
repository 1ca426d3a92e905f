"""How are the target's servers asked, whatever they answer?  One HTTP request, a Redis command, a row of PostgreSQL.

Every exchange has one deadline, and a cap on bytes and depth: the server may be broken, or mean harm.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import select
import socket
import time
from typing import Any

import psycopg2
from psycopg2 import extensions

from loadtests.model.address import host_port
from loadtests.model.logins import database_options, redis_login
from loadtests.model.words import SAID, plain

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


Row = tuple[Any, ...]


class AskedPostgres:
    """One connection of a role. Every method raises psycopg2.Error, OSError or BadAnswer.

    It begins no transaction by itself, and after an OSError it is of no more use.
    """

    def __init__(
        self, address: str, deadline: float, *, database: str, user: str, name: str, options: str = ""
    ) -> None:
        host, port = host_port(address)
        self._connection: Any = psycopg2.connect(
            host=host,
            port=port,
            dbname=database,
            user=user,
            async_=1,
            application_name=name,
            options=options,
            **database_options(address, user, os.environ),
        )
        try:
            self._wait(deadline)
        except (psycopg2.Error, OSError, BadAnswer):
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """The connection is gone."""
        return bool(self._connection.closed)

    def ask(self, deadline: float, statement: str, *values: str) -> Row | None:
        """The first row that answers a statement; None where there is none."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            self._wait(deadline)
            try:
                return cursor.fetchone() if cursor.description else None
            except (ValueError, TypeError, ArithmeticError) as error:  # a value that is none of the type it claims
                raise BadAnswer(f"a row that cannot be read: {error}") from error

    def _wait(self, deadline: float) -> None:
        """Until the connection is done with what it does."""
        while (state := self._poll()) != extensions.POLL_OK:
            wanted = select.POLLIN if state == extensions.POLL_READ else select.POLLOUT
            poll = select.poll()
            poll.register(self._connection.fileno(), wanted)
            poll.poll(left_s(deadline) * 1000)

    def _poll(self) -> int:
        try:
            return int(self._connection.poll())
        except ValueError as error:  # words that are no text
            raise BadAnswer("no PostgreSQL answers there") from error

    def close(self) -> None:
        """Give the connection back to the server."""
        try:
            self._connection.close()
        except psycopg2.Error:
            pass  # it was gone already, which is all that is wanted


class AskedRedis:
    """One connection, logged in. Every method raises OSError or BadAnswer; after that it is of no more use."""

    def __init__(self, address: str, deadline: float, most: int) -> None:
        self._most = most
        self._socket = socket.create_connection(host_port(address), left_s(deadline))
        login = redis_login(address, os.environ)
        try:
            if login is not None:
                self.ask(deadline, b"AUTH", *(word.encode() for word in login))
        except (OSError, BadAnswer):
            self.close()
            raise

    def ask(self, deadline: float, *words: bytes) -> str:
        """The one string that answers; what comes after it is none of this exchange."""
        self._socket.settimeout(left_s(deadline))
        self._socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        answer = Bounded(self._socket, deadline, self._most).makefile("rb")
        line = answer.readline(SAID)
        if line.startswith(b"+"):
            return line[1:].strip().decode("latin-1")
        if line.startswith(b"-"):
            raise BadAnswer(plain(line[1:].decode("latin-1")))
        length = int(line[1:]) if re.fullmatch(rb"\$\d{1,9}\r\n", line) else self._most
        if length >= self._most or len(body := answer.read(length + 2)) < length + 2:
            raise BadAnswer("no string" if line else "it closed the connection")
        return body[:-2].decode("latin-1")

    def close(self) -> None:
        """Give the connection back to the server."""
        self._socket.close()
