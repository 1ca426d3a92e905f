"""How is a Redis asked, whatever it answers?  One string for a command; a deadline for each, and a cap on its bytes."""

from __future__ import annotations

import os
import re
import socket

from loadtests.capture.asking import BadAnswer, Bounded, left_s
from loadtests.model.address import host_port
from loadtests.model.logins import redis_login
from loadtests.model.words import SAID, plain


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
