"""Does a probe speak TLS where the far end of a link does, and is nothing proved where it does not?"""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from .conftest import Place
from .side_by_side import Played, begin, part

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


@pytest.fixture(scope="module")
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


PARTS = {
    "slow": part("latency", for_s=1, latency_ms=200, direction="upstream"),
    "thin": part("bandwidth", for_s=2.5, rate_kb_per_s=20),
    "short": part("limit-data", for_s=1.5, limit_bytes=4000, direction="downstream"),
}


@pytest.fixture(scope="module")
def played(make_place: Callable[[], Place], gateway: int) -> tuple[dict[str, Played], dict[str, Played]]:
    """With TLS, and without it."""
    with make_place() as one, make_place() as other:
        names = {"speaks": "gateway", "upstream": gateway, "tls_name": "gateway.example"}
        both = begin(PARTS, one, tls=True, **names), begin(PARTS, other, **names)
        return both[0].ended(), both[1].ended()


def test_faults_on_a_link_with_tls_are_proved(played: tuple[dict[str, Played], dict[str, Played]]) -> None:
    secure, _ = played
    for name, each in secure.items():
        assert each.names == ["announced", "active", "proved", "lifted"], (name, each.steps)
        assert each.clean
    assert 30 < secure["slow"].effective["added_rtt_ms"] < 3000  # calm itself varies on a busy machine
    assert secure["short"].effective["downstream_bytes"] == 4000


def test_without_tls_nothing_is_proved_there(played: tuple[dict[str, Played], dict[str, Played]]) -> None:
    _, plain = played
    for each in plain.values():
        assert each.step("not proved")
        assert each.clean
