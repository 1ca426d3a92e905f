"""Do due times follow the shape, and nothing else?"""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.model.ids import NS_PER_S
from loadtests.model.profile.workload import Shape
from loadtests.plan import pacing
from tests.examples import examples

RATES = st.floats(0.05, 20_000)
SEEDS = st.integers(0, 1 << 30).map(str)


@st.composite
def indexed(draw: st.DrawFn) -> pacing.Constant | pacing.Ramp | pacing.Burst:
    phase = draw(st.floats(0, 0.999))
    match draw(st.sampled_from(("constant", "ramp", "burst", "on-off"))):
        case "constant":
            return pacing.Constant(draw(RATES), phase)
        case "ramp":
            first, last = draw(st.sampled_from(((0.0, 500.0), (500.0, 0.0), (3.0, 3.0), (10.0, 4000.0))))
            return pacing.Ramp(first, last, draw(st.floats(0, 5)), draw(st.floats(0.5, 30)), phase)
        case kind:
            length = draw(st.floats(0.001, 0.5))
            base = 0.0 if kind == "on-off" else draw(st.floats(0, 2000))
            return pacing.Burst(base, draw(RATES), length, length + draw(st.floats(0, 3)), phase)


@given(indexed(), st.integers(0, 40 * NS_PER_S), st.integers(0, NS_PER_S // 50))
@settings(max_examples=examples(200), deadline=None)
def test_the_count_in_any_interval_is_the_integral_of_the_rate_within_one(pacer, start, length) -> None:
    found = pacer.between(start, start + length)
    expected = pacer.planned(start + length) - pacer.planned(start)
    assert abs(len(found) - expected) <= 1 + 1e-3
    assert all(start <= due < start + length for due in found)
    assert found == sorted(found)


@given(indexed(), st.lists(st.integers(0, 3 * NS_PER_S), min_size=1, max_size=6))
@settings(max_examples=examples(100), deadline=None)
def test_cutting_the_plan_into_blocks_neither_loses_nor_repeats(pacer, cuts) -> None:
    edges = [0, *sorted(cuts)]
    if pacer.planned(edges[-1]) > 20_000:
        return
    parts = [due for a, b in itertools.pairwise(edges) for due in pacer.between(a, b)]
    assert parts == pacer.between(0, edges[-1])


@given(st.floats(0.5, 5000), SEEDS, st.integers(0, NS_PER_S), st.integers(0, NS_PER_S))
@settings(max_examples=examples(60), deadline=None)
def test_poisson_is_the_same_from_any_start(rate, seed, a, b) -> None:
    a, b = sorted((a, b))
    whole = pacing.Poisson(rate, seed).between(0, b)
    later = pacing.Poisson(rate, seed)
    assert later.between(a, b) == [due for due in whole if due >= a]
    assert later.before(b) == len(whole)
    assert whole == sorted(whole)


def test_poisson_gaps_are_exponential_also_across_windows() -> None:
    times = pacing.Poisson(1000, "7").between(0, 60 * NS_PER_S)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps) / 1e6
    assert 0.97 < mean < 1.03
    assert 0.97 < (sum((g / 1e6 - mean) ** 2 for g in gaps) / len(gaps)) ** 0.5 < 1.03
    over = sum(g > 2e6 for g in gaps) / len(gaps)  # exp(-2) = 0.1353 of them
    assert 0.125 < over < 0.146


def test_the_first_message_of_a_constant_rate_is_spread_but_bursts_coincide() -> None:
    shape = Shape(kind="constant", rate_per_s=10.0)
    firsts = {
        pacing.pacer(shape, seed=f"1:{slot}", warm_up_s=0, duration_s=1).between(0, NS_PER_S)[0] for slot in range(20)
    }
    assert len(firsts) == 20
    assert max(firsts) < NS_PER_S // 10
    burst = Shape(kind="burst", base_per_s=1.0, peak_per_s=1000.0, length_s=0.05, period_s=1.0)
    for slot in range(20):
        due = pacing.pacer(burst, seed=f"1:{slot}", warm_up_s=0, duration_s=5).between(NS_PER_S, 2 * NS_PER_S)
        assert sum(at < 1.05 * NS_PER_S for at in due) >= 49


def test_a_ramp_holds_through_the_warm_up_and_ends_with_the_plan() -> None:
    shape = Shape(kind="ramp", from_per_s=100.0, to_per_s=300.0)
    due = pacing.pacer(shape, seed="1", warm_up_s=2, duration_s=4).between(0, 100 * NS_PER_S)
    assert sum(at < 2 * NS_PER_S for at in due) == pytest.approx(200, abs=1)
    assert len(due) == pytest.approx(200 + 800, abs=1)
    assert due[-1] < 6 * NS_PER_S


@given(st.sampled_from(("constant", "poisson")), st.integers(1, 300), st.integers(0, 3 * NS_PER_S))
@settings(deadline=None)
def test_at_most_stops_wherever_one_begins(kind, limit, cut) -> None:
    shape = Shape(kind=kind, rate_per_s=100.0, at_most=limit)

    def made() -> pacing.Pacer:
        return pacing.pacer(shape, seed="3", warm_up_s=0, duration_s=9)

    whole = made().between(0, 9 * NS_PER_S)
    assert len(whole) == limit or (len(whole) < limit and limit > 200)
    assert made().between(cut, 9 * NS_PER_S) == [due for due in whole if due >= cut]


@given(SEEDS)
@settings(max_examples=examples(20), deadline=None)
def test_same_seed_same_plan_whatever_was_drawn_elsewhere(seed) -> None:
    shape = Shape(kind="poisson", rate_per_s=200.0)
    first = pacing.pacer(shape, seed=seed, warm_up_s=0, duration_s=2).between(0, NS_PER_S)
    random.random()
    assert pacing.pacer(shape, seed=seed, warm_up_s=0, duration_s=2).between(0, NS_PER_S) == first


def test_no_drift_after_a_week() -> None:
    rate = 997.0
    week = 7 * 24 * 3600 * NS_PER_S
    due = pacing.Constant(rate).between(week, week + NS_PER_S)
    assert len(due) in (996, 997, 998)
    assert abs(due[0] - week) <= NS_PER_S / rate
