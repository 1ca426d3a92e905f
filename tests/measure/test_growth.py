"""Does the growth rule find a leak, and nothing else?  Series in virtual time with noise, saw-tooth and warm-up."""

from __future__ import annotations

import random

import pytest

from loadtests.measure.growth import growth_verdict, slope

LIMIT = 20.0


def series(
    seconds: int, *, mb_per_h: float, seed: int, saw_mb: float = 0.0, plateau_mb: float = 0.0
) -> tuple[list[float], list[float]]:
    """One reading a second: AR(1) noise, a garbage collector's saw-tooth, a warm-up in the first fifth."""
    dice = random.Random(seed)
    noise, at, mb = 0.0, [], []
    for second in range(seconds):
        noise = 0.8 * noise + dice.gauss(0, 0.15)
        warm = plateau_mb * min(second / (seconds / 5), 1.0)
        at.append(float(second))
        mb.append(100 + mb_per_h * second / 3600 + noise + saw_mb * (second % 37) / 37 + warm)
    return at, mb


def verdict(at: list[float], mb: list[float]) -> str:
    """As the judge applies it: the first quarter is dropped."""
    cut = len(at) // 4
    return growth_verdict(slope(at[cut:], mb[cut:]), span_s=at[-1] - at[cut], limit=LIMIT)


def test_a_leak_is_found() -> None:
    assert {verdict(*series(1800, mb_per_h=60, seed=s, saw_mb=1.0)) for s in range(30)} == {"LEAK"}


def test_flat_memory_with_a_saw_tooth_is_clean_and_never_an_alarm() -> None:
    found = [verdict(*series(1800, mb_per_h=0, seed=s, saw_mb=2.0)) for s in range(100)]
    assert "LEAK" not in found
    assert found.count("CLEAN") >= 80


def test_a_warm_up_plateau_is_no_leak() -> None:
    found = [verdict(*series(1800, mb_per_h=0, seed=s, plateau_mb=50.0)) for s in range(30)]
    assert set(found) == {"CLEAN"}


def test_a_short_run_carries_no_verdict_but_a_number() -> None:
    at, mb = series(48, mb_per_h=0, seed=1)
    found = slope(at, mb)
    assert found is not None
    assert abs(found.growth_mb) < 2
    assert verdict(at, mb) == "UNKNOWN"


def test_too_few_readings_are_no_slope() -> None:
    assert slope([0.0, 1.0], [1.0, 2.0]) is None
    assert growth_verdict(None, span_s=1e6, limit=LIMIT) == "UNKNOWN"


def test_the_slope_of_a_line_is_exact() -> None:
    at = [float(s) for s in range(3600)]
    found = slope(at, [s / 60 for s in at])
    assert found is not None
    assert abs(found.middle - 60) < 1e-6
    assert found.low <= found.middle <= found.high


@pytest.mark.prove_all
def test_two_hundred_flat_series_give_no_alarm() -> None:
    found = [verdict(*series(1800, mb_per_h=0, seed=s, saw_mb=0.5 * (s % 5))) for s in range(200)]
    assert "LEAK" not in found


def test_a_looser_limit_needs_a_shorter_stretch_and_a_tighter_one_no_longer_one() -> None:
    at = [second / 4 for second in range(40)]
    leak = slope(at, list(at))  # 3600 MB/h
    assert growth_verdict(leak, span_s=10, limit=20.0) == "UNKNOWN"
    assert growth_verdict(leak, span_s=10, limit=20.0 * 60) == "LEAK"
    assert growth_verdict(leak, span_s=4.9, limit=20.0 * 60) == "UNKNOWN"
    assert growth_verdict(leak, span_s=300, limit=1.0) == "LEAK"
    assert growth_verdict(leak, span_s=300, limit=0.0) == "LEAK"


def test_a_few_readings_have_a_slope_and_no_verdict() -> None:
    found = slope([0.0, 1000.0, 2000.0], [0.0, 50.0, 100.0])
    assert found is not None
    assert growth_verdict(found, span_s=2000, limit=20.0) == "UNKNOWN"
