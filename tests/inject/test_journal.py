"""Does the journal say what may be in force, whatever became of its writer?"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.inject.journal import Entry, Journal


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
