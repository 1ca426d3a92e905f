"""Does a proxy that the shell names for others stand between us and our own servers?"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from loadtests.harness.target import _ask_alike
from loadtests.inject.kinds import planted_defect
from loadtests.inject.kinds.on_users import GatewayCounts
from loadtests.inject.toxics import ToxiproxyServer
from loadtests.model.profile.profile import Profile
from loadtests.model.stackwire import Service, Status
from proof import stack_state
from tests.measure.simulate import profile


class Server(BaseHTTPRequestHandler):
    """Answers as gateway and Toxiproxy at once."""

    def do_GET(self) -> None:
        text = json.dumps({} if self.path == "/proxies" else {"auth": "none", "deliveries": 7}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of this machine, in a shell that sends everything through a proxy that is not there."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_every_call_reaches_its_server(address: str) -> None:
    wanted: Profile = profile()
    gateway = Service(address=address, pid=1, version="", state="ready", origin="ours")
    _ask_alike(wanted, Status(services={"gateway": gateway}, links={}, folder="", supervisor_pid=1))
    assert ToxiproxyServer(address).proxies() == {}
    assert GatewayCounts(address).read() == {"deliveries": 7.0}
    assert planted_defect._get(address, "/stats")["deliveries"] == 7
    assert stack_state.toxiproxy(address) == {}
