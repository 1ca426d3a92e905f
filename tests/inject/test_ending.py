"""Is one fault lifted early, or dropped from the plan, while all others go on?"""

from __future__ import annotations

import os
import signal

import pytest
from beside import beside

from loadtests.model.injectwire import End, Schedule

from .conftest import NS_PER_S, Run, TestLink, planned

pytestmark = [pytest.mark.e2e, pytest.mark.group("LIFE")]


def in_s(run: Run, seconds: float) -> int:
    return run.now_ns() + round(seconds * NS_PER_S)


@beside
def test_a_fault_in_force_is_lifted_and_another_stays(start, make_link) -> None:
    one, other = make_link(), make_link()
    run = start(one, other)
    faults = [
        planned(link, "down", name=name, at_ns=in_s(run, 1), for_s=60) for link, name in ((one, "one"), (other, "two"))
    ]
    run.handle.send(Schedule(faults=faults))
    run.await_step("one", "active")
    run.await_step("two", "active")
    run.handle.send(End(fault="one", by="by hand"))
    lifted = run.await_step("one", "lifted")
    assert (lifted.by, one.is_clean, other.is_clean) == ("by hand", True, False)
    run.handle.send(End(fault="two", by="by hand"))
    run.await_step("two", "lifted")
    assert other.is_clean


@beside
def test_a_planned_fault_is_dropped_and_says_so(start, link: TestLink) -> None:
    run = start(link)
    faults = [planned(link, "down", name=name, at_ns=in_s(run, 60), for_s=1) for name in ("dropped", "kept")]
    run.handle.send(Schedule(faults=faults))
    run.handle.send(End(fault="dropped", by="by hand"))
    told = run.await_step("dropped", "failed")
    assert (told.by, told.detail) == ("by hand", "it was dropped from the plan before it began")
    assert run.ear.steps("kept") == []


@beside
def test_a_fault_that_is_still_measuring_the_calm_never_acts(start, link: TestLink) -> None:
    run = start(link)
    run.handle.send(Schedule(faults=[planned(link, "down", name="soon", at_ns=in_s(run, 1.9), for_s=60)]))
    run.handle.send(End(fault="soon", by="by hand"))
    told = run.await_step("soon", "failed")
    assert told.by == "by hand"
    assert [step.step for step in run.ear.steps("soon")] == ["failed"]
    assert link.is_clean


@beside
def test_an_injector_that_takes_over_does_not_do_what_was_ended(start, link: TestLink) -> None:
    run = start(link)
    faults = [
        planned(link, "down", name=name, at_ns=in_s(run, s), for_s=1) for name, s in (("ended", 4), ("kept", 4.5))
    ]
    run.handle.send(Schedule(faults=faults))
    run.handle.send(End(fault="ended", by="by hand"))
    run.handle.send(End(fault="nobody", by="by hand"))
    run.await_step("ended", "failed")
    os.kill(run.handle.pid, signal.SIGKILL)
    run.await_step("kept", "lifted")
    assert [step.step for step in run.ear.steps("ended")] == ["failed"]
