"""Is a slow client seen that no percentile over all shows, and is none blamed for what was not its target's doing?"""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.measure.judge import judge
from loadtests.model import records as r
from loadtests.model.ids import SLICE_NS
from loadtests.model.results import Check, Results, Verdict
from tests.measure.simulate import MS, FaultIn, S, World, profile

LIMIT = {"measure": "slowest_client_p95_ms", "at_most": 100.0}
POOLED = {"measure": "latency_p95_ms", "at_most": 100.0}
MANY = [{"name": "plain", "count": 40}]


def check_of(results: Results, start: str) -> Check:
    return next(c for c in results.checks if c.name.startswith(start))


def changed(history: list[Any], change: Any) -> list[Any]:
    return [(n, f._replace(records=[y for x in f.records if (y := change(x)) is not None])) for n, f in history]


def world_of(delay: Any = None, **changes: Any) -> World:
    world = World(profile(**{"consumers": MANY, "thresholds": [LIMIT, POOLED], **changes}))
    world.publish()
    world.subscribe()
    world.deliver(delay=delay)
    return world


def test_one_slow_client_of_forty_fails_where_the_pooled_percentile_passes() -> None:
    world = world_of(lambda m, stay: 410 * MS if stay.consumer == 17 else 0)
    results = judge(world.profile, world.history())
    assert check_of(results, "latency_p95_ms").verdict is Verdict.PASS
    check = check_of(results, "slowest_client_p95_ms")
    assert check.verdict is Verdict.FAIL
    assert check.measured == pytest.approx(415, rel=0.04)
    assert check.evidence[0].startswith("consumer 17 (plain): p95 4")
    assert len(check.evidence) == 5
    assert results.slowest_clients is not None
    assert (results.slowest_clients.judged, results.slowest_clients.too_few) == (40, 0)
    first, second = results.slowest_clients.slowest[:2]
    assert first.consumer == 17
    assert first.deliveries == pytest.approx(
        sum(world.warm <= at for s in world.stays[17:18] for at, _ in s.got), abs=5
    )
    assert second.p95_ms < 15


def test_who_got_too_little_is_counted_and_not_judged() -> None:
    """Of 40 consumers one left early; another's whole group got little."""
    world = world_of()
    world.stays[3].got = world.stays[3].got[:150]
    world.stays[3].end, world.stays[3].why = world.stays[3].got[-1][0] + MS, "peer closed"
    results = judge(world.profile, world.history())
    check = check_of(results, "slowest_client_p95_ms")
    assert check.verdict is Verdict.PASS
    assert "1 of 40 consumers had fewer than 200 deliveries" in check.summary
    short = world_of(publishers=[{"name": "few", "count": 1, "families": ["patterns", "ranks"],
                                  "shape": {"kind": "constant", "rate_per_s": 10.0}}])  # fmt: skip
    check = check_of(judge(short.profile, short.history()), "slowest_client_p95_ms")
    assert check.verdict is Verdict.UNKNOWN
    assert check.summary.startswith("40 of 40 consumers had fewer than 200")


def test_an_older_history_tells_nobody_apart() -> None:
    world = world_of()
    old = changed(world.history(), lambda x: None if isinstance(x, r.ClientLatency) else x)
    results = judge(world.profile, old)
    check = check_of(results, "slowest_client_p95_ms")
    assert check.verdict is Verdict.UNKNOWN
    assert "not captured" in check.summary
    assert check_of(results, "latency_p95_ms").verdict is Verdict.PASS


def cut_world(delay: Any) -> World:
    fault = {"name": "cut", "kind": "down", "link": "client-gateway", "at_s": 4.0, "for_s": 1.0}
    world = World(profile(consumers=MANY, thresholds=[LIMIT], faults=[fault]))
    world.publish()
    world.subscribe()
    start = world.warm + 4 * S
    world.faults.append(FaultIn(name="cut", kind="down", link="client-gateway", start=start, end=start + S))
    world.deliver(delay=delay)
    return world


def test_what_a_fault_delayed_is_not_calm() -> None:
    begin = 3 * S + 4 * S
    world = cut_world(lambda m, stay: 400 * MS if begin <= m.sent < begin + S and stay.consumer < 5 else 0)
    check = check_of(judge(world.profile, world.history()), "slowest_client_p95_ms")
    assert check.verdict is Verdict.PASS, check.summary


def test_what_our_process_read_late_is_not_the_clients() -> None:
    """One second in which our hub stood still makes nobody slow, and the rest still counts."""
    stall = 3 * S + 3 * S
    world = world_of(lambda m, stay: 300 * MS if stall <= m.sent < stall + S else 0)

    def behind(x: Any) -> Any:
        near = isinstance(x, r.HarnessSecond) and stall < x.at_ns <= stall + 2 * S
        return r.HarnessSecond(**{**{f: getattr(x, f) for f in x.__struct_fields__}, "saturated": True}) if near else x

    honest = judge(world.profile, changed(world.history(), behind))
    assert check_of(honest, "slowest_client_p95_ms").verdict is Verdict.PASS
    blamed = judge(world.profile, world.history())
    assert check_of(blamed, "slowest_client_p95_ms").verdict is Verdict.FAIL


def test_groups_that_read_slowly_by_plan_tell_their_own_pace_only() -> None:
    groups = [{"name": "plain", "count": 4}, {"name": "dawdlers", "count": 2, "read_bytes_per_s": 2000}]
    world = world_of(lambda m, stay: 900 * MS if stay.consumer >= 4 else 0, consumers=groups)
    results = judge(world.profile, world.history())
    assert check_of(results, "slowest_client_p95_ms").verdict is Verdict.PASS
    assert results.slowest_clients is not None
    assert results.slowest_clients.judged == 4


def test_the_warm_up_is_not_judged() -> None:
    world = world_of(lambda m, stay: 700 * MS if m.sent < 3 * S - 800 * MS else 0)
    assert check_of(judge(world.profile, world.history()), "slowest_client_p95_ms").verdict is Verdict.PASS
    assert SLICE_NS * 10 == S
