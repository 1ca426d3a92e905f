"""When did the kernel receive these bytes?  SO_TIMESTAMPNS beside one read, on the run clock; Linux only.

The stamp is CLOCK_REALTIME, so it is carried over by reading both clocks beside it; a process that is put aside
between the two readings would take it for older than it is, so they are read again until they lie close together.
"""

from __future__ import annotations

import struct
import sys
from time import CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime_ns
from typing import Final, Protocol

_SO_TIMESTAMPNS: Final = 35
_SCM_TIMESTAMPNS: Final = 35
_SOL_SOCKET: Final = 1
_TIMESPEC: Final = struct.Struct("@ll")
_ANCILLARY: Final = 64
_STALE_NS: Final = 60 * 1_000_000_000
_CLOSE_NS: Final = 100_000
_TRIES: Final = 3
AVAILABLE: Final = sys.platform == "linux"


class _Socket(Protocol):
    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...

    def recvmsg(
        self, size: int, ancillary: int = ..., flags: int = ..., /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]: ...


def switch_on(sock: _Socket) -> bool:
    """Ask for stamps on a TCP socket; False where the kernel does not give them."""
    if not AVAILABLE:
        return False
    try:
        sock.setsockopt(_SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def receive(sock: _Socket, size: int) -> tuple[bytes, int, int | None]:
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
    for _ in range(_TRIES):
        real = clock_gettime_ns(CLOCK_REALTIME)
        after = clock_gettime_ns(CLOCK_MONOTONIC)
        if after - before <= _CLOSE_NS:
            age = real - stamp
            return min(before - age, now) if 0 <= age < _STALE_NS else None
        before = after
    return None
