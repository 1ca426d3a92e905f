"""Does the proof of the catalogue play kinds as its user asks, and tell what came of each?"""

from __future__ import annotations

import pytest
from launching import Bench

pytestmark = [pytest.mark.e2e, pytest.mark.group("PLAYED")]


@pytest.mark.prove_all
def test_two_kinds_are_played_proved_and_lifted(bench: Bench) -> None:
    child = bench.start("prove", "--faults", "--only-kinds", "slow-close,down")
    assert child.wait(150) == 0, child.said
    lines = child.said.splitlines()
    rows = {line.split()[0]: line for line in lines if " on " in line and "asked" in line}
    assert set(rows) == {"slow-close", "down"}
    for row in rows.values():
        assert "; proved; lifted by plan;" in row
        assert "recovery" in row
    assert "asked close_delay_ms 150" in rows["slow-close"]
    assert "connect refused" in rows["down"]
    assert lines[-1].startswith("2 of 2 kinds proved and lifted")
    assert child.nothing_left()


def test_an_unknown_kind_is_refused_before_anything_starts(bench: Bench) -> None:
    child = bench.start("prove", "--faults", "--only-kinds", "down,nonsense")
    assert child.wait(20) == 2
    assert "--only-kinds nonsense" in child.said
    assert "ready" not in child.said
