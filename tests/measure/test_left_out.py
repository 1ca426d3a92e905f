"""Is what rests on users whom the user left out never the target's failure?  And is every other override named?"""

from __future__ import annotations

import pytest

from loadtests.measure.judge import judge
from loadtests.model import records as r
from loadtests.model.results import Results, Verdict
from tests.measure.simulate import T0, FaultIn, S, World, profile

THRESHOLDS = [
    {"measure": "deliveries", "at_least": 100.0, "phases": ["all"]},
    {"measure": "published", "at_least": 100.0, "phases": ["all"]},
    {"measure": "received_per_s", "at_least": 10.0, "phases": ["all"]},
    {"measure": "delivery_rate", "at_least": 0.9, "phases": ["all"]},
    {"measure": "connected", "at_least": 0.99, "phases": ["all"]},
    {"measure": "not_recovered", "at_most": 0.0, "phases": ["all"]},
    {"measure": "recovery_s", "at_most": 1.0, "phases": ["all"]},
    {"measure": "lost_defect", "at_most": 0.0, "phases": ["all"]},
    {"measure": "latency_p95_ms", "at_most": 100.0, "phases": ["all"]},
    {"measure": "query_p95_ms", "at_most": 100.0, "phases": ["all"]},
    {"measure": "query_failed", "at_most": 0.0, "phases": ["all"]},
]
READERS = [{"name": "screens", "count": 1, "rate_per_s": 1.0, "queries": ["symbols_count"]}]
FIRST = {
    "publishers": "every kind of user took part: no publisher took part",
    "consumers": "every kind of user took part: no consumer took part",
    "readers": "every kind of user took part: no reader took part",
}


def told(**values: str) -> r.Effective:
    """Rows as Locust's options make them."""
    keys = [key.replace("locust_", "locust.") for key in values]
    return r.Effective(
        key=keys, value=list(values.values()), source=["option"] * len(keys), relaxed=[False] * len(keys)
    )


def judged(left_out: str, *, say: bool = True) -> Results:
    faults = [{"name": "cut", "kind": "down", "link": "gateway-redis", "at_s": 3.0, "for_s": 1.0}]
    world = World(profile(thresholds=THRESHOLDS, faults=faults, readers=READERS))
    world.faults = [
        FaultIn(name="cut", kind="down", link="gateway-redis", start=world.warm + 3 * S, end=world.warm + 4 * S)
    ]
    if left_out != "publishers":
        world.publish()
    if left_out != "consumers":
        world.subscribe()
    world.deliver()
    if say:
        world.extra.append(told(**{left_out: "0"}))
    return judge(world.profile, world.history())


@pytest.mark.parametrize("kind", FIRST)
def test_what_rests_on_them_is_unknown_and_they_are_the_first_reason(kind: str) -> None:
    results = judged(kind)
    assert results.verdict is Verdict.UNKNOWN, results.reasons
    assert results.reasons[0].startswith(FIRST[kind]), results.reasons
    assert not [check.name for check in results.checks if check.verdict is Verdict.FAIL]


@pytest.mark.parametrize("kind", ["publishers", "consumers"])
def test_were_nobody_left_out_the_same_history_would_fail(kind: str) -> None:
    assert judged(kind, say=False).verdict is Verdict.FAIL


def test_a_full_crew_passes_the_condition() -> None:
    results = judge(profile(), World(profile()).calm().history())
    assert results.verdict is Verdict.PASS
    assert [c.verdict for c in results.checks if c.name == "every kind of user took part"] == [Verdict.PASS]


def test_a_defect_that_was_seen_fails_whoever_was_left_out() -> None:
    world = World(profile(readers=READERS)).calm()
    lost = next(m for m in world.messages if m.due > T0 + 3 * S)
    for stay in world.stays:
        stay.got = [(at, m) for at, m in stay.got if m is not lost]
    world.extra.append(told(readers="0"))
    results = judge(world.profile, world.history())
    assert results.verdict is Verdict.FAIL
    assert any(reason.startswith(FIRST["readers"]) for reason in results.reasons)


def test_what_locust_was_told_is_named_with_its_source() -> None:
    world = World(profile()).calm()
    world.extra.append(
        r.Effective(key=["locust.run_time"], value=["4"], source=["environment LOCUST_RUN_TIME"], relaxed=[False])
    )
    results = judge(world.profile, world.history())
    assert "Locust was told run_time = 4 (environment LOCUST_RUN_TIME)" in results.reasons
    assert [(e.key, e.source) for e in results.effective] == [("locust.run_time", "environment LOCUST_RUN_TIME")]


def test_a_changed_number_of_users_is_named() -> None:
    world = World(profile()).calm()
    for at_ns, consumers in ((T0 - S, 5), (T0 + 3 * S, 3), (T0 + 5 * S, 3)):
        wanted = {"EventPublisher": 2, "WebSocketClient": consumers}
        world.extra.append(r.WantedUsers(at_ns=at_ns, wanted=wanted))
    reasons = judge(world.profile, world.history()).reasons
    assert reasons[-1] == "3 consumers instead of 5 from 3.0 s on: the user count was changed"
    assert len([reason for reason in reasons if "instead of" in reason]) == 1
