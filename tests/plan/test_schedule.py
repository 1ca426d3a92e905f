"""Are faults planned from the end of the warm-up, in order, each repeat once?"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from loadtests.model.ids import NS_PER_S
from loadtests.model.profile.faults import Fault, fault_of
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.reading import read_profile
from loadtests.plan.schedule import followers, last_end_ns, plan_end_ns, planned_faults, warm_ns

T0 = 7 * NS_PER_S + 5
FIRST_RUN = read_profile((Path(__file__).parents[2] / "profiles" / "first-run.toml").read_bytes(), file="x").profile


def with_faults(*faults: Fault) -> Profile:
    return FIRST_RUN.model_copy(update={"faults": list(faults)})


def test_times_count_from_the_end_of_the_warm_up() -> None:
    (slow, cut, clients) = planned_faults(FIRST_RUN, T0)
    assert warm_ns(FIRST_RUN, T0) == T0 + 3 * NS_PER_S
    assert (slow.name, slow.at_ns, slow.until_ns) == ("slow-redis", T0 + 11 * NS_PER_S, T0 + 16 * NS_PER_S)
    assert slow.asked == {"latency_ms": 250}
    assert slow.direction == "downstream"
    assert (cut.kind, cut.link, cut.asked) == ("down", "gateway-redis", {})
    assert clients.until_ns - clients.at_ns == 2 * NS_PER_S
    assert plan_end_ns(FIRST_RUN, T0) == T0 + 60 * NS_PER_S


def test_a_repeated_fault_is_several() -> None:
    profile = with_faults(
        fault_of(
            {
                "name": "cut",
                "kind": "down",
                "link": "gateway-redis",
                "at_s": 1.5,
                "for_s": 0.25,
                "repeat": {"times": 3, "every_s": 4},
            }
        ),
        fault_of(
            {"name": "thin", "kind": "bandwidth", "link": "client-gateway", "at_s": 3, "for_s": 1, "rate_kb_per_s": 9}
        ),
    )
    planned = planned_faults(profile, 0)
    assert [(fault.name, fault.at_ns / NS_PER_S) for fault in planned] == [
        ("cut#1", 4.5),
        ("thin", 6.0),
        ("cut#2", 8.5),
        ("cut#3", 12.5),
    ]
    assert planned[1].asked == {"rate_kb_per_s": 9}


def test_no_fault_no_plan() -> None:
    assert planned_faults(with_faults(), T0) == []


@given(
    at_s=st.floats(0, 1000),
    for_s=st.floats(0.001, 100),
    times=st.integers(1, 50),
    gap_s=st.floats(0.01, 100),
    t0=st.integers(0, 10**15),
)
def test_occurrences_never_overlap_and_do_not_drift(
    at_s: float, for_s: float, times: int, gap_s: float, t0: int
) -> None:
    every_s = for_s + gap_s
    fault = {"name": "f", "kind": "down", "link": "gateway-redis", "at_s": at_s, "for_s": for_s}
    repeat = {"repeat": {"times": times, "every_s": every_s}}
    planned = planned_faults(with_faults(fault_of(fault | repeat)), t0)
    assert len({p.name for p in planned}) == times
    assert all(p.until_ns > p.at_ns for p in planned)
    assert all(a.until_ns < b.at_ns for a, b in pairwise(planned))
    last = planned[-1].at_ns - planned[0].at_ns
    assert abs(last - (times - 1) * every_s * NS_PER_S) <= 2_000


def cut(name: str, **more: object) -> Fault:
    return fault_of({"name": name, "kind": "down", "link": "gateway-redis", "for_s": 1.0, **more})


@given(seed=st.integers(0, 2**31), times=st.integers(2, 30), slack_s=st.floats(0, 20))
def test_random_instants_are_drawn_by_the_seed_one_in_each_stretch(seed: int, times: int, slack_s: float) -> None:
    hold_s = FIRST_RUN.steady.hold_s
    every_s = 1.0 + hold_s + slack_s
    fault = cut("f", at_s=5.0, repeat={"times": times, "every_s": every_s, "random": True})
    profile = with_faults(fault).model_copy(update={"seed": seed})
    planned = planned_faults(profile, T0)
    assert planned == planned_faults(profile, T0)
    for number, one in enumerate(planned):
        from_s = (one.at_ns - warm_ns(profile, T0)) / NS_PER_S
        assert 5 + number * every_s - 1e-6 <= from_s <= 5 + (number + 1) * every_s - 1 - hold_s + 1e-6
    if slack_s > 1:
        assert planned != planned_faults(profile.model_copy(update={"seed": seed + 1}), T0)


def test_what_waits_is_not_planned_before_its_time_has_come() -> None:
    profile = with_faults(
        cut("first", at_s=5), cut("second", at_s=4, after="first"), cut("third", at_s=0, after="second")
    )
    first = planned_faults(profile, T0)
    assert [f.name for f in first] == ["first"]
    over = T0 + 30 * NS_PER_S
    (second,) = followers(profile, "first", over, over)
    assert (second.name, second.at_ns, second.until_ns) == ("second", over + 4 * NS_PER_S, over + 5 * NS_PER_S)
    (third,) = followers(profile, "second", over, over + 5)
    assert third.at_ns == over + 5 + NS_PER_S  # no time to announce it: later, and as long
    assert third.until_ns - third.at_ns == NS_PER_S
    assert followers(profile, "third", over, over) == []


def test_who_waits_for_a_repeated_fault_waits_for_its_last() -> None:
    profile = with_faults(cut("often", at_s=5, repeat={"times": 3, "every_s": 8}), cut("then", at_s=1, after="often"))
    planned = planned_faults(profile, T0)
    assert last_end_ns(profile, planned, "often") == warm_ns(profile, T0) + 22 * NS_PER_S
    assert last_end_ns(profile, planned, "then") is None
