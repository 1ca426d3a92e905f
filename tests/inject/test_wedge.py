"""Is a real Toxiproxy that a stalled reader has wedged brought back, and does the history say how?"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.inject.toxics import ToxiproxyServer
from loadtests.model.injectwire import Schedule
from loadtests.model.records import Note
from loadtests.stack.servers import Servers

from .conftest import NS_PER_S, Run, TestLink, begin_for, end, free_port, planned, run_server

pytestmark = pytest.mark.e2e


@pytest.fixture
def own_toxiproxy(programs: Servers, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    argv = [str(programs.toxiproxy.path), "-host", "127.0.0.1", "-port", str(port)]
    process = run_server(argv, port, tmp_path / "toxiproxy.log")
    yield f"127.0.0.1:{port}"
    end(process)


@pytest.fixture
def flood() -> Iterator[int]:
    """A server that sends to whoever connects for as long as it is read."""
    listener = socket.create_server(("127.0.0.1", 0))

    def send(sock: socket.socket) -> None:
        try:
            while True:
                sock.sendall(b"x" * 65536)
        except OSError:
            sock.close()

    def accept() -> None:
        try:
            while True:
                threading.Thread(target=send, args=(listener.accept()[0],), daemon=True).start()
        except OSError:
            return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_a_wedged_link_is_escalated_and_told(own_toxiproxy: str, flood: int, tmp_path: Path) -> None:
    link = TestLink(ToxiproxyServer(own_toxiproxy), flood, "wedged")
    run = Run(begin_for(own_toxiproxy, tmp_path, link, speaks="none"), tmp_path)
    run.handle.wait_ready(15)
    fault = planned(link, "latency", at_ns=run.now_ns() + NS_PER_S, for_s=2, direction="downstream", latency_ms=50)
    run.handle.send(Schedule(faults=[fault]))
    run.await_step("fault", "active")
    stalled = link.connect()
    assert stalled.recv(1)
    lifted = run.await_step("fault", "lifted", "not lifted", timeout_s=60)
    assert lifted.step == "lifted"
    assert lifted.by.startswith("escalation: ")
    assert any(isinstance(record, Note) and "Next step" in record.text for record in run.ear.records)
    assert link.is_clean
    assert run.handle.heal_all("finish", 30).left == []
    stalled.close()
    assert run.handle.close(15) == 0
