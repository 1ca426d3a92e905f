"""Which schedules and abort guards are refused, and with which sentence?"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from loadtests.model.profile.profile import Profile
from tests.measure.simulate import profile

CUT = {"name": "cut", "kind": "down", "link": "gateway-redis", "at_s": 3.0, "for_s": 1.0}
RUN = {"duration_s": 60.0, "warm_up_s": 1.0, "drain_s": 2.0, "late_s": 0.5}


def problems(**changes: Any) -> str:
    try:
        profile(**{"run": RUN, **changes})
    except ValidationError as error:
        return "; ".join(detail["msg"] for detail in error.errors())
    return ""


def faults(*more: dict[str, Any], duration_s: float = 60.0) -> str:
    return problems(faults=[{**CUT, **one} for one in more], run={**RUN, "duration_s": duration_s})


def test_a_chain_is_taken_and_its_worst_case_must_fit() -> None:
    chain = ({"name": "a"}, {"name": "b", "at_s": 1.0, "after": "a"}, {"name": "c", "at_s": 0.0, "after": "b"})
    # a ends at 4, is given up at 5.6; b ends at 8.6 at the latest, is given up at 10.2; c ends at 12.2 and needs 1.6
    assert faults(*chain, duration_s=13.8) == ""
    assert "ends 12.2 s after the warm-up at the latest" in faults(*chain, duration_s=13.7)


def test_random_repeats_are_judged_by_their_worst_case() -> None:
    often = {"repeat": {"times": 3, "every_s": 5.0, "random": True}}
    # the third may end at 3 + 15 - 0.6
    assert faults(often, duration_s=19.0) == ""
    assert "ends 17.4 s after the warm-up at the latest" in faults(often, duration_s=18.9)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([{"after": "nobody"}], 'faults[0].after: found "nobody", allowed nothing: there is no other fault'),
        ([{}, {"name": "b", "after": "nobody"}], 'faults[1].after: found "nobody", allowed one of "cut"'),
        ([{"after": "cut"}], 'faults[0].after: found "cut", but these faults wait for each other'),
        (
            [{"name": "a", "after": "b"}, {"name": "b", "after": "a"}],
            'faults[1].after: found "a", but these faults wait for each other',
        ),
        (
            [{"repeat": {"times": 3, "every_s": 6.0, "random": True}}, {"name": "b", "at_s": 12.0}],
            'may overlap "cut#2"',
        ),
        ([{}, {"name": "b", "after": "cut"}, {"name": "c", "at_s": 8.0}], 'on "gateway-redis", allowed only where'),
    ],
)
def test_what_can_never_be_is_refused(more: list[dict[str, Any]], sentence: str) -> None:
    assert sentence in faults(*more)


def test_one_that_waits_for_a_broken_chain_is_not_blamed() -> None:
    said = faults({"name": "a", "after": "nobody"}, {"name": "b", "after": "a"})
    assert "faults[0].after" in said
    assert "faults[1].after" not in said


GUARD = {"measure": "target_memory_mb", "at_most": 500.0}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"measure": "host_free_memory_mb"}, "at_least: found nothing, allowed a number"),
        ({"at_least": 3.0}, 'at_least: found 3.0, allowed nothing: "target_memory_mb" takes at_most'),
        ({"measure": "error_share", "at_most": 1.5}, "at_most: found 1.5, allowed 0 to 1"),
        ({"measure": "lost_share", "at_most": 0.5, "process": "redis"}, 'process: found "redis", allowed nothing'),
        ({"process": "nobody"}, 'aborts[0].process: found "nobody", allowed one of "redis"'),
        ({"for_s": 60.0}, "aborts[0].for_s: found 60, allowed below run.duration_s, 60"),
    ],
)
def test_a_guard_that_could_never_speak_is_refused(changes: dict[str, Any], sentence: str) -> None:
    assert problems(aborts=[GUARD]) == ""
    assert sentence in problems(aborts=[{**GUARD, **changes}])


def test_a_guard_is_said_once_and_knows_its_side() -> None:
    assert "aborts[1].measure" in problems(aborts=[GUARD, GUARD])
    assert problems(aborts=[GUARD, {**GUARD, "process": "redis"}]) == ""
    made: Profile = profile(aborts=[GUARD, {"measure": "host_free_memory_mb", "at_least": 100.0, "for_s": 0.0}])
    most, least = made.aborts
    assert (most.beyond(501), most.beyond(500), least.beyond(99), least.beyond(100)) == (True, False, True, False)
    assert most.said == "target_memory_mb > 500 for 3 s"
