"""Does a service, or an injector, that ended by itself turn the verdict, and is it named with its time?"""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.measure.judge import judge
from loadtests.model import records as r
from loadtests.model.codec import Frame
from loadtests.model.fault_kinds import KINDS
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


def steps_of(found: World, kind: str, **lifted: Any) -> list[r.FaultStep]:
    """A fault on the database, proved, from 1 s to 3 s after the warm-up."""
    moments = (("active", found.warm + S), ("proved", found.warm + S), ("lifted", found.warm + 3 * S))
    return [
        r.FaultStep(
            name="held", kind=kind, link="postgres", step=step, before_ns=at, after_ns=at,  # type: ignore[arg-type]
            effective=lifted if step == "lifted" else {},
        )
        for step, at in moments
    ]  # fmt: skip


@pytest.mark.parametrize("kind", sorted(k for k, row in KINDS.items() if row.place == "service"))
def test_a_crash_is_excused_by_no_fault_but_one_that_ends_processes(kind: str) -> None:
    """Whatever the supervisor was asked to end is never told as an end, so what is told is a crash."""
    found = world()
    results = judged(found, *steps_of(found, kind), ended(found.warm + 2 * S, "postgres"))
    excused = kind == "memory-limit"
    lived = verdict_of(results, "the target's services lived")
    assert lived is (Verdict.PASS if excused else Verdict.FAIL)
    assert excused or results.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ({"clean": 0, "probe": "refused"}, "after it was lifted, a probe saw: refused"),
        ({"clean": 0, "probe": None}, "after it was lifted, a probe saw: no answer"),
        ({"clean": 0}, "after it was lifted, a probe saw: no answer"),
        ({"clean": 0, "probe": "answer", "rtt_ms": 80.0}, ""),  # slow is no proof that it is still there
        ({"clean": 1, "probe": "answer"}, ""),
    ],
)
def test_what_does_not_answer_after_the_lifting_is_unknown_and_named(seen: dict[str, Any], told: str) -> None:
    found = world()
    results = judged(found, *steps_of(found, "lock", **seen))
    check = next(c for c in results.checks if c.name == "every fault acted and was lifted")
    assert check.verdict is (Verdict.UNKNOWN if told else Verdict.PASS)
    assert check.evidence == ([f"held: {told}"] if told else [])


def test_another_fault_that_is_still_in_force_explains_why_a_probe_saw_nothing() -> None:
    found = world()
    other = [
        r.FaultStep(name="dead", kind="kill", link="postgres", step=step, before_ns=at, after_ns=at)  # type: ignore[arg-type]
        for step, at in (("active", found.warm + 2 * S), ("proved", found.warm + 2 * S), ("lifted", found.warm + 4 * S))
    ]
    results = judged(found, *steps_of(found, "lock", clean=0, probe="refused"), *other)
    assert verdict_of(results, "every fault acted and was lifted") is Verdict.PASS


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


def test_a_stack_that_vanished_under_a_run_is_no_failure_of_the_target() -> None:
    """What nobody received from the moment at which it was last whole is lost for want of a stack."""
    found = World(profile(thresholds=[LIMIT]))
    found.publish()
    found.subscribe()
    gone = found.warm + 4 * S
    for stay in found.stays:
        stay.end, stay.why = gone + S // 10, "peer closed"
    found.deliver(lose=lambda m, _: m.sent >= gone)
    vanished = r.ServiceEnded(service=r.THE_STACK, at_ns=gone + S, what="vanished: its supervisor is gone")
    trouble = r.Trouble(process="main", from_ns=gone, to_ns=-1, what="the local stack vanished")
    end = gone + 2 * S
    found.finish = r.Finish(
        at_ns=end, reason="error: the local stack vanished", plan_done=False, drained=True, complete=True
    )
    results = judged(found, vanished, trouble)
    assert results.verdict is Verdict.UNKNOWN, results.reasons
    assert results.reasons[0].startswith("the target's services lived: the local stack vanished")
