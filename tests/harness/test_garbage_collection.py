"""Is the collector, after the last of several runs, the one that the interpreter had before the first?"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from loadtests.harness.process import QuietHeap


@pytest.fixture(autouse=True)
def own_settings() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    gc.set_threshold(611, 9, 8)
    gc.unfreeze()
    yield gc.get_threshold()
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.parametrize("first_out", [0, 1])
def test_runs_whose_lives_overlap_leave_the_collector_as_it_was(
    first_out: int, own_settings: tuple[int, int, int]
) -> None:
    runs = [QuietHeap(), QuietHeap()]
    for run in runs:
        run.begin()
    quiet = gc.get_threshold()
    assert quiet != own_settings
    runs[first_out].end()
    assert gc.get_threshold() == quiet, "the other run still lasts"
    assert gc.get_freeze_count() > 0
    runs[1 - first_out].end()
    assert gc.get_threshold() == own_settings
    assert gc.get_freeze_count() == 0


def test_beginning_and_ending_may_be_repeated(own_settings: tuple[int, int, int]) -> None:
    run, other = QuietHeap(), QuietHeap()
    run.end()
    assert gc.get_threshold() == own_settings
    run.begin()
    run.begin()
    other.begin()
    run.end()
    run.end()
    assert gc.get_threshold() != own_settings, "a run that ends twice ends nobody else's"
    other.end()
    assert gc.get_threshold() == own_settings
