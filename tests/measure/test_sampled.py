"""Is a sample believed that says something else than all reads, and is one doubted that is merely a sample?"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.measure.case import case
from loadtests.measure.deliveries import Timed
from loadtests.measure.facts import Ints, fold
from loadtests.measure.figures_time import latency
from loadtests.measure.judge import judge
from loadtests.measure.sampled import contradiction
from loadtests.model import records as r
from loadtests.model.profile import Threshold
from loadtests.model.results import Check, Results, Verdict
from loadtests.tally.histogram import BUCKETS, bucket_of, buckets_of_us
from tests.measure.simulate import MS, S, World, profile

P95 = {"measure": "latency_p95_ms", "at_most": 100.0}
CONSUMERS = 24


def check_of(results: Results, start: str) -> Check:
    return next(c for c in results.checks if c.name.startswith(start))


def dense(values: Any) -> Ints:
    return np.bincount(values, minlength=BUCKETS).astype(np.int64)


# -- the comparison


def test_honest_samples_are_doubted_less_than_once_in_a_hundred_runs() -> None:
    """The deliveries of a fan-out share their delays, reads bring several messages: no reason to doubt chance."""
    doubted = 0
    for seed in range(1000):
        draw = np.random.default_rng(seed)
        shared = np.repeat(draw.lognormal(7, 1, 200), 64)  # each message's delay, to 64 clients
        own = shared + draw.exponential(100, len(shared)) + np.tile(draw.exponential(300, 64), 200)
        whole = buckets_of_us(own.astype(np.int64))
        read = np.cumsum(draw.random(len(own)) < 0.4)
        picked = draw.random(int(read[-1]) + 1) < 1 / 32
        size = np.bincount(read)[picked]
        weight = int((size**2).sum())
        if weight:
            found = contradiction(dense(whole[picked[read]]), dense(whole), float(size.sum()) ** 2 / weight)
            doubted += found is not None
    assert doubted <= 10


@pytest.mark.parametrize("blamed", [False, True])
def test_a_sample_of_the_same_client_again_and_again_is_no_sample(blamed: bool) -> None:
    """Eight of 64 are 410 ms late: none of them was sampled, or nobody else was."""
    draw = random.Random(3)
    fast, slow = bucket_of(3 * MS), bucket_of(410 * MS)
    whole = [slow if draw.random() < 0.125 else fast for _ in range(15_000)]
    sample = [slow if blamed else fast] * 234
    assert contradiction(dense(sample), dense(whole), 234) is not None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2000), min_size=1, max_size=300), st.integers(1, 50), st.integers(0, 9))
def test_a_sample_that_is_shaped_like_the_whole_is_never_doubted(values: list[int], times: int, shift: int) -> None:
    whole = dense(values)
    assert contradiction(whole, whole * times, float(whole.sum())) is None
    assert contradiction(whole, whole, float(whole.sum()) / (shift + 1)) is None


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(40, 2000), st.floats(0.6, 1.0))
def test_the_more_is_sampled_the_less_is_forgiven(few: int, many: int, fast: float) -> None:
    """What contradicts with few contradicts with more of the same."""
    whole = dense([10] * round(1000 * fast) + [900] * (1000 - round(1000 * fast)))
    sample = dense([10] * 1000)
    if contradiction(sample, whole, few) is not None:
        assert contradiction(sample, whole, many) is not None
    assert contradiction(sample, whole, 0) is None


# -- what is judged


def fanned_out(threshold: dict[str, Any], slow: set[int], stamped: Any, ms: int = 410) -> Results:
    """Some consumers get everything late; `stamped` chooses the sampled reads."""
    world = World(profile(consumers=[{"name": "plain", "count": CONSUMERS}], thresholds=[threshold]))
    world.publish()
    world.subscribe()
    world.deliver(delay=lambda m, stay: ms * MS if stay.consumer in slow else 0)
    world.stamped = stamped
    return judge(world.profile, world.history())


def test_where_only_one_client_was_sampled_all_are_judged_and_the_report_says_so() -> None:
    late = {1, 2, 3}
    results = fanned_out(P95, late, lambda m, stay: stay.consumer == 0)
    check = check_of(results, "latency_p95_ms")
    assert check.verdict is Verdict.FAIL
    assert check.measured is not None
    assert check.measured > 400
    assert "that is no chance" in check.summary
    assert "sampled" in results.latency_ms.contradicted
    assert any("that is no chance" in line for line in results.log)


def test_all_are_not_blamed_for_the_one_that_was_sampled() -> None:
    results = fanned_out(P95, {1}, lambda m, stay: stay.consumer == 1)
    check = check_of(results, "latency_p95_ms")
    assert check.verdict is Verdict.PASS, check.summary
    assert results.latency_ms.p50 is not None
    assert results.latency_ms.p50 < 20


def test_a_random_sample_is_judged_by_the_kernels_clock() -> None:
    draw = random.Random(5)
    results = fanned_out(P95, set(), lambda m, stay: draw.random() < 1 / 8)
    check = check_of(results, "latency_p95_ms")
    assert check.verdict is Verdict.PASS
    assert "read clock" not in check.summary
    assert results.latency_ms.contradicted == ""


def test_a_limit_is_not_kept_by_the_luck_of_few_samples() -> None:
    """5.3 % are late; a sample of 200 may well have 4 %. No chance contradicts that, but all reads are there."""
    whole = dense([bucket_of(3 * MS)] * 9470 + [bucket_of(410 * MS)] * 530)
    lucky = dense([bucket_of(3 * MS)] * 1920 + [bucket_of(410 * MS)] * 80)
    found = Timed(kernel=lucky, read=whole, sampled=lucky, size=200, doubtful=False, negative=0, count=10_000)
    assert found.contradicted() == ""
    assert by_all(found) > 400
    unlucky = dense([bucket_of(3 * MS)] * 1890 + [bucket_of(410 * MS)] * 110)
    kept = dense([bucket_of(3 * MS)] * 9530 + [bucket_of(410 * MS)] * 470)
    innocent = replace(found, kernel=unlucky, read=kept, sampled=unlucky)
    assert by_all(innocent) < 10
    assert by_all(replace(innocent, doubtful=True)) > 400, (
        "where some reads came too late to be believed, the stamps are"
    )


def test_what_our_own_reading_added_is_nobodys_lateness() -> None:
    """All reads lie beyond the limit, but so do the sampled ones, whose stamps say that they had come in time."""
    kernel, read = dense([bucket_of(95 * MS)] * 1000), dense([bucket_of(120 * MS)] * 64_000)
    found = Timed(
        kernel=kernel, read=read, sampled=dense([bucket_of(120 * MS)] * 1000), size=1000, doubtful=False, negative=0,
        count=64_000,
    )  # fmt: skip
    assert by_all(found) < 100


def by_all(found: Timed, monkeypatch: Any = None) -> float:
    from loadtests.measure import figures_time

    value = found.spread().p95
    assert value is not None
    whole = figures_time._by_all(found, "p95", value, 100.0)
    return value if whole is None else whole


def test_a_history_without_the_comparison_is_judged_as_before() -> None:
    world = World(profile(thresholds=[P95])).calm()
    world.stamped = lambda m, stay: m.seq % 4 == 0
    history = world.history()

    def older(x: Any) -> Any:
        if isinstance(x, r.ClientLatency):
            return None
        return r.Consumed(**{f: getattr(x, f) for f in x.__struct_fields__[:12]}) if isinstance(x, r.Consumed) else x

    old = [(n, f._replace(records=[y for x in f.records if (y := older(x)) is not None])) for n, f in history]
    threshold = Threshold(measure="latency_p95_ms", at_most=100.0)
    new_figure, old_figure = (latency("p95")(case(world.profile, fold(h)), threshold) for h in (history, old))
    assert new_figure == old_figure
    assert judge(world.profile, old).slowest_clients is None
    assert world.plan_end - world.warm == 8 * S
