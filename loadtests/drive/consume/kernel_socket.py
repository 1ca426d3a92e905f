"""How much of what the kernel received for a socket was read, and how much was not?  Asks the kernel, reads nothing."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import sys
import termios
from typing import Any, Final, NamedTuple

_RECEIVED: Final = 128  # where tcp_info has bytes_received, since Linux 4.1
_SIZE: Final = _RECEIVED + 8
_TCP_INFO: Final = 11
_TRIES: Final = 8


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
