"""Does a probe speak TLS where the far end of a link does, and is nothing proved where it does not?"""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from loadtests.model.injectwire import Schedule

from .conftest import NS_PER_S, Run, TestLink, begin_for, planned

pytestmark = pytest.mark.e2e


class Health(BaseHTTPRequestHandler):
    """Answers every GET, on a connection that stays."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # one write for an answer: else its second half waits for an acknowledgement

    def do_GET(self) -> None:
        body = b'{"pid": 1, "pad": "' + b"x" * 300 + b'"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    assert shutil.which("openssl"), "openssl makes the certificate of this test"
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", "key.pem", "-out", "own.pem", "-subj", "/CN=x"],
        cwd=folder, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(folder / "own.pem", folder / "key.pem")
    return found


@pytest.fixture
def gateway(context: ssl.SSLContext) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Health)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def link(make_link: Callable[..., TestLink], gateway: int) -> TestLink:
    return make_link(gateway)


def play(toxiproxy: str, folder: Path, link: TestLink, *, tls: bool) -> Run:
    begin = begin_for(toxiproxy, folder, link, speaks="gateway")
    run = Run(msgspec.structs.replace(begin, tls_links=[link.name] if tls else [], tls_name="gateway.example"), folder)
    run.handle.wait_ready(15)
    at_ns = run.now_ns() + 3 * NS_PER_S
    faults = [
        planned(link, "latency", name="slow", at_ns=at_ns, for_s=1, latency_ms=60, direction="upstream"),
        planned(link, "bandwidth", name="thin", at_ns=at_ns + 4 * NS_PER_S, for_s=2, rate_kb_per_s=20),
        planned(link, "limit-data", name="short", at_ns=at_ns + 9 * NS_PER_S, for_s=1.5, limit_bytes=4000,
                direction="downstream"),
    ]  # fmt: skip
    run.handle.send(Schedule(faults=faults))
    for fault in faults:
        run.await_step(fault.name, "lifted", "not lifted", "failed", timeout_s=20)
    assert run.handle.close(15) == 0
    return run


def test_faults_on_a_link_with_tls_are_proved(toxiproxy: str, link: TestLink, tmp_path: Path) -> None:
    run = play(toxiproxy, tmp_path, link, tls=True)
    for name in ("slow", "thin", "short"):
        assert run.ear.names(name) == ["announced", "active", "proved", "lifted"], [
            (s.step, s.detail, s.effective) for s in run.ear.steps(name)
        ]
    assert 30 < run.ear.step("slow", "proved").effective["added_rtt_ms"] < 300  # calm itself varies on a busy machine
    assert run.ear.step("short", "proved").effective["downstream_bytes"] == 4000
    assert link.is_clean


def test_without_tls_nothing_is_proved_there(toxiproxy: str, link: TestLink, tmp_path: Path) -> None:
    run = play(toxiproxy, tmp_path, link, tls=False)
    for name in ("slow", "thin", "short"):
        assert run.ear.step(name, "not proved"), [(s.step, s.detail, s.effective) for s in run.ear.steps(name)]
    assert link.is_clean
