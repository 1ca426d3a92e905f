"""Are faults planned from the end of the warm-up, in order, each repeat once?"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from loadtests.model.ids import NS_PER_S
from loadtests.model.profile import Fault, Profile
from loadtests.model.profile_read import read_profile
from loadtests.plan.schedule import plan_end_ns, planned_faults, warm_ns

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
        Fault.model_validate(
            {
                "name": "cut",
                "kind": "down",
                "link": "gateway-redis",
                "at_s": 1.5,
                "for_s": 0.25,
                "repeat": {"times": 3, "every_s": 4},
            }
        ),
        Fault.model_validate(
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
    planned = planned_faults(with_faults(Fault.model_validate(fault | repeat)), t0)
    assert len({p.name for p in planned}) == times
    assert all(p.until_ns > p.at_ns for p in planned)
    assert all(a.until_ns < b.at_ns for a, b in pairwise(planned))
    last = planned[-1].at_ns - planned[0].at_ns
    assert abs(last - (times - 1) * every_s * NS_PER_S) <= 2_000
