"""Is the weekly gate right as often as it says, and would the proof see a rule that is not?"""

from __future__ import annotations

import numpy as np
import pytest

from loadtests.measure.gate import look
from proof.gate import CASES, Array, Flags, Gate, Ints, characteristic, told_lines

BASE, APART = CASES[0], next(case for case in CASES if case.name == "sessions differ by 15 %")


def runs_of(values: Array) -> Array:
    return np.median(values, axis=-1)


def limit_as_line(weeks: Array, _a: Ints, now: Array, _b: Ints, _c: Ints, _d: int) -> tuple[Flags, Flags, Array]:
    """FAIL where the ratio of medians is above the size to be found."""
    ratio = np.median(runs_of(now), axis=1) - np.median(runs_of(weeks), axis=(1, 2))
    fails = ratio > np.log(1.25)
    return fails, ~fails, np.full(len(now), 0.5)


def pooled(weeks: Array, _a: Ints, now: Array, _b: Ints, _c: Ints, _d: int) -> tuple[Flags, Flags, Array]:
    """Welch's test of this week's runs against all runs of all weeks, as if weeks did not differ."""
    past, this = runs_of(weeks).reshape(len(now), -1), runs_of(now)
    error = np.sqrt(past.var(axis=1, ddof=1) / past.shape[1] + this.var(axis=1, ddof=1) / this.shape[1])
    fails = this.mean(axis=1) - past.mean(axis=1) > 2.35 * error
    return fails, ~fails, np.full(len(now), 0.5)


def by_deviation(weeks: Array, _a: Ints, now: Array, _b: Ints, _c: Ints, _d: int) -> tuple[Flags, Flags, Array]:
    """FAIL above 25 % or four median deviations, whichever is more."""
    past = runs_of(weeks).reshape(len(now), -1)
    middle = np.median(past, axis=1)
    wide = 4 * 1.4826 * np.median(np.abs(past - middle[:, None]), axis=1)
    fails = np.median(runs_of(now), axis=1) - middle > np.maximum(np.log(1.25), wide)
    return fails, ~fails, np.full(len(now), 0.5)


def more_power(*asked: object) -> tuple[Flags, Flags, Array]:
    """The gate, but it boasts."""
    fails, passes, _ = look(*asked)  # type: ignore[arg-type]
    return fails, passes, np.ones(len(fails))


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.prove_all) for seed in range(2, 8))])
def test_the_gate_holds(seed: int) -> None:
    assert [result.wrong for result in characteristic(look, seed)] == [()] * len(CASES)


@pytest.mark.parametrize(
    ("rule", "case", "said"),
    [
        (limit_as_line, BASE, "+25 % found"),
        (pooled, APART, "false FAIL"),
        (by_deviation, BASE, "+25 % found"),
        (more_power, APART, "told power"),
    ],
)
def test_a_wrong_rule_turns_the_proof_red(rule: Gate, case: object, said: str) -> None:
    (result,) = characteristic(rule, 1, (case,))  # type: ignore[arg-type]
    assert any(text.startswith(said) for text in result.wrong), result.wrong


def test_the_last_line_sums_up_and_names_what_does_not_hold() -> None:
    good, bad = list(told_lines(look, 1)), list(told_lines(limit_as_line, 1))
    assert good[-1][1]
    assert good[-1][0].startswith("the gate holds in all 7 rows")
    assert not bad[-1][1]
    assert "sessions 3 %: +25 % found" in bad[-1][0]
