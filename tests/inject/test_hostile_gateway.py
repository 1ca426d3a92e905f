"""Does whatever a gateway or server answers leave the injector's probes alive, and on time?"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from loadtests.inject.deadline import Watch
from loadtests.inject.kinds.on_users import TIMEOUT_S, GatewayCounts
from loadtests.inject.probe import Pace, Probe
from loadtests.inject.probe_protocols import DIALECTS

HEAD = b"HTTP/1.1 200 OK\r\n"


def page(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


@contextmanager
def serving(first: bytes, more: bytes = b"") -> Iterator[str]:
    """A server that says something to whoever asks, and something more again and again until it is left."""

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listening.accept()
                threading.Thread(target=serve, args=(sock,), daemon=True).start()

    def serve(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            sock.recv(4000)
            sock.sendall(first)
            while more:
                sock.sendall(more)
                time.sleep(0.02)
            sock.recv(4000)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"", b""),
        (HEAD + b"X-A: ", b"x"),
        (HEAD + b"Content-Length: 1000000\r\n\r\n{", b"x"),
        (HEAD + b"Content-Length: many\r\n\r\n<", b""),
        (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n<", b""),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n0\r\n\r\n", b""),
        (b"HTTP/1.1 many\r\n\r\n", b""),
        (page(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), b""),
        (page(b'{"a": "\xff"}'), b""),
        (page(b"<html>"), b""),
    ],
)
def test_a_gateway_that_tells_nothing_readable_is_silent_in_time(first: bytes, more: bytes) -> None:
    with serving(first, more) as address:
        began = time.monotonic()
        assert not GatewayCounts(address).read()
        assert time.monotonic() - began < TIMEOUT_S + 10.0  # what drips goes on for ever


def test_numbers_that_are_none_are_left_out() -> None:
    with serving(page(b'{"clients": {"plain": 3}, "n": 1' + b"0" * 400 + b', "up": true, "seen": {}}')) as address:
        assert GatewayCounts(address).read() == {"clients.plain": 3.0, "seen": 0.0}
    chunked = b'Transfer-Encoding: chunked\r\n\r\n8\r\n{"n": 2}\r\n0\r\n\r\n'
    with serving(HEAD + chunked) as address:
        assert GatewayCounts(address).read() == {"n": 2.0}


@pytest.mark.parametrize(
    ("speaks", "said"),
    [
        ("gateway", HEAD + b"Content-Length: many\r\n\r\n"),
        ("gateway", HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"),
        ("redis", b"$many\r\n"),
        ("redis", b"$" + b"9" * 5000 + b"\r\n"),
    ],
)
def test_a_length_that_is_none_ends_no_probe_of_a_link(speaks: str, said: bytes) -> None:
    assert DIALECTS[speaks].complete(said)  # an answer came, whatever it is
    with serving(said) as address:
        host, _, port = address.rpartition(":")
        probe = Probe((host, int(port)), speaks, Pace(0))
        ping = probe.ping(Watch.of_s(2.0))
        probe.close()
    assert ping is not None
    assert ping.seen == "answer"
