"""Does the journal say what may be in force, whatever became of its writer?"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.inject.journal import Entry, Journal, key_file, known_key, own_key
from loadtests.inject.startup_sweep import heal, users_of

from .fakes import FakeToxiproxy


def entry(fault: str, **more: str) -> Entry:
    return Entry(do="open", fault=fault, kind="down", undo={"proxy": "p", "toxics": ["a", "b"]}, **more)


def test_what_is_open_can_be_undone_by_another_process(tmp_path: Path) -> None:
    Journal(tmp_path / "j").open(entry("one", toxiproxy="127.0.0.1:1"))
    Journal(tmp_path / "j").open(entry("two"))
    Journal(tmp_path / "j").close("one")
    assert Journal(tmp_path / "j").pending() == [entry("two")]


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert Journal(tmp_path / "j").pending() == []


def test_a_folder_that_is_missing_means_no_fault(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Journal(tmp_path / "none" / "j").open(entry("one"))


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    Journal(tmp_path / "j").open(entry("one"))
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


@given(cut=st.integers(0, 200))
def test_a_torn_tail_hides_no_earlier_fault(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    journal = Journal(path)
    journal.open(entry("one"))
    whole = path.stat().st_size
    journal.open(entry("two"))
    size = min(whole + cut, path.stat().st_size)
    is_torn = size < path.stat().st_size - 1  # without its line's end an entry is whole
    with path.open("r+b") as file:
        file.truncate(size)
    assert journal.pending() == [entry("one")] + ([] if is_torn else [entry("two")])
    journal.open(entry("three"))
    assert journal.pending()[-1] == entry("three")
    assert journal.pending()[0] == entry("one")


def test_lines_of_another_user_or_an_older_version_are_read_and_not_believed(
    fake: FakeToxiproxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.proxies["theirs"] = FakeToxiproxy.fresh() | {"name": "theirs", "enabled": False}
    undo = {"proxy": "theirs", "listen": "127.0.0.1:9", "upstream": "127.0.0.1:10", "toxics": [], "listens": "again"}
    theirs = Entry(do="open", fault="theirs", kind="down", proxy="theirs", toxiproxy=fake.address, undo=undo)
    path = tmp_path / "it's; theirs" / "faults.journal"
    path.parent.mkdir()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_STATE_HOME", str(tmp_path / "of a colleague"))
        Journal(path).open(theirs)
    with path.open("ab") as file:
        file.write(msgspec.json.encode(msgspec.structs.replace(theirs, fault="old")) + b"\n")
        file.write(msgspec.json.encode(msgspec.structs.replace(theirs, fault="forged", seal="0" * 32)) + b"\n")
    Journal(path).open(entry("ours", redis="127.0.0.1:1"))
    Journal(path).close("ours")

    assert Journal(path).pending() == []
    assert users_of(fake.address, [path]) == []
    (told,) = heal("", [path])
    assert "(3)" in told
    assert "not lifted" in told
    assert shlex.split(told.partition("yours: ")[2]) == ["tickstorm", "stack", "heal", "--trust", str(path)]
    assert fake.calls == []

    assert sum("Lifted fault" in text for text in heal("", [path], trusted=[path])) == 3
    assert fake.proxies["theirs"]["enabled"]
    assert heal("", [path]) == []


@pytest.mark.parametrize("changed", ["redis", "fault", "do"])
def test_a_line_that_was_changed_is_not_believed(tmp_path: Path, changed: str) -> None:
    Journal(tmp_path / "j").open(entry("one", redis="10.0.0.1:1"))
    to = {"redis": ("10.0.0.1", "10.0.0.2"), "fault": ('"one"', '"two"'), "do": ('"open"', '"held"')}[changed]
    (tmp_path / "j").write_text((tmp_path / "j").read_text().replace(*to))
    assert Journal(tmp_path / "j").pending() == []


def test_a_link_a_pipe_and_a_file_of_somebody_else_are_no_journals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Journal(tmp_path / "j").open(entry("one"))
    (tmp_path / "link").symlink_to(tmp_path / "j")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        assert Journal(tmp_path / name).pending() == []
        assert heal("", [tmp_path / name]) == []
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert Journal(tmp_path / "j").pending() == []


def test_the_key_is_for_this_user_alone_and_all_draw_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert known_key() is None
    with ThreadPoolExecutor(8) as many:
        assert len(set(many.map(lambda _: own_key(), range(32)))) == 1
    (only,) = key_file().parent.iterdir()
    assert only.stat().st_mode & 0o777 == 0o600
    assert only.parent.stat().st_mode & 0o077 == 0
    only.chmod(0o640)
    assert known_key() is None
    with pytest.raises(PermissionError, match="XDG_STATE_HOME may name another folder"):
        Journal(tmp_path / "j").open(entry("one"))


def test_without_a_place_for_the_key_no_fault_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with pytest.raises(OSError, match="the key of its lines cannot be kept"):
        Journal(tmp_path / "j").begin("127.0.0.1:1", 0.0)


HOLDER = """
import sys
from pathlib import Path
from loadtests.inject.journal import Journal
hold = Journal(Path(sys.argv[1])).begin(sys.argv[2], 0.0)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def fake() -> Iterator[FakeToxiproxy]:
    server = FakeToxiproxy()
    yield server
    server.close()


def test_nobody_undoes_the_faults_of_an_injector_that_lives(fake: FakeToxiproxy, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run-1" / "faults.journal")
    journal.path.parent.mkdir()
    argv = [sys.executable, "-c", HOLDER, str(journal.path), fake.address]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as injector:
        assert injector.stdout is not None
        assert injector.stdout.readline() == "held\n"
        fake.proxies["tickstorm.x"]["enabled"] = False
        undo = {
            "proxy": "tickstorm.x",
            "listen": "127.0.0.1:9",
            "upstream": "127.0.0.1:10",
            "toxics": [],
            "listens": "again",
        }
        journal.open(Entry(do="open", fault="cut", kind="down", proxy="tickstorm.x", toxiproxy=fake.address, undo=undo))
        before = dict(fake.proxies["tickstorm.x"])
        done = heal(fake.address, [journal.path], patience_s=0)
        assert done == ['Left alone: run "run-1" goes on and lifts its faults itself; in force may be cut.']
        assert fake.proxies["tickstorm.x"] == before
        assert users_of(fake.address, [journal.path]) == ["run-1"]
        assert users_of("127.0.0.1:1", [journal.path]) == []
        with pytest.raises(BlockingIOError, match="holds it"):
            journal.begin(fake.address, 0.0)
        injector.kill()
    assert users_of(fake.address, [journal.path]) == []
    assert any('Lifted fault "cut"' in text for text in heal(fake.address, [journal.path]))
    assert journal.pending() == []
    assert fake.proxies["tickstorm.x"]["enabled"]


def test_an_injector_that_is_about_to_end_is_waited_for(fake: FakeToxiproxy, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", HOLDER, str(tmp_path / "j"), fake.address]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as injector:
        assert injector.stdout is not None
        assert injector.stdout.readline() == "held\n"
        assert injector.stdin is not None
        injector.stdin.close()
        hold = Journal(tmp_path / "j").hold(patience_s=20)
        assert hold is not None
        hold.release()


def test_who_holds_a_journal_leaves_nothing_open_in_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    with journal.begin("127.0.0.1:1", 0.0):
        journal.open(entry("one"))
        assert journal.hold() is None
    assert journal.pending() == [entry("one")]
    assert journal.toxiproxies() == {"127.0.0.1:1"}
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600
