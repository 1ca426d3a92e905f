"""Does the journal say what may be in force, whatever became of its writer?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.inject.healing import heal, users_of
from loadtests.inject.journal import Entry, Journal

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
