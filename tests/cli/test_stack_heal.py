"""Does `stack heal` lift what journals name without a stack too, and does it say by its status what stays open?"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.cli.stack_command import heal
from loadtests.inject.journal import Entry, Journal
from tests.inject.conftest import free_port
from tests.inject.fakes import FakeToxiproxy


@pytest.fixture
def fake() -> Iterator[FakeToxiproxy]:
    server = FakeToxiproxy()
    yield server
    server.close()


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """The journal of a stored run; no local stack is up."""
    monkeypatch.setenv("TICKSTORM_REPORTS", str(tmp_path / "reports"))
    monkeypatch.setenv("TICKSTORM_STACK", str(tmp_path / "stack"))
    (tmp_path / "reports" / "run-1").mkdir(parents=True)
    return Journal(tmp_path / "reports" / "run-1" / "faults.journal")


def cut(toxiproxy: str, **more: str) -> Entry:
    undo = {"proxy": "theirs", "listen": "127.0.0.1:9", "upstream": "127.0.0.1:10", "toxics": [], "listens": "again"}
    return Entry(do="open", fault="cut", kind="down", link="x", proxy="theirs", toxiproxy=toxiproxy, undo=undo, **more)


def test_an_external_target_is_healed_from_the_journal(
    fake: FakeToxiproxy, journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.proxies["theirs"] = FakeToxiproxy.fresh() | {"name": "theirs", "enabled": False}
    journal.open(cut(fake.address))
    assert heal() == 0
    assert 'Lifted fault "cut"' in capsys.readouterr().out
    assert fake.proxies["theirs"]["enabled"]
    assert journal.pending() == []
    assert heal() == 0
    assert "nothing to heal" in capsys.readouterr().out


def test_a_copied_run_of_a_colleague_sends_no_password_anywhere(
    fake: FakeToxiproxy, journal: Journal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TICKSTORM_REDIS_PASSWORD", "canary")
    fake.proxies["theirs"] = FakeToxiproxy.fresh() | {"name": "theirs", "enabled": False}
    with socket.create_server(("127.0.0.1", 0)) as lure:
        lure.settimeout(0.2)
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("XDG_STATE_HOME", str(journal.path.parent / "of a colleague"))
            Journal(journal.path).open(cut(fake.address, supervisor=str(journal.path.parent)))
            redis = f"127.0.0.1:{lure.getsockname()[1]}"
            Journal(journal.path).open(
                Entry(do="open", fault="memory", kind="memory-pressure", link="redis", redis=redis)
            )
        assert heal() == 3
        with pytest.raises(TimeoutError):
            lure.accept()
    assert fake.calls == []
    assert "tickstorm stack heal --trust" in capsys.readouterr().out
    journal.path.write_text("")
    journal.open(cut(fake.address))
    assert heal([journal.path]) == 0


def test_what_cannot_be_lifted_stays_open_and_is_the_status(
    journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.open(cut(f"127.0.0.1:{free_port()}"))
    assert heal() == 3
    assert 'Fault "cut" is not lifted' in " ".join(capsys.readouterr().out.split())
    assert journal.pending()


def test_a_run_in_progress_is_left_alone(
    fake: FakeToxiproxy, journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.proxies["theirs"] = FakeToxiproxy.fresh() | {"name": "theirs", "enabled": False}
    with journal.begin(fake.address, 0.0):
        journal.open(cut(fake.address))
        assert heal() == 3
    assert "Left alone" in capsys.readouterr().out
    assert not fake.proxies["theirs"]["enabled"]


def test_a_fault_on_a_stack_that_is_down_went_with_it(
    fake: FakeToxiproxy, journal: Journal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    journal.open(cut(fake.address, supervisor=str(tmp_path / "other")))
    assert heal() == 0
    assert "went with its local stack" in " ".join(capsys.readouterr().out.split())
    assert journal.pending() == []
    assert fake.calls == []
