"""Is a real Toxiproxy that a stalled reader has wedged brought back, and does the history say how?"""

from __future__ import annotations

import fcntl
import socket
import sys
import termios
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import pytest
from beside import beside

from loadtests.inject.errors import NoAnswer
from loadtests.inject.startup_sweep import heal
from loadtests.inject.toxics import CALL_TIMEOUT_S, Toxic, ToxiproxyServer
from loadtests.model.injectwire import Schedule
from loadtests.model.records import Note
from loadtests.stack.servers import Servers

from .conftest import NS_PER_S, READY_S, Place, Run, TestLink, begin_for, end, free_port, planned, run_server
from .fakes import FakeSupervisor

pytestmark = [pytest.mark.e2e, pytest.mark.group("LIFE")]
SLACK_NS = NS_PER_S  # from the time-out to the note


class Own:
    """A Toxiproxy for one test."""

    def __init__(self, programs: Servers, folder: Path) -> None:
        self.port = free_port()
        self._argv = [str(programs.toxiproxy.path), "-host", "127.0.0.1", "-port", str(self.port)]
        self._log = folder / "toxiproxy.log"
        self.process = run_server(self._argv, self.port, self._log)

    def restart(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self.process = run_server(self._argv, self.port, self._log)


class Flood:
    """A server that sends to whoever connects for as long as it is read."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        try:
            while True:
                threading.Thread(target=self._send, args=(self._listener.accept()[0],), daemon=True).start()
        except OSError:
            return

    def _send(self, sock: socket.socket) -> None:
        try:
            while True:
                sock.sendall(b"x" * 65536)
        except OSError:
            sock.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


class Here(Place):
    abreast = 5  # each waits for calls to time out

    @cached_property
    def own(self) -> Own:
        server = Own(self.programs, self.tmp_path)
        self.held.callback(lambda: end(server.process))
        return server

    @cached_property
    def toxiproxy(self) -> str:
        return f"127.0.0.1:{self.own.port}"

    @cached_property
    def restart(self) -> Callable[[], None]:
        return self.own.restart

    @cached_property
    def flood(self) -> int:
        server = Flood()
        self.held.callback(server.close)
        return server.port

    @cached_property
    def stalled(self) -> tuple[TestLink, socket.socket]:
        """A link with a toxic of ours that no journal names, and a client that has stopped to read."""
        link = TestLink(ToxiproxyServer(self.toxiproxy), self.flood, "stalled")
        link.server.add(link.proxy, Toxic(name="tickstorm-x-downstream", type="latency", stream="downstream",
                                          attributes={"latency": 5, "jitter": 0}))  # fmt: skip
        client = link.connect()
        self.held.callback(client.close)
        assert client.recv(1)
        unread = -1
        while unread != (unread := waiting(client)) or not unread:  # until its buffer is full
            threading.Event().wait(0.3)
        return link, client


PLACE = Here


def waiting(client: socket.socket) -> int:
    return int.from_bytes(fcntl.ioctl(client, termios.FIONREAD, b"\0" * 4), sys.byteorder)


@beside
def test_healing_without_a_journal_frees_a_wedged_proxy(toxiproxy: str, stalled) -> None:
    link, _ = stalled
    done = heal(toxiproxy, [])
    assert any("did not answer" in text for text in done), done
    assert any("created it anew" in text for text in done), done
    assert link.is_clean
    assert heal(toxiproxy, []) == []


@beside
def test_healing_a_wedged_toxiproxy_says_so_where_nobody_may_restart_it(toxiproxy: str, stalled) -> None:
    wedge(*stalled)
    done = heal(toxiproxy, [])
    assert len(done) == 1
    assert "is not lifted" in done[0]
    assert "restart it" in done[0]


def wedge(link: TestLink, client: socket.socket) -> None:
    """A change hangs, the client goes, and another one comes: from here on only a restart helps."""
    with pytest.raises(NoAnswer):
        ToxiproxyServer(link.server.address, timeout_s=1).remove(link.proxy, "tickstorm-x-downstream")
    client.close()
    link.connect().close()


@beside
def test_healing_a_wedged_toxiproxy_has_the_stack_restart_it(
    toxiproxy: str, restart: Callable[[], None], stalled, tmp_path: Path
) -> None:
    wedge(*stalled)
    fake = FakeSupervisor(tmp_path, b'{"ok": true}\n', restart)
    try:
        done = heal(toxiproxy, [], tmp_path)
    finally:
        fake.close()
    assert [ask["do"] for ask in fake.asked if ask["do"] != "status"] == ["restart"]
    assert "restarted Toxiproxy" in done[0]
    assert heal(toxiproxy, []) == []


@beside
@pytest.mark.parametrize("speaks", ["none", "redis"])
def test_a_wedged_link_is_escalated_and_told(toxiproxy: str, flood: int, tmp_path: Path, speaks: str) -> None:
    link = TestLink(ToxiproxyServer(toxiproxy), flood, "wedged")
    # speaks "redis": its probe connects, and is never answered
    run = Run(begin_for(toxiproxy, tmp_path, link, speaks=speaks, link_probe_every_s=0.1), tmp_path)
    run.handle.wait_ready(READY_S)
    fault = planned(link, "latency", at_ns=run.now_ns() + NS_PER_S, for_s=2, direction="downstream", latency_ms=50)
    run.handle.send(Schedule(faults=[fault]))
    run.await_step("fault", "active")
    stalled = link.connect()
    assert stalled.recv(1)
    lifted = run.await_step("fault", "lifted", "not lifted", timeout_s=60)
    assert lifted.step == "lifted"
    assert lifted.by.startswith("escalation: ")
    notes = [record for record in run.ear.records if isinstance(record, Note) and "Next step" in record.text]
    assert notes
    assert notes[0].at_ns - lifted.before_ns < CALL_TIMEOUT_S * NS_PER_S + SLACK_NS
    assert link.is_clean
    assert run.handle.heal_all("finish", 30).left == []
    stalled.close()
    assert run.handle.close(15) == 0
