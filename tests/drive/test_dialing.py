"""Is a target reached at whatever address its name has, in their order, and within one deadline?"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import socket as green
from publish_servers import Redis

from loadtests.drive import dialing
from loadtests.drive.consume.deflate import agree
from loadtests.drive.consume.handshake import RefusedError, upgrade
from loadtests.drive.publish.redis_connection import dial


def speaks_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
        sock.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not speaks_ipv6(), reason="this machine speaks no IPv6")


@pytest.fixture(params=["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
def redis(request: pytest.FixtureRequest) -> Iterator[Redis]:
    found = Redis(request.param)
    found.start()
    yield found
    found.stop()


def named(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """localhost has these addresses, in this order."""

    def getaddrinfo(host: str, port: int, *_: Any) -> list[Any]:
        assert host == "localhost"
        return [
            (green.AF_INET6, 1, 6, "", (each, port, 0, 0)) if ":" in each else (green.AF_INET, 1, 6, "", (each, port))
            for each in hosts
        ]

    monkeypatch.setattr(dialing.green, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("hosts", [("::1", "127.0.0.1"), ("127.0.0.1", "::1")])
def test_a_server_at_one_address_of_a_name_is_reached(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, hosts: Any
) -> None:
    named(monkeypatch, *hosts)
    prepared: list[Any] = []
    with contextlib.closing(dialing.connected(("localhost", redis.port), prepared.append)) as sock:
        assert sock.getpeername()[0] == redis.host
    assert len(prepared) == 1 + (hosts[0] != redis.host)
    dial(("localhost", redis.port), 5).close()
    dial((redis.host, redis.port), 5).close()


def test_where_nobody_listens_the_last_refusal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, "::1", "127.0.0.1")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            dialing.connected(("localhost", nobody.getsockname()[1]))


def test_all_addresses_have_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as full:  # whose queue is full: nobody gets in, and nobody is refused
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        gevent.sleep(0.05)
        named(monkeypatch, *["127.0.0.1"] * 40)
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="no answer in time"):
            dial(("localhost", port), 0.3)
        assert time.monotonic() - began < 6  # far from twelve
        for sock in waiting:
            sock.close()


class Ear:
    """Hears what is asked and closes."""

    def __init__(self) -> None:
        self.heard = b""

    def sendall(self, data: bytes, /) -> None:
        self.heard += data

    def recv(self, _size: int, /) -> bytes:
        return b""


@pytest.mark.parametrize(("host", "header"), [("::1", b"Host: [::1]:80"), ("gw", b"Host: gw:80")])
@pytest.mark.parametrize("ask", [upgrade, agree])
def test_the_host_header_has_brackets_where_a_port_needs_them(ask: Any, host: str, header: bytes) -> None:
    ear = Ear()
    with pytest.raises(RefusedError):
        ask(ear, host, 80, "/ws")
    assert header.removesuffix(b":80") in ear.heard
