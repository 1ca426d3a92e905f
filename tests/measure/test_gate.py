"""What must the gate's arithmetic obey, whatever the figures are?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.measure.gate import Rule, Session, Weeks, judged, location, median, more_runs

SEEDS = st.integers(0, 2**31)
FEW = settings(max_examples=30)


def one_history(
    seed: int, weeks: int = 8, runs: int = 3, *, times: int = 4, shift: float = 0.0, noise: float = 0.05
) -> tuple[Weeks, Session]:
    dice = np.random.default_rng(seed)
    cells = dice.normal(0, 0.3, (3, times))
    base, now = np.tile(np.arange(3), (weeks, 1)), np.arange(runs) % 3
    return (
        Weeks(values=cells[base][None] + dice.normal(0, noise, (1, weeks, 3, times)), seeds=base),
        Session(
            values=cells[now][None] + shift + dice.normal(0, noise, (1, runs, times)), seeds=now,
            stacks=np.zeros(runs, dtype=np.int64),
        ),
    )  # fmt: skip


@FEW
@given(SEEDS, st.floats(-3, 3))
def test_the_unit_of_a_measure_does_not_matter(seed: int, unit: float) -> None:
    weeks, now = one_history(seed)
    other = judged(
        Weeks(values=weeks.values + unit, seeds=weeks.seeds),
        Session(values=now.values + unit, seeds=now.seeds, stacks=now.stacks),
    )
    assert other.evidence == pytest.approx(judged(weeks, now).evidence, abs=1e-6)


@FEW
@given(SEEDS, st.floats(0.01, 1.0))
def test_a_worse_week_has_more_evidence(seed: int, shift: float) -> None:
    weeks, now = one_history(seed)
    worse = Session(values=now.values + shift, seeds=now.seeds, stacks=now.stacks)
    before, after = judged(weeks, now), judged(weeks, worse)
    assert after.evidence > before.evidence
    assert after.shift - before.shift == pytest.approx(shift)
    assert not (after.fails & after.passes).any()


@FEW
@given(SEEDS, st.permutations(range(8)))
def test_the_order_of_the_weeks_does_not_matter(seed: int, order: list[int]) -> None:
    weeks, now = one_history(seed)
    mixed = Weeks(values=weeks.values[:, order], seeds=weeks.seeds[order])
    assert judged(mixed, now).evidence == pytest.approx(judged(weeks, now).evidence)


@FEW
@given(SEEDS)
def test_what_a_cell_always_shows_is_nobodys_regression(seed: int) -> None:
    """A seed under which the fault always takes ten times as long says nothing of this week."""
    weeks, now = one_history(seed)
    slow = np.where(np.arange(3) == 1, math.log(10), 0.0)
    apart = judged(
        Weeks(values=weeks.values + slow[weeks.seeds][None, :, :, None], seeds=weeks.seeds),
        Session(values=now.values + slow[now.seeds][None, :, None], seeds=now.seeds, stacks=now.stacks),
    )
    assert apart.evidence == pytest.approx(judged(weeks, now).evidence, abs=1e-6)


@FEW
@given(SEEDS)
def test_a_cell_that_no_week_has_counts_less(seed: int) -> None:
    weeks, now = one_history(seed)
    new = Session(values=now.values, seeds=np.array([0, 1, 3]), stacks=now.stacks)
    assert judged(weeks, new).variance > judged(weeks, now).variance


@FEW
@given(SEEDS, st.integers(2, 7))
def test_histories_side_by_side_are_judged_as_each_alone(seed: int, runs: int) -> None:
    pairs = [one_history(seed + k, runs=runs) for k in range(3)]
    together = judged(
        Weeks(values=np.concatenate([w.values for w, _ in pairs]), seeds=pairs[0][0].seeds),
        Session(
            values=np.concatenate([s.values for _, s in pairs]), seeds=pairs[0][1].seeds, stacks=pairs[0][1].stacks
        ),
    )
    assert together.evidence == pytest.approx([float(judged(w, s).evidence[0]) for w, s in pairs])


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=9), st.integers(0, 3))
def test_medians_leave_out_what_is_missing(values: list[float], holes: int) -> None:
    row = np.array([*values, *[math.nan] * holes])
    assert median(row) == pytest.approx(np.median(values))
    assert min(values) <= location(row) <= max(values)


def test_plain_regressions_and_none() -> None:
    for shift, fails, passes in ((0.0, False, True), (math.log(1.25), True, False), (-0.3, False, True)):
        weeks, now = one_history(11, shift=shift, noise=0.03)
        found = judged(weeks, now)
        assert (bool(found.fails[0]), bool(found.passes[0])) == (fails, passes)
    assert bool(judged(*one_history(11, shift=-0.3)).better[0])


def test_a_large_error_of_the_values_leaves_all_open() -> None:
    found = judged(*one_history(3, shift=0.3), error=0.5)
    assert not found.fails[0]
    assert not found.passes[0]
    assert more_runs(found, 3) is None


def test_runs_that_differ_are_asked_for_more_runs() -> None:
    weeks, now = one_history(6, shift=0.16, noise=0.2)
    found = judged(weeks, now)
    assert not found.fails[0]
    assert not found.passes[0]
    assert (more_runs(found, 3) or 0) > 0


def test_a_confirmation_counts_as_a_session_of_its_own() -> None:
    weeks, now = one_history(8, runs=6, noise=0.03)
    values = now.values + np.where(np.arange(6) < 3, 0.2, 0.0)[None, :, None]
    apart = Session(values=values, seeds=now.seeds, stacks=np.array([0, 0, 0, 1, 1, 1]))
    first = Session(values=values[:, :3], seeds=now.seeds[:3], stacks=np.zeros(3, dtype=np.int64))
    assert judged(weeks, first).fails[0]
    assert not judged(weeks, apart).fails[0]
    assert judged(weeks, apart).shift[0] == pytest.approx(0.1, abs=0.05)


def test_too_little_is_refused() -> None:
    weeks, now = one_history(1)
    with pytest.raises(ValueError, match="two runs"):
        judged(weeks, Session(values=now.values[:, :1], seeds=now.seeds[:1], stacks=now.stacks[:1]))
    with pytest.raises(ValueError, match="one week"):
        judged(Weeks(values=weeks.values[:, :0], seeds=weeks.seeds[:0]), now)


def test_the_rules_lines() -> None:
    assert Rule().worse == pytest.approx(math.log(19))
    assert Rule().fine == pytest.approx(-math.log(19))
