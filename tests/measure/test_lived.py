"""Does a service, or an injector, that ended by itself turn the verdict, and is it named with its time?"""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.measure.judge import judge
from loadtests.model import records as r
from loadtests.model.codec import Frame
from loadtests.model.results import Results, Verdict
from tests.measure.simulate import S, World, profile

LIMIT = {"measure": "lost_defect", "at_most": 0, "phases": ["all"]}


def judged(world: World, *more: Any) -> Results:
    history = world.history()
    number = 1 + max(f.number for name, f in history if name == "main" and isinstance(f, Frame))
    return judge(world.profile, [*history, ("main", Frame(number, list(more)))])


def world() -> World:
    return World(profile(thresholds=[LIMIT])).calm()


def ended(at_ns: int, service: str = "gateway") -> r.ServiceEnded:
    return r.ServiceEnded(service=service, at_ns=at_ns, what="ended by SIGKILL")


def verdict_of(results: Results, name: str) -> Verdict:
    return next(c.verdict for c in results.checks if c.name == name)


def test_nobody_ended_and_all_is_well() -> None:
    results = judged(world())
    assert verdict_of(results, "the target's services lived") is Verdict.PASS
    assert verdict_of(results, "the injector lived") is Verdict.PASS
    assert results.verdict is Verdict.PASS


@pytest.mark.parametrize("service", ["gateway", "redis", "postgres", "producer", "my-own"])
def test_a_service_of_the_target_that_ends_by_itself_fails_the_run(service: str) -> None:
    found = world()
    results = judged(found, ended(found.warm + 2 * S, service))
    assert results.verdict is Verdict.FAIL
    at_s = next(p.to_s for p in results.phases if p.phase == "warm-up") + 2
    assert results.reasons[0] == f"the target's services lived: {service} ended by SIGKILL at {at_s:.1f} s"


def test_toxiproxy_is_ours_so_its_end_is_no_failure_of_the_target() -> None:
    found = world()
    results = judged(found, ended(found.warm + 2 * S, "toxiproxy"))
    assert results.verdict is Verdict.UNKNOWN
    assert "toxiproxy ended by SIGKILL" in results.reasons[0]


def test_an_end_within_a_fault_on_that_very_service_is_that_faults() -> None:
    found = world()
    steps = [
        r.FaultStep(name="squeeze", kind="memory-limit", link="gateway", step=step, before_ns=at, after_ns=at)  # type: ignore[arg-type]
        for step, at in (("active", found.warm + S), ("proved", found.warm + S), ("lifted", found.warm + 3 * S))
    ]
    name = "the target's services lived"
    assert verdict_of(judged(found, *steps, ended(found.warm + 2 * S)), name) is Verdict.PASS
    assert verdict_of(judged(found, *steps, ended(found.warm + 4 * S)), name) is Verdict.FAIL
    assert verdict_of(judged(found, *steps, ended(found.warm + 2 * S, "redis")), name) is Verdict.FAIL


def test_an_injector_that_died_is_unknown_and_named() -> None:
    found = world()
    died = r.Trouble(
        process="injector", from_ns=found.warm + S, to_ns=found.warm + 2 * S,
        what="The injector had died; a new one has swept.",
    )  # fmt: skip
    results = judged(found, died)
    assert results.verdict is Verdict.UNKNOWN
    assert "The injector had died" in results.reasons[0]


def test_a_history_without_an_end_says_how_that_comes_and_where_it_stops() -> None:
    found = world()
    history = [
        (name, Frame(f.number, [x for x in f.records if not isinstance(x, r.Finish)]) if isinstance(f, Frame) else f)
        for name, f in found.history()
    ]
    results = judge(found.profile, history)
    assert results.verdict is Verdict.UNKNOWN
    assert "the leading process was killed or crashed" in results.reasons[0]
    assert "the last fact is of" in results.reasons[0]
