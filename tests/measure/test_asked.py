"""Does a run whose queries failed or fell silent in or after a fault say so, and never that it recovered?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from loadtests.measure.judge import judge
from loadtests.model import records as r
from loadtests.model.ids import SLICE_NS
from loadtests.model.results import Check, Results, Verdict
from loadtests.tally.histogram import Histogram
from tests.measure.simulate import MS, FaultIn, S, World, profile

READERS = [{"name": "dashboards", "count": 2, "rate_per_s": 4.0}]
LIMITS = [{"measure": m, "at_most": 0.5} for m in ("recovery_s", "outage_s")]
LIMITS += [{"measure": "not_recovered", "at_most": 0}]
Answer = Callable[[int], str | None]
"""At a moment: what is said of a query that was due then; empty for an answer, None for nothing at all."""


def dead(answer: Answer, **changes: Any) -> World:
    """PostgreSQL is dead for two seconds, which touches no delivery."""
    fault = {"name": "db-kill", "kind": "kill", "service": "postgres", "at_s": 2.0, "for_s": 2.0}
    target = {"test_system": True}
    world = World(profile(faults=[fault], readers=READERS, target=target, recovery={"limit_s": 0.5},
                          thresholds=LIMITS, **changes)).calm()  # fmt: skip
    start = world.warm + 2 * S
    world.faults.append(FaultIn(name="db-kill", kind="kill", link="postgres", start=start, end=start + 2 * S))
    took, nothing = Histogram(), Histogram()
    took.add(2 * MS)
    for at in range(world.warm - S, world.plan_end, S // 8):
        if (why := answer(at - start)) is None:
            continue
        world.extra.append(
            r.Queried(readers=0, query="symbols_count", due_slice=at // SLICE_NS, ok=0 if why else 1,
                      failed=1 if why else 0, connect=nothing.sparse(),
                      latency=(nothing if why else took).sparse(), example=why)
        )  # fmt: skip
    return world


def check_of(results: Results, name: str) -> Check:
    return next(c for c in results.checks if c.name.startswith(name))


def judged(world: World) -> Results:
    return judge(world.profile, world.history())


def test_queries_that_fail_for_five_seconds_after_a_kill_are_no_recovery() -> None:
    results = judged(dead(lambda since: "57P01 gone" if 0 <= since < 5 * S else ""))
    assert results.verdict is Verdict.UNKNOWN
    check = check_of(results, "recovery of queries")
    assert check.verdict is Verdict.UNKNOWN
    assert check.summary == (
        "40 queries failed (symbols_count: 57P01 gone) in or after db-kill; the recovery of queries is not measured"
    )
    (recovery,) = results.recovery
    assert (recovery.verdict, recovery.judged) == (Verdict.UNKNOWN, Verdict.UNKNOWN)
    assert "the recovery of queries is not measured" in recovery.summary
    assert {limit.verdict for limit in recovery.limits if limit.measure != "clients_not_back"} == {Verdict.UNKNOWN}
    assert check_of(results, "recovery_s").verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("from_s", [0.0, 2.1, 3.2])
def test_one_that_fails_in_or_long_after_the_fault_is_told(from_s: float) -> None:
    """Not only within the recovery limit of half a second: an outage that begins, or lasts, later is one as well."""
    results = judged(dead(lambda since: "timeout" if from_s * S <= since < from_s * S + S // 8 else ""))
    assert results.verdict is Verdict.UNKNOWN
    assert check_of(results, "recovery of queries").summary.startswith("1 queries failed")


def test_readers_that_fall_silent_are_told() -> None:
    results = judged(dead(lambda since: None if 0 <= since < 3 * S else ""))
    check = check_of(results, "recovery of queries")
    assert check.verdict is Verdict.UNKNOWN
    assert check.summary.startswith("nothing was heard of the queries of dashboards for 3.0 s in or after db-kill")
    assert results.verdict is Verdict.UNKNOWN


def test_where_all_are_answered_the_recovery_says_what_it_is_about() -> None:
    results = judged(dead(lambda since: ""))
    assert check_of(results, "recovery of queries").verdict is Verdict.PASS
    assert results.verdict is Verdict.PASS, results.reasons
    (recovery,) = results.recovery
    assert recovery.verdict is Verdict.PASS
    assert recovery.summary.endswith("of deliveries: the recovery of queries is not measured")


@pytest.mark.parametrize("silent", [False, True])
def test_what_fails_before_a_fault_or_never_answered_is_not_its_recovery(silent: bool) -> None:
    results = judged(dead(lambda since: None if silent else "timeout" if since < -S // 2 else ""))
    assert check_of(results, "recovery of queries").verdict is Verdict.PASS


@pytest.mark.parametrize("why", ["57P01 gone", None])
def test_our_own_trouble_is_not_the_databases(why: str | None) -> None:
    world = dead(lambda since: why if 0 <= since < 2 * S else "")
    start = world.faults[0].start
    world.extra.append(r.Trouble(process="main", from_ns=start - S // 2, to_ns=start + 5 * S // 2, what="it hung"))
    assert check_of(judged(world), "recovery of queries").verdict is Verdict.PASS


def test_without_readers_or_without_faults_nothing_is_asked() -> None:
    assert not [c for c in judged(World(profile(readers=READERS)).calm()).checks if c.name == "recovery of queries"]


# -- which limits judge a fault


def test_a_fault_that_recovered_and_broke_its_threshold_is_no_pass() -> None:
    """Back after 0.8 s: within the 1.5 s beyond which it counts as not recovered, beyond the 0.4 s of the profile."""
    cut = {"name": "cut", "kind": "down", "link": "gateway-redis", "at_s": 3.0, "for_s": 1.0}
    limits = [{"measure": "recovery_s", "at_most": 0.4}, {"measure": "outage_s", "at_most": 5.0, "fault": "cut"},
              {"measure": "outage_s", "at_most": 0.2, "fault": "other"}]  # fmt: skip
    other = {**cut, "name": "other", "link": "gateway-postgres", "at_s": 7.0, "for_s": 0.5}
    run = {"duration_s": 11.0, "warm_up_s": 1.0, "drain_s": 1.0, "late_s": 0.5, "settle_ms": 100}
    world = World(profile(faults=[cut, other], recovery={"limit_s": 1.5}, thresholds=limits, run=run))
    world.publish()
    world.subscribe()
    start = world.warm + 3 * S
    world.faults.append(FaultIn(name="cut", kind="down", link="gateway-redis", start=start, end=start + S))
    later = world.warm + 7 * S
    world.faults.append(FaultIn(name="other", kind="down", link="gateway-postgres", start=later, end=later + S // 2))
    world.deliver(lambda m, stay: start <= m.sent < start + 1800 * MS)
    results = judged(world)
    first, second = results.recovery
    assert (first.verdict, first.judged) == (Verdict.PASS, Verdict.FAIL)
    told = {(x.measure, x.limit): (x.verdict, x.default) for x in first.limits}
    assert told == {
        ("recovery_s", 0.4): (Verdict.FAIL, False),
        ("outage_s", 5.0): (Verdict.PASS, False),
        ("clients_not_back", 0.0): (Verdict.PASS, True),
    }
    assert first.limits[0].measured == first.recovery_s
    assert [(x.measure, x.limit, x.verdict) for x in second.limits] == [
        ("recovery_s", 0.4, Verdict.PASS), ("outage_s", 0.2, Verdict.PASS), ("clients_not_back", 0.0, Verdict.PASS),
    ]  # fmt: skip
    assert second.judged is Verdict.PASS
