"""Is what too few samples show ever judged good, and does it say where none were?"""

from __future__ import annotations

import random
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.measure.judge import judge
from loadtests.measure.sample_counts import Sampled, sampled, without
from loadtests.model import records as r
from loadtests.model.results import Check, Results, Verdict
from tests.examples import examples
from tests.measure.simulate import MS, T0, FaultIn, S, World, profile

PERIOD = S // 4
RUN = [(0, 60 * S)]


def check_of(results: Results, start: str) -> Check:
    return next(c for c in results.checks if c.name.startswith(start))


def regular(dice: random.Random, phase: int, jitter: int) -> list[tuple[int, int]]:
    """A sampler that wakes late, by chance, and always at its next due moment."""
    return [(at + phase + int(dice.random() * jitter), 2 * MS) for at in range(-PERIOD, 61 * S, PERIOD)]


@settings(max_examples=examples(50), deadline=None)
@given(st.integers(0, 2**32), st.integers(0, PERIOD), st.integers(0, PERIOD // 5), st.integers(1, 9))
def test_a_sampler_that_is_late_by_chance_gives_enough_however_the_phases_cut_it(
    seed: int, phase: int, jitter: int, pieces: int
) -> None:
    dice = random.Random(seed)
    edges = sorted(dice.randrange(60 * S) for _ in range(2 * pieces))
    spans = list(zip(edges[::2], edges[1::2], strict=True))
    for some in (RUN, spans):
        assert sampled("x", regular(dice, phase, jitter), PERIOD, some).enough


@settings(max_examples=examples(50), deadline=None)
@given(st.integers(0, 2**32), st.floats(0.12, 1.0))
def test_too_few_are_never_enough_wherever_they_lie(seed: int, missing: float) -> None:
    dice = random.Random(seed)
    taken = regular(dice, 10 * MS, 20 * MS)
    kept = dice.sample(taken, round(len(taken) * (1 - missing)))
    more = [(at + 60 * MS, 0) for at, _ in kept]  # asked again at once: that is no other moment
    assert not sampled("x", [*kept, *more], PERIOD, RUN).enough


@pytest.mark.parametrize(("hole", "enough"), [(5, True), (7, False)])
@pytest.mark.parametrize("place", [0, 20, 52])
def test_a_hole_is_found_wherever_it_lies_and_however_many_samples_there_are(
    hole: int, enough: bool, place: int
) -> None:
    from_ns = place * S
    taken = [x for x in regular(random.Random(1), 0, 0) if not from_ns < x[0] < from_ns + hole * PERIOD]
    found = sampled("x", taken, PERIOD, RUN)
    assert found.enough is enough
    if not enough:
        assert found.hole is not None
        assert abs(found.hole[0] - from_ns) < PERIOD
        assert abs(found.hole[1] - from_ns - hole * PERIOD) < PERIOD


def test_one_that_waits_for_its_timeout_stands_for_those_it_kept_from_being_taken() -> None:
    taken = regular(random.Random(1), 0, 0)
    waits = [x for x in taken if not 20 * S < x[0] < 40 * S] + [(at, 2 * S) for at in range(20 * S, 40 * S, 2 * S)]
    assert sampled("x", waits, PERIOD, RUN).enough
    assert not sampled("x", [(at, 0) for at, _ in waits], PERIOD, RUN).enough


def test_time_that_nobody_expects_a_sample_in_is_taken_out() -> None:
    assert without([(0, 10), (20, 30)], [(5, 22), (25, 26), (40, 50)]) == [(0, 5), (22, 25), (26, 30)]
    assert without([(0, 10)], [(0, 10)]) == []
    assert Sampled(source="x", got=0, expected=0, hole=None).enough


LIMITS: dict[str, dict[str, Any]] = {
    "health_ms": {"at_most": 1000.0},
    "cpu_mean_percent": {"at_most": 100.0},
    "growth_mb": {"at_most": 100.0},
    "query_p95_ms": {"at_most": 1000.0},
    "query_max_ms": {"at_most": 1000.0},
    "query_failed": {"at_most": 0.0},
    "clean_coverage": {"at_least": 0.1},
}


def world_of(measure: str) -> World:
    limit = {"measure": measure, "phases": ["all"], **LIMITS[measure]}
    reader = {"name": "r", "count": 2, "rate_per_s": 5.0, "queries": ["symbols_count"]}
    world = World(
        profile(
            run={"duration_s": 20.0, "warm_up_s": 1.0, "drain_s": 2.0, "late_s": 0.5, "settle_ms": 100},
            thresholds=[limit],
            readers=[reader],
            guard={"clean_coverage_min": 0.1},
        )
    ).calm()
    world.ask_health()
    world.query()
    world.samples += [
        r.Samples(source="gateway", at_ns=at, metric=["rss_bytes", "cpu_percent"], value=[1e8, 10.0])
        for at in range(T0 - S, world.end, S)
    ]
    return world


def at_of(x: Any) -> int | None:
    """When it was taken, if it is a sample."""
    if isinstance(x, r.Queried):
        return x.due_slice * 100 * MS
    if isinstance(x, r.Samples | r.HarnessSecond) or (isinstance(x, r.PathProbe) and x.what == "health"):
        return x.at_ns
    return None


WRITTEN: WeakKeyDictionary[World, list[tuple[str, Any]]] = WeakKeyDictionary()
"""What a world has written: to write it anew takes longer than to judge it."""


def dropped(world: World, drop: Any) -> Results:
    """Judged without the samples that were taken at some moments; the world is the same each time."""
    if world not in WRITTEN:
        WRITTEN[world] = world.history()
    history = [
        (name, f._replace(records=[x for x in f.records if (at := at_of(x)) is None or not drop(at)]))
        for name, f in WRITTEN[world]
    ]
    return judge(world.profile, history)


@pytest.mark.parametrize("measure", sorted(LIMITS))
def test_missing_samples_never_judge_good_and_a_hole_is_told_with_its_place(measure: str) -> None:
    world = world_of(measure)
    whole = dropped(world, lambda _: False)
    assert whole.verdict is Verdict.PASS, whole.reasons
    assert "expected samples" in check_of(whole, measure).summary or measure == "growth_mb"
    dice = random.Random(measure)
    thinned = {at: dice.random() < 0.3 for at in range(0, 40 * S, 50 * MS)}
    some = dropped(world, lambda at: thinned.get(at // (50 * MS) * (50 * MS), False))
    assert check_of(some, measure).verdict is Verdict.UNKNOWN, check_of(some, measure)
    begin, end = world.warm + 8 * S, world.warm + 15 * S
    hole = dropped(world, lambda at: begin < at < end)
    check = check_of(hole, measure)
    assert check.verdict is Verdict.UNKNOWN, check
    assert hole.verdict is Verdict.UNKNOWN
    assert "expected samples, none from" in check.summary
    from_s = float(check.summary.partition("none from ")[2].partition(" s")[0])
    assert abs(from_s - (begin - T0) / S) <= 1.0
    most = dropped(world, lambda at: at % (7 * S) != 0)
    assert check_of(most, measure).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("measure", ["health_ms", "query_max_ms", "query_failed"])
def test_one_bad_sample_is_a_failure_however_few_others_there_are(measure: str) -> None:
    world = world_of(measure)
    at = world.warm + 3 * S
    took = ([1900], [1])
    world.extra += [
        r.PathProbe(what="health", at_ns=at, took_ns=-1, ok=False, detail="BadAnswer"),
        r.Queried(
            readers=0, query="symbols_count", due_slice=at // (100 * MS), ok=1, failed=1, connect=([], []),
            latency=took, example="57P01 gone",
        ),
    ]  # fmt: skip
    results = dropped(world, lambda when: when > at + S)
    assert check_of(results, measure).verdict is Verdict.FAIL, check_of(results, measure)


def test_what_a_planned_fault_holds_is_not_expected_and_what_it_does_not_hold_is() -> None:
    for link, verdict in (("gateway", Verdict.PASS), ("redis", Verdict.UNKNOWN)):
        fault = {"name": "dead", "kind": "pause", "service": link, "at_s": 8.0, "for_s": 3.0}
        limit = {"measure": "health_ms", "at_most": 1000.0, "phases": ["all"]}
        world = World(
            profile(
                run={"duration_s": 20.0, "warm_up_s": 1.0, "drain_s": 2.0, "late_s": 0.5, "settle_ms": 100},
                thresholds=[limit],
                faults=[fault],
                target={"test_system": True},
            )
        )
        start = world.warm + 8 * S
        world.faults.append(FaultIn(name="dead", kind="pause", link=link, start=start, end=start + 3 * S))
        world.calm()
        world.ask_health()
        results = dropped(world, lambda at, start=start: start < at < start + 3 * S)
        assert check_of(results, "health_ms").verdict is verdict, link


def test_a_server_that_gives_no_figures_was_asked_for_them() -> None:
    """Redis hangs: its silence is on record, and no hole of ours."""
    for silent, verdict in ((True, Verdict.PASS), (False, Verdict.UNKNOWN)):
        world = world_of("growth_mb")
        hung = range(world.warm + 8 * S, world.warm + 16 * S, 2 * S)
        for at in range(T0, world.end, S):
            if not hung.start <= at < hung.stop:
                world.samples.append(r.Samples(source="redis", at_ns=at, metric=["used_memory"], value=[1e7]))
            elif at in hung and silent:
                world.samples.append(r.Samples(source="redis", at_ns=at, metric=[r.NO_ANSWER], value=[2.0 * S]))
        results = judge(world.profile, world.history())
        assert check_of(results, "growth_mb").verdict is verdict, check_of(results, "growth_mb")
        assert bool(next(g for g in results.growth if g.process == "redis").missing) is not silent
