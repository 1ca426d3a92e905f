"""Is a fault that does not let go lifted by ever harder ways, each told, and is what remains said with its command?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.inject.journal import Entry, Journal
from loadtests.inject.kinds import KINDS
from loadtests.inject.kinds.kind import Lifted, Site, lift
from loadtests.inject.link import Link
from loadtests.inject.servers import SupervisorClient
from loadtests.inject.startup_sweep import heal, sweep
from loadtests.inject.toxics import ToxiproxyServer

from .conftest import free_port
from .fakes import FakeSupervisor, FakeToxiproxy

TOXIC = "/proxies/tickstorm.x/toxics/tickstorm-f-downstream"
PROXY = "/proxies/tickstorm.x"
UNDO = {
    "proxy": "tickstorm.x",
    "listen": "127.0.0.1:9",
    "upstream": "127.0.0.1:10",
    "toxics": ["tickstorm-f-downstream"],
}


@pytest.fixture
def fake() -> Iterator[FakeToxiproxy]:
    server = FakeToxiproxy()
    yield server
    server.close()


def lifted(address: str, told: list[str], supervisor: Path | None = None) -> Lifted:
    link = Link(server=ToxiproxyServer(address, timeout_s=0.2), name="x", proxy="tickstorm.x")
    site = Site(link=link, supervisor=None if supervisor is None else SupervisorClient(supervisor))
    return lift(KINDS["latency"], site, dict(UNDO), fault="f", tell=told.append)


def test_nothing_harder_is_done_where_undoing_does_it(fake: FakeToxiproxy) -> None:
    told: list[str] = []
    assert lifted(fake.address, told) == Lifted(clean=True)
    assert told == []
    assert fake.calls == [("DELETE", TOXIC), ("GET", PROXY)]


def test_an_undo_that_changes_nothing_is_seen_by_the_read_back(fake: FakeToxiproxy) -> None:
    fake.trouble["DELETE", TOXIC] = 204  # says that it did, and did not
    told: list[str] = []
    assert lifted(fake.address, told).escalation == "deleted its proxy and created it anew"
    assert len(told) == 2
    assert "is still on" in told[0]
    assert fake.proxies["tickstorm.x"]["toxics"] == []


@pytest.mark.parametrize("trouble", ["hang", 503])
def test_a_wedged_toxic_ends_with_a_new_proxy(fake: FakeToxiproxy, trouble: int | str) -> None:
    fake.trouble["DELETE", TOXIC] = trouble
    told: list[str] = []
    assert lifted(fake.address, told).escalation == "deleted its proxy and created it anew"
    order = [call for call in fake.calls if call[0] != "GET"]
    assert order == [("DELETE", TOXIC), ("PATCH", PROXY), ("DELETE", TOXIC), ("DELETE", PROXY), ("POST", "/proxies")]
    assert fake.proxies["tickstorm.x"]["listen"] == "127.0.0.1:9"
    assert fake.proxies["tickstorm.x"]["upstream"] == "127.0.0.1:10"


def test_a_wedged_server_is_restarted_by_the_supervisor(fake: FakeToxiproxy, tmp_path: Path) -> None:
    fake.trouble = {("DELETE", TOXIC): "hang", ("PATCH", PROXY): "hang", ("DELETE", PROXY): "hang"}

    def restart() -> None:
        fake.trouble.clear()
        fake.proxies.clear()  # a restart forgets all proxies

    supervisor = FakeSupervisor(tmp_path, b'{"ok": true}\n', restart)
    told: list[str] = []
    assert lifted(fake.address, told, tmp_path).escalation == "restarted Toxiproxy"
    assert [(ask["do"], ask["service"]) for ask in supervisor.asked] == [("restart", "toxiproxy")]
    assert fake.proxies["tickstorm.x"]["toxics"] == []
    assert len(told) == 3
    supervisor.close()


def test_a_server_that_is_gone_is_restarted_without_asking_it_anything(fake: FakeToxiproxy, tmp_path: Path) -> None:
    supervisor = FakeSupervisor(tmp_path, b'{"ok": false, "error": "no"}\n')
    told: list[str] = []
    end = lifted(f"127.0.0.1:{free_port()}", told, tmp_path)
    assert not end.clean
    assert "the stack's supervisor answered: no" in end.left
    assert len(told) == 1
    supervisor.close()


def test_what_nothing_lifts_is_said_with_the_command(fake: FakeToxiproxy) -> None:
    fake.trouble = {("DELETE", TOXIC): "hang", ("PATCH", PROXY): 500, ("DELETE", PROXY): 500}
    told: list[str] = []
    end = lifted(fake.address, told)
    assert not end.clean
    assert end.left.startswith('Fault "f" is not lifted: ')
    assert end.left.endswith("Run: tickstorm stack heal")


@pytest.mark.parametrize("answer", [b"", b"nonsense\n"])
def test_a_supervisor_that_makes_no_sense_is_no_lifting(fake: FakeToxiproxy, tmp_path: Path, answer: bytes) -> None:
    fake.trouble = {("DELETE", TOXIC): 500, ("PATCH", PROXY): 500, ("DELETE", PROXY): 500}
    supervisor = FakeSupervisor(tmp_path, answer)
    assert not lifted(fake.address, [], tmp_path).clean
    supervisor.close()


def test_a_supervisors_socket_may_lie_elsewhere(fake: FakeToxiproxy, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "socket.path").write_text(f"{elsewhere / 'socket'}\n")
    fake.trouble = {("DELETE", TOXIC): 500, ("PATCH", PROXY): 500, ("DELETE", PROXY): 500}
    supervisor = FakeSupervisor(elsewhere, b'{"ok": true}\n', lambda: (fake.trouble.clear(), fake.proxies.clear()))
    assert lifted(fake.address, [], tmp_path).escalation == "restarted Toxiproxy"
    supervisor.close()


def test_a_proxy_that_a_restart_forgot_is_created_again(fake: FakeToxiproxy) -> None:
    fake.proxies.clear()
    link = Link(server=ToxiproxyServer(fake.address), name="x", proxy="tickstorm.x")
    undo = UNDO | {"toxics": [], "listens": "again"}
    assert lift(KINDS["down"], Site(link=link), undo, fault="f", tell=lambda _: None).clean
    assert fake.proxies["tickstorm.x"]["upstream"] == "127.0.0.1:10"


def test_healing_reads_journals_and_names(fake: FakeToxiproxy, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.open(Entry(do="open", fault="f", kind="latency", link="x", proxy="tickstorm.x", undo=dict(UNDO)))
    fake.proxies["tickstorm.y"] = FakeToxiproxy.fresh() | {"name": "tickstorm.y", "enabled": False}
    fake.proxies["of-the-user"] = FakeToxiproxy.fresh() | {"name": "of-the-user", "enabled": False}
    done = heal(fake.address, [tmp_path / "j", tmp_path / "none"])
    assert len(done) == 3
    assert journal.pending() == []
    assert fake.proxies["tickstorm.y"]["enabled"]
    assert not fake.proxies["of-the-user"]["enabled"]
    assert fake.proxies["of-the-user"]["toxics"]
    assert heal(fake.address, [tmp_path / "j"]) == []


def test_a_fault_of_an_unknown_kind_is_not_lifted_and_stays_in_the_journal(fake: FakeToxiproxy, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.open(Entry(do="open", fault="f", kind="of-tomorrow"))
    assert any('kind "of-tomorrow" is not known' in text for text in heal(fake.address, [tmp_path / "j"]))
    assert journal.pending()


def test_a_sweep_says_what_it_could_not_remove(fake: FakeToxiproxy) -> None:
    fake.trouble = {("DELETE", TOXIC): 500, ("DELETE", PROXY): 500}
    done = sweep(ToxiproxyServer(fake.address), ())
    assert any(text.startswith("Still there: ") for text in done)


def test_a_sweep_creates_a_proxy_anew_that_keeps_a_toxic(fake: FakeToxiproxy) -> None:
    fake.trouble["DELETE", TOXIC] = 503
    assert any("created it anew" in text for text in sweep(ToxiproxyServer(fake.address), ()))
    assert fake.proxies["tickstorm.x"]["toxics"] == []
