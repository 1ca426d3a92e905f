"""Does the growth oracle go red for every way in which the rule could be wrong, and green for the rule as it is?"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtests.cli.analyze_command import profile_of, read_history
from loadtests.measure.judge import judge
from loadtests.model.results import to_json
from proof.bench import RunOutcome
from proof.growth import (
    CALM,
    LEAK,
    SHORT,
    SaidGrowth,
    SeriesShape,
    generated_rows,
    growth_of,
    readings,
    real_rows,
    write_history,
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the judge says of the series, as results.json has it.

    A third of the readings of a real proof: they tell the same, and the oracle is asked here, not the judge.
    """
    results = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("proof.growth._EVERY_S", 6.0)
        for name, shapes, span_s in (("leak", LEAK, 1800), ("calm", CALM, 1800), ("short", SHORT, 240)):
            folder: Path = tmp_path_factory.mktemp("series") / name
            write_history(folder, shapes, seed=7, span_s=span_s)
            profile = profile_of(folder, [])
            results[name] = msgspec.json.decode(to_json(judge(profile, read_history(folder, profile))))
    return results


@pytest.mark.prove_all
def test_the_rule_as_it_is_is_green(found: dict[str, dict[str, Any]]) -> None:
    rows = generated_rows(found)
    assert [row.what for row in rows if not row.equal] == []
    assert len(growth_of(found["calm"])) == len(CALM) >= 202


@pytest.mark.parametrize(
    ("series", "process", "change"),
    [
        ("leak", "leak-3", {"verdict": "CLEAN"}),
        ("leak", "leak-3", {"verdict": "UNKNOWN"}),
        ("calm", "flat-77", {"verdict": "LEAK"}),
        ("calm", "saw-tooth", {"verdict": "LEAK"}),
        ("calm", "saw-tooth", {"verdict": "UNKNOWN"}),
        ("calm", "plateau", {"verdict": "LEAK"}),
        ("short", "short", {"verdict": "LEAK"}),
        ("short", "short", {"verdict": "CLEAN"}),
    ],
)
@pytest.mark.prove_all
def test_a_wrong_verdict_is_seen(
    found: dict[str, dict[str, Any]], series: str, process: str, change: dict[str, str]
) -> None:
    spoilt = copy.deepcopy(found)
    next(g for g in spoilt[series]["growth"] if g["process"] == process).update(change)
    assert not all(row.equal for row in generated_rows(spoilt))


@pytest.mark.prove_all
def test_slopes_beside_their_intervals_and_missing_processes_are_seen(found: dict[str, dict[str, Any]]) -> None:
    spoilt = copy.deepcopy(found)
    for g in spoilt["leak"]["growth"]:
        g["low"], g["high"] = g["low"] + 20, g["high"] + 20
    assert not all(row.equal for row in generated_rows(spoilt))
    gone = copy.deepcopy(found)
    gone["calm"]["growth"] = [g for g in gone["calm"]["growth"] if g["process"] != "flat-5"]
    assert not all(row.equal for row in generated_rows(gone))
    for series in found:
        passed = copy.deepcopy(found)
        for check in passed[series]["checks"]:
            check["verdict"] = {"calm": "FAIL"}.get(series, "PASS")
        assert not all(row.equal for row in generated_rows(passed)), series


def real(**gateway: Any) -> list[bool]:
    growth = [
        {"process": "gateway", "verdict": "LEAK", "slope_mb_per_h": 3600.0, "low": 3580.0, "high": 3620.0, **gateway},
        {"process": "redis", "verdict": "CLEAN", "slope_mb_per_h": 0.0, "low": -1.0, "high": 1.0},
    ]
    checks = [{"name": "growth_mb_per_h<=1200 all", "verdict": "FAIL"}]
    results = {"growth": growth, "checks": checks}
    return [row.equal for row in real_rows(RunOutcome(folder=Path("run"), results=results, exit_status=1, said=""))]


def test_a_real_leak_must_be_called_one_with_its_slope() -> None:
    assert all(real())
    assert not all(real(verdict="CLEAN"))
    assert not all(real(low=3200.0, high=3300.0))
    assert not all(real(low=None, high=None))


def test_a_series_is_what_it_says_and_the_same_for_a_seed() -> None:
    shape = SeriesShape(name="x", verdict="LEAK", mb_per_h=60.0)
    one = list(readings(shape, seed=1, span_s=3600, every_s=2))
    assert (
        one
        == list(readings(shape, seed=1, span_s=3600, every_s=2))
        != list(readings(shape, seed=2, span_s=3600, every_s=2))
    )
    assert len(one) == 1800
    assert (one[-1][1] - one[0][1]) / 1e6 == pytest.approx(60, abs=2)
    assert not SaidGrowth(verdict="LEAK", slope=1.0, low=0.0, high=2.0).holds(3.0)
