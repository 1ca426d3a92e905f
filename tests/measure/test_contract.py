"""Is each consumer judged by the contract of what it asked for: latest only, unmeasured, slow, overrun, in trouble?"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from loadtests.measure.judge import judge
from loadtests.model import records as r
from loadtests.model.results import Results, Verdict
from tests.measure.simulate import MS, S, World, profile


def families(**changes: Any) -> list[dict[str, Any]]:
    return [{**msgspec.convert(f.model_dump(), dict[str, Any]), **changes} for f in profile().families]


def run(world: World, lose: Any = None) -> Results:
    world.publish()
    world.subscribe()
    world.deliver(lose)
    return judge(world.profile, world.history())


def one(m: Any, stay: Any) -> bool:
    return bool(m.seq == 40 and stay.consumer == 1)


def test_latest_forgives_what_a_newer_one_replaced_in_time() -> None:
    for within, forgiven in ((1.0, True), (0.05, False)):
        world = World(profile(families=families(mode="latest", latest_within_s=within)))
        results = run(world, one)
        assert (results.delivery.lost.total == 0) is forgiven
        assert results.delivery.owed == (results.delivery.unique or 0) + (results.delivery.lost.total or 0)


def test_unmeasured_owes_nothing() -> None:
    results = run(World(profile(families=families(mode="unmeasured"))), one)
    assert results.delivery.owed == 0
    assert results.delivery.lost.total == 0
    assert results.verdict is Verdict.UNKNOWN


def test_a_slow_groups_losses_are_no_defects() -> None:
    groups = [{"name": "plain", "count": 1}, {"name": "slow", "count": 1, "expect_slow": True, "read_bytes_per_s": 100}]
    results = run(World(profile(consumers=groups)), one)
    lost = results.delivery.lost
    assert lost.total
    assert lost.defect == 0
    assert lost.broker is None, "nobody saw Redis close a subscriber"
    assert lost.unattributed == lost.total
    assert results.verdict is Verdict.PASS, results.reasons


@pytest.mark.parametrize("who", [0, 1])
def test_what_is_slow_readers_is_told_apart_from_what_passed(who: int) -> None:
    groups = [{"name": "plain", "count": 1}, {"name": "slow", "count": 1, "expect_slow": True, "read_bytes_per_s": 100}]
    limits = [{"measure": m, "at_most": 0.0} for m in ("late", "lost_total")]
    world = World(profile(consumers=groups, thresholds=limits))
    world.publish()
    world.subscribe()
    world.deliver(
        lambda m, stay: m.seq == 40 and stay.consumer == who,
        lambda m, stay: 900 * MS if m.seq == 60 and stay.consumer == who else 0,
    )
    results = judge(world.profile, world.history())
    late, lost = results.checks[:2]
    slow, whole = results.delivery.slow_readers, results.delivery
    assert slow is not None
    assert slow.groups == ["slow"]
    assert [route.expect_slow for route in results.routes] == [False, True, False, True]
    assert whole.late
    assert whole.lost.total
    said = "more by slow readers, who are expected to be"
    if who:
        assert (late.verdict, lost.verdict) == (Verdict.PASS, Verdict.PASS)
        assert late.summary.endswith(f"0, at most 0 allowed; {whole.late} {said}")
        assert lost.summary.endswith(f"; {whole.lost.total} {said}")
        assert (slow.late, slow.lost) == (whole.late, whole.lost.total)
        assert (slow.others_latency_ms.max or 0) < 500 < (results.latency_ms.max or 0)
    else:
        assert (late.verdict, lost.verdict) == (Verdict.FAIL, Verdict.FAIL)
        assert said not in late.summary + lost.summary
        assert (slow.late, slow.lost) == (0, 0)
        assert results.delivery.lost.unattributed == 0


@pytest.mark.parametrize("rises", [False, True])
def test_an_overrun_at_redis_is_the_brokers(rises: bool) -> None:
    world = World(profile())
    lost_at = next(m.sent for m in _planned(world) if m.seq == 40)
    for i, at in enumerate(range(world.warm, world.plan_end, S)):
        value = 1.0 if rises and at > lost_at else 0.0
        world.samples.append(
            r.Samples(source="redis", at_ns=at + i, metric=["client_output_buffer_limit_disconnections"], value=[value])
        )
    first = True

    def lose(m: Any, stay: Any) -> bool:
        nonlocal first
        hit, first = first and m.seq == 40 and stay.consumer == 1, first and not (m.seq == 40 and stay.consumer == 1)
        return hit

    results = run(world, lose)
    assert results.delivery.lost.broker == (1 if rises else None)
    assert results.delivery.lost.defect == (0 if rises else 1)


def _planned(world: World) -> list[Any]:
    other = World(world.profile)
    other.publish()
    return other.messages


def test_trouble_excludes_its_scope_and_nothing_else() -> None:
    world = World(profile())
    at = next(m.sent for m in _planned(world) if m.seq == 40)
    world.extra.append(
        r.Trouble(process="main", from_ns=at - S, to_ns=at + 3 * S, what="the disk was full", consumers=[1])
    )
    results = run(world, one)
    assert results.delivery.lost.total == 0
    assert any("the disk was full" in line for line in results.harness.trouble)
    other = World(profile())
    other.extra.append(
        r.Trouble(process="main", from_ns=at - S, to_ns=at + 3 * S, what="the disk was full", consumers=[2])
    )
    assert run(other, one).delivery.lost.defect


def test_kernel_rows_repeat_deliveries_and_are_judged_where_they_suffice() -> None:
    world = World(profile()).calm()
    history = world.history()
    more = []
    for _, frame in history:
        for record in frame.records:
            if isinstance(record, r.Consumed):
                earlier = ([50], [sum(record.latency[1])])
                more.append(
                    msgspec.structs.replace(record, clock="kernel", unique=0, repeated=0, latency=earlier, bytes=0)
                )
    history[0][1].records[-1:-1] = more
    results = judge(world.profile, history)
    assert results.verdict is Verdict.PASS, results.reasons
    assert results.delivery.owed == results.delivery.unique
    assert results.latency_ms.p50 is not None
    assert results.latency_ms.p50 < 0.1
    assert results.latency_ms.count == results.delivery.unique


def test_a_change_of_the_user_count_ends_the_baseline() -> None:
    cut = {"name": "cut", "kind": "down", "link": "gateway-postgres", "at_s": 3.0, "for_s": 1.0}
    world = World(profile(faults=[cut]))
    from tests.measure.simulate import FaultIn

    start = world.warm + 3 * S
    world.faults.append(FaultIn(name="cut", kind="down", link="gateway-postgres", start=start, end=start + S))
    world.extra += [r.WantedUsers(at_ns=0, wanted={"C": 5}), r.WantedUsers(at_ns=start - 20 * MS, wanted={"C": 6})]
    results = run(world)
    assert results.recovery[0].verdict is Verdict.UNKNOWN
    assert "calm stretch" in results.recovery[0].summary
