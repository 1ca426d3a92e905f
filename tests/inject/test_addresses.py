"""Does the injector reach a server at each address of its name, IPv6 literals among them?"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from loadtests.capture.bounded_clients import get_json
from loadtests.inject.deadline import Watch
from loadtests.inject.kinds.on_users import GatewayCounts
from loadtests.inject.link import Link
from loadtests.inject.probe_connection import Cut, ProbeConnection, connected
from loadtests.inject.toxics import ToxiproxyServer
from loadtests.model.address import written


def speaks_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
        sock.bind(("::1", 0))
        return True
    return False


class Answering(BaseHTTPRequestHandler):
    """Plays Toxiproxy and a gateway, as much as is asked here."""

    listen = ""

    def do_GET(self) -> None:
        proxy = {"name": "p", "listen": self.listen, "upstream": "u:1", "enabled": True}
        body = json.dumps({"version": "2", **proxy, "count": 3, "host": self.headers["Host"]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class V6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


@pytest.fixture(
    params=[
        "127.0.0.1",
        pytest.param("::1", marks=pytest.mark.skipif(not speaks_ipv6(), reason="this machine speaks no IPv6")),
    ]
)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    found = (V6 if ":" in request.param else ThreadingHTTPServer)((request.param, 0), Answering)
    found.daemon_threads = True
    thread = threading.Thread(target=found.serve_forever, args=(0.02,))
    thread.start()
    yield request.param, found.server_address[1]
    found.shutdown()
    thread.join()
    found.server_close()


def localhost(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    def getaddrinfo(_host: str, port: int, *_: Any) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (each, port, 0, 0))
            if ":" in each
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in hosts
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_probe_reaches_whichever_address_answers(server, monkeypatch) -> None:
    host, port = server
    localhost(monkeypatch, "::1", "127.0.0.1")
    connection = ProbeConnection(("localhost", port), Watch.of_s(5))
    try:
        assert connection.ask(b"GET / HTTP/1.0\r\n\r\n", lambda got: b"count" in got, Watch.of_s(5))
    finally:
        connection.close()
    with connected(("localhost", port), Watch.of_s(5)) as sock:
        assert sock.getpeername()[0] == host
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(Cut, match="refused"):
            ProbeConnection(("localhost", nobody.getsockname()[1]), Watch.of_s(5))


def test_services_are_asked_at_a_literal(server) -> None:
    host, port = server
    address = written(host, port)
    assert get_json(address, "/health", 5)[1]["host"] == address
    assert (GatewayCounts(address).read() or {})["count"] == 3
    toxiproxy = ToxiproxyServer(address)
    assert toxiproxy.proxy("p").upstream == "u:1"
    assert toxiproxy.host == host


@pytest.mark.parametrize(
    ("listen", "enters"),
    [
        ("[::]:5000", None),
        ("0.0.0.0:5000", None),
        (":5000", None),
        ("[::1]:5000", "::1"),
        ("127.0.0.1:5000", "127.0.0.1"),
        ("localhost:5000", "localhost"),
    ],
)
def test_a_link_is_entered_where_its_proxy_listens(server, monkeypatch, listen, enters) -> None:
    monkeypatch.setattr(Answering, "listen", listen)
    link = Link(server=ToxiproxyServer(written(*server)), name="l", proxy="p")
    assert link.address() == (enters or server[0], 5000)
