"""Is the kernel's receive time on the run clock right, also when this process is put aside between looks at clocks?"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

import pytest

from loadtests.drive.consume import kernel_socket

pytestmark = pytest.mark.skipif(not kernel_socket.STAMPS_AVAILABLE, reason="only Linux gives these stamps")
MS = 1_000_000
STEP = 1_700_000_000_000 * MS  # realtime is so far ahead of the monotonic clock
Clock = Callable[[int], int]


class Stamped:
    """A socket whose bytes the kernel got at a given realtime."""

    def __init__(self, real_ns: int) -> None:
        self.data = struct.pack("@ll", *divmod(real_ns, 1_000_000_000))

    def recvmsg(self, size: int, ancillary: int = 0, flags: int = 0, /) -> tuple[bytes, list, int, None]:
        return b"bytes", [(1, 35, self.data)], 0, None


class Clocks:
    """Both clocks of a process: each look takes 100 ns, and the process is put aside before some looks."""

    def __init__(self, aside_ms: dict[int, int]) -> None:
        self.now, self.looks, self.aside_ms = 1_000 * MS, 0, aside_ms

    def __call__(self, which: int) -> int:
        self.now += 100 + self.aside_ms.get(self.looks, 0) * MS
        self.looks += 1
        return self.now + (STEP if which == time.CLOCK_REALTIME else 0)


@pytest.mark.parametrize("aside", [{}, {1: 12}, {2: 12}, {1: 12, 3: 12}, {2: 12, 3: 12}, {4: 12}])
def test_a_process_put_aside_between_two_clocks_makes_no_stamp_older(
    monkeypatch: pytest.MonkeyPatch, aside: dict[int, int]
) -> None:
    clocks = Clocks(aside)
    monkeypatch.setattr(kernel_socket, "clock_gettime_ns", clocks)
    got_ns = clocks.now - 3 * MS
    _, now, kernel = kernel_socket.receive_stamped(Stamped(got_ns + STEP), 100)
    assert now == 1_000 * MS + 100
    assert kernel is not None
    assert abs(kernel - got_ns) <= 100_000


def test_where_the_clocks_cannot_be_read_together_there_is_no_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(dict.fromkeys(range(100), 12))
    monkeypatch.setattr(kernel_socket, "clock_gettime_ns", clocks)
    _, now, kernel = kernel_socket.receive_stamped(Stamped(clocks.now - 3 * MS + STEP), 100)
    assert (now, kernel) == (1_012 * MS + 100, None)


@pytest.mark.parametrize("stepped_ms", [-5, 61_000])
def test_a_realtime_clock_that_stepped_gives_no_stamp(monkeypatch: pytest.MonkeyPatch, stepped_ms: int) -> None:
    clocks = Clocks({})
    monkeypatch.setattr(kernel_socket, "clock_gettime_ns", clocks)
    assert kernel_socket.receive_stamped(Stamped(clocks.now - stepped_ms * MS + STEP), 100)[2] is None


def test_the_kernels_stamp_lies_between_the_sending_and_the_reading() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sender:
        peer, _ = server.accept()
        with peer:
            assert kernel_socket.switch_on_stamps(peer)
            for _ in range(50):
                before = time.monotonic_ns()
                sender.sendall(b"x")
                chunk, now, kernel = kernel_socket.receive_stamped(peer, 10)
                assert chunk == b"x"
                assert kernel is None or before - 200_000 <= kernel <= now
