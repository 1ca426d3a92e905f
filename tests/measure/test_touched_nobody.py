"""Do the three results of a proof count?  What acted explains losses, what touched nobody none, the unseen is open."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loadtests.measure.analysis import Analysis
from loadtests.measure.attribution import UNATTRIBUTED
from loadtests.measure.history_tables import fold
from loadtests.measure.judge import judge
from loadtests.measure.stages import analyse
from loadtests.model.records import ACTED, NOT_OBSERVABLE, NOTHING
from loadtests.model.results import Check, RecoveryResult, Results, Verdict
from tests.measure.simulate import MS, WHY, FaultIn, S, World, profile

LIMIT: dict[str, Any] = {"recovery": {"limit_s": 1.5}}


def world_of(touched: str, *, kind: str = "down", thresholds: Any = None) -> tuple[World, FaultIn]:
    fault = {"name": "cut", "kind": kind, "link": "gateway-redis", "at_s": 3.0, "for_s": 1.0}
    fault |= {"latency_ms": 50} if kind == "latency" else {}
    more = {} if thresholds is None else {"thresholds": thresholds}
    world = World(profile(faults=[fault], **LIMIT, **more))
    world.publish()
    world.subscribe()
    start = world.warm + 3 * S
    it = FaultIn(name="cut", kind=kind, link="gateway-redis", start=start, end=start + S, touched=touched)
    world.faults.append(it)
    return world, it


def few(it: FaultIn) -> Any:
    """So few messages of its time that the run stays within its band."""
    return lambda m, stay: it.start < m.sent < it.end and stay.consumer == 0 and m.seq % 6 == 0


def all_of(it: FaultIn) -> Any:
    return lambda m, stay: it.start <= m.sent < it.end


def judged(world: World, lose: Any = None) -> tuple[Results, RecoveryResult]:
    world.deliver(lose)
    results = judge(world.profile, world.history())
    (recovery,) = results.recovery
    return results, recovery


def unattributed(world: World) -> int:
    found: Analysis = analyse(world.profile, fold(world.history()))
    return int(np.asarray(found.ledger.lost())[UNATTRIBUTED].sum())


def check_of(results: Results, name: str) -> Check:
    return next(c for c in results.checks if c.name.startswith(name))


@pytest.mark.parametrize("lose", [few, all_of])
@pytest.mark.parametrize("kind", ["down", "latency"])
def test_what_is_lost_while_a_fault_touches_nobody_is_a_defect(kind: str, lose: Any) -> None:
    world, it = world_of(NOTHING, kind=kind)
    results, recovery = judged(world, lose(it))
    assert results.delivery.lost.total
    assert results.delivery.lost.defect == results.delivery.lost.total
    assert results.delivery.lost.charged == 0
    assert results.verdict is Verdict.FAIL
    assert recovery.verdict is Verdict.UNKNOWN
    assert recovery.summary == f"cut: it touched nobody: {WHY}"
    assert recovery.recovery_s is None
    assert {span.phase for span in results.phases}.isdisjoint({"fault", "recovery"})


def test_a_fault_that_touches_nobody_makes_the_run_unknown_with_its_reason() -> None:
    world, _ = world_of(NOTHING)
    results, recovery = judged(world)
    assert results.verdict is Verdict.UNKNOWN
    assert "no visible impact" not in recovery.summary
    assert check_of(results, "every fault acted").summary == f"cut: it touched nobody: {WHY}"
    (fault,) = results.faults
    assert not fault.proved


def test_who_is_thrown_out_while_a_fault_touches_nobody_is_the_targets() -> None:
    world, it = world_of(NOTHING)
    world.stays[0].end, world.stays[0].why = it.start + 300 * MS, "closed by the target"
    excused, same = world_of(ACTED)
    excused.stays[0].end, excused.stays[0].why = same.start + 300 * MS, "closed by the target"
    missed, _ = judged(world)
    acted, _ = judged(excused)
    assert missed.delivery.away is not None
    assert acted.delivery.away is not None
    assert missed.delivery.away.charged == 0
    assert (missed.delivery.away.disconnected or 0) > (acted.delivery.away.disconnected or 0)


def test_what_acted_may_have_no_visible_impact() -> None:
    world, _ = world_of(ACTED)
    results, recovery = judged(world)
    assert recovery.summary == "cut: no visible impact"
    assert recovery.verdict is Verdict.PASS
    assert results.faults[0].proved


def test_a_history_of_before_is_judged_as_before() -> None:
    for touched in ("", ACTED):
        world, it = world_of(touched)
        results, recovery = judged(world, all_of(it))
        assert recovery.verdict is Verdict.PASS
        assert results.delivery.lost.charged == results.delivery.lost.total


def test_what_is_lost_under_a_fault_that_nobody_could_observe_is_nobodys() -> None:
    world, it = world_of(NOT_OBSERVABLE)
    results, recovery = judged(world, few(it))
    assert results.delivery.lost.total
    assert results.delivery.lost.defect == 0
    assert results.delivery.lost.charged == 0
    assert unattributed(world) == results.delivery.lost.total
    assert recovery.verdict is Verdict.UNKNOWN
    assert recovery.summary == f"cut: whether it touched anybody could not be observed: {WHY}"
    assert results.verdict is Verdict.UNKNOWN


def test_even_what_is_passed_over_under_an_unseen_delay_is_nobodys() -> None:
    """A delay takes nothing, but it cannot be known that the path was under it alone."""
    world, it = world_of(NOT_OBSERVABLE, kind="latency")
    results, _ = judged(world, few(it))
    assert results.delivery.lost.defect == 0
    assert unattributed(world) == results.delivery.lost.total > 0


def test_a_visible_impact_on_its_path_proves_what_could_not_be_observed() -> None:
    world, it = world_of(NOT_OBSERVABLE)
    results, recovery = judged(world, all_of(it))
    assert recovery.verdict is Verdict.PASS
    assert results.faults[0].proved
    assert results.delivery.lost.charged == results.delivery.lost.total
    assert unattributed(world) == 0


def test_a_breach_before_or_after_it_proves_nothing() -> None:
    for from_s, to_s in ((-1.5, -0.5), (1.7, 2.4)):
        world, it = world_of(NOT_OBSERVABLE)
        low, high = it.start + round(from_s * S), it.start + round(to_s * S)
        _, recovery = judged(world, lambda m, stay, low=low, high=high: low <= m.sent < high)
        assert recovery.verdict is Verdict.UNKNOWN


def test_another_fault_has_its_recovery_whatever_met_nobody_beside_it() -> None:
    alone, cut = world_of(ACTED)
    _, expected = judged(alone, all_of(cut))
    world, cut = world_of(ACTED)
    world.faults.append(
        FaultIn(
            name="idle", kind="down", link="gateway-redis", start=cut.end - S // 2, end=cut.end + S, touched=NOTHING
        )
    )
    world.deliver(all_of(cut))
    found = {r.fault: r for r in judge(world.profile, world.history()).recovery}
    assert found["cut"].recovery_s == expected.recovery_s
    assert found["cut"].summary == expected.summary
    assert found["idle"].verdict is Verdict.UNKNOWN
