"""Does a history say today what it said when it was written?  Runs of every kind, judged again from their records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden.keeping import HISTORIES, RESULTS, differences, judged

NAMES = sorted(path.name.partition(".")[0] for path in HISTORIES.glob("*.tar.xz"))


def test_all_sorts_of_runs_are_kept() -> None:
    assert sorted(path.stem for path in RESULTS.glob("*.json")) == NAMES
    verdicts = {json.loads((RESULTS / f"{name}.json").read_bytes())["verdict"] for name in NAMES}
    assert verdicts >= {"PASS", "FAIL", "UNKNOWN"}


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_history_says_what_it_said(name: str, tmp_path: Path) -> None:
    kept = json.loads((RESULTS / f"{name}.json").read_bytes())
    assert differences(kept, judged(HISTORIES / f"{name}.tar.xz", tmp_path)) == []


def test_a_difference_is_seen() -> None:
    kept = {"a": [1, {"b": 2}], "c": 3}
    assert differences(kept, {"a": [1, {"b": 2, "new": 0}], "c": 3, "d": 4}) == []
    assert differences(kept, {"a": [1, {"b": 5}]}) == ["results.c: missing", "results.a[1].b: kept 2, found 5"]
    assert differences(kept, {"a": [1], "c": 3}) == ["results.a: kept [1, {'b': 2}], found [1]"]
