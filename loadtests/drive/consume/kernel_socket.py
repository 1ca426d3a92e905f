"""What does the kernel say of a socket?  When it received the bytes of a read, and how many are unread.

The receive stamp (SO_TIMESTAMPNS, Linux) is CLOCK_REALTIME.  It is carried over to the monotonic clock by reading both
clocks beside it, again until the two readings lie close together: where the process was descheduled between them, the
stamp would look older than it is.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import sys
import termios
from time import CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime_ns
from typing import Any, Final, NamedTuple, Protocol

_RECEIVED: Final = 128  # where tcp_info has bytes_received, since Linux 4.1
_SIZE: Final = _RECEIVED + 8
_TCP_INFO: Final = 11
_TRIES: Final = 8
_SO_TIMESTAMPNS: Final = 35
_SCM_TIMESTAMPNS: Final = 35
_SOL_SOCKET: Final = 1
_TIMESPEC: Final = struct.Struct("@ll")
_ANCILLARY: Final = 64
_STALE_NS: Final = 60 * 1_000_000_000
_CLOSE_NS: Final = 100_000
_CLOCK_TRIES: Final = 3
STAMPS_AVAILABLE: Final = sys.platform == "linux"


class Gauge(NamedTuple):
    """One socket at one moment, in bytes since it was opened."""

    unread: int  # in the kernel
    read: int  # by us


def gauge(sock: Any) -> Gauge | None:
    """What the kernel says of an open TCP socket; None where it does not say."""
    if sys.platform != "linux" or not hasattr(sock, "getsockopt"):
        return None
    waiting = array.array("i", [0])
    try:
        received = _received(sock)
        for _ in range(_TRIES):
            fcntl.ioctl(sock.fileno(), termios.FIONREAD, waiting)
            again = _received(sock)
            if received is None or again is None:
                return None
            if again == received:  # nothing came between the two questions
                return Gauge(waiting[0], received - waiting[0])
            received = again
    except OSError:
        return None
    return None


def _received(sock: Any) -> int | None:
    info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _SIZE)
    return struct.unpack_from("Q", info, _RECEIVED)[0] if len(info) >= _SIZE else None


def unread(sock: Any) -> int:
    """Bytes that lie in the kernel for an open socket; 0 where it does not say."""
    waiting = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.FIONREAD, waiting)
    except (OSError, ValueError):
        return 0
    return waiting[0]


def close_with_reset(sock: Any) -> None:
    """Make the socket's next close a reset: no goodbye, and what waits is dropped."""
    if hasattr(sock, "setsockopt"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _StampingSocket(Protocol):
    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...

    def recvmsg(
        self, size: int, ancillary: int = ..., flags: int = ..., /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]: ...


def switch_on_stamps(sock: _StampingSocket) -> bool:
    """Ask for stamps on a TCP socket; False where the kernel does not give them."""
    if not STAMPS_AVAILABLE:
        return False
    try:
        sock.setsockopt(_SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def receive_stamped(sock: _StampingSocket, size: int) -> tuple[bytes, int, int | None]:
    """Bytes, monotonic time of the read, monotonic time at which the kernel got the last of them.

    The latter is None without a stamp, where the realtime clock stepped between stamp and read, or where the two
    clocks could not be read close together. Raises OSError.
    """
    chunk, ancillary, _, _ = sock.recvmsg(size, _ANCILLARY)
    now = clock_gettime_ns(CLOCK_MONOTONIC)
    for level, kind, data in ancillary:
        if level == _SOL_SOCKET and kind == _SCM_TIMESTAMPNS and len(data) >= _TIMESPEC.size:
            seconds, rest = _TIMESPEC.unpack_from(data)
            return chunk, now, _on_monotonic(seconds * 1_000_000_000 + rest, now)
    return chunk, now, None


def _on_monotonic(stamp: int, now: int) -> int | None:
    before = now
    for _ in range(_CLOCK_TRIES):
        real = clock_gettime_ns(CLOCK_REALTIME)
        after = clock_gettime_ns(CLOCK_MONOTONIC)
        if after - before <= _CLOSE_NS:
            age = real - stamp
            return min(before - age, now) if 0 <= age < _STALE_NS else None
        before = after
    return None
