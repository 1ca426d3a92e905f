"""What time is it in the run, for every process?  The master's CLOCK_MONOTONIC minus the run's origin.

Processes of one boot and one time namespace read one clock (`clock_identity`). A worker elsewhere measures its offset
over a connection of its own: a round trip tells the offset with an error of half its length, so the shortest of many is
the best (Cristian's method).
"""

from __future__ import annotations

import os
import socket
import struct
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gevent.server import StreamServer

from loadtests.model.errors import HarnessError


class MonotonicClock:
    """The run clock of one process. `offset_ns` is added to this process's monotonic clock to get the master's."""

    __slots__ = ("_shift",)

    def __init__(self, origin_ns: int, offset_ns: int = 0) -> None:
        self._shift = offset_ns - origin_ns

    def now_ns(self) -> int:
        """Time of the run clock in nanoseconds."""
        return time.monotonic_ns() + self._shift

    def at_monotonic_ns(self, monotonic_ns: int) -> int:
        """A reading of this process's monotonic clock, on the run clock."""
        return monotonic_ns + self._shift


def clock_identity() -> str:
    """Equal for two processes if, and only if, they read one monotonic clock.

    Where the system tells neither boot id nor namespace, the machine's node id stands in: processes of one machine.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"node-{uuid.getnode():x}"
    try:
        namespace = os.readlink("/proc/self/ns/time")
    except OSError:
        namespace = "none"
    return f"{boot}/{namespace}"


ROUNDS = 32
EVERY_S = 10.0
_ASK = b"?"
_TIME = struct.Struct(">q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset:
    """What to add to this process's monotonic clock to get the other one's, and how wrong that may be."""

    offset_ns: int
    error_ns: int


class ClockServer:
    """Answers every byte with this process's monotonic time; runs in gevent's hub."""

    def __init__(self, host: str) -> None:
        self._server = StreamServer((host, 0), self._serve)
        self._server.start()
        self._port = int(self._server.address[1])

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def close(self) -> None:
        """Stop listening."""
        self._server.stop()

    @staticmethod
    def _serve(sock: socket.socket, _address: object) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while sock.recv(1):
            sock.sendall(_TIME.pack(time.monotonic_ns()))


def best(rounds: list[tuple[int, int, int]]) -> Offset:
    """Offset from (sent, other's time, received) triples; the shortest round trip counts."""
    sent, other, received = min(rounds, key=lambda r: r[2] - r[0])
    return Offset(offset_ns=other - (sent + received) // 2, error_ns=(received - sent + 1) // 2)


def measure(
    address: tuple[str, int], *, now_ns: Callable[[], int] = time.monotonic_ns, timeout_s: float = 2.0
) -> Offset:
    """Ask a ClockServer. Raises HarnessError where it does not answer."""
    rounds: list[tuple[int, int, int]] = []
    try:
        with socket.create_connection(address, timeout_s) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(ROUNDS):
                sent = now_ns()
                sock.sendall(_ASK)
                answer = b""
                while len(answer) < _TIME.size:
                    part = sock.recv(_TIME.size - len(answer))
                    if not part:
                        raise HarnessError("the master's clock closed the connection")
                    answer += part
                rounds.append((sent, _TIME.unpack(answer)[0], now_ns()))
    except OSError as error:
        raise HarnessError(f"the master's clock does not answer: {error}") from error
    return best(rounds)
