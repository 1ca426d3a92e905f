"""Is the schedule of the blows fair, and does every question to a disturbed run go red where it must?"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.model.codec import pack
from loadtests.model.profile.reading import read_profile
from loadtests.model.records import Note
from proof.chaos_plan import (
    DURATION_S,
    FAULTS,
    PROFILE,
    VICTIMS,
    WARM_UP_S,
    ChaosMoment,
    inside_share,
    schedule,
)
from proof.chaos_watch import FACTS_S, HANG_S, SeenFromOutside, has_hole, last_ns, problems

COUNTS = st.integers(1, 60)
SEEDS = st.integers(0, 1 << 30)


@given(COUNTS, SEEDS)
def test_at_least_half_of_the_moments_lie_inside_a_fault(count: int, seed: int) -> None:
    assert inside_share(schedule(count, seed)) >= 0.5


@given(COUNTS, SEEDS)
def test_ten_moments_in_a_row_see_every_victim(count: int, seed: int) -> None:
    victims = [moment.victim for moment in schedule(count, seed)]
    for first in range(count - 9):
        assert set(victims[first : first + 10]) == set(VICTIMS)
    assert len(set(victims[:8])) == min(count, 8)


@given(COUNTS, SEEDS)
def test_the_same_seed_strikes_at_the_same_instants(count: int, seed: int) -> None:
    assert schedule(count, seed) == schedule(count, seed)


def test_another_seed_strikes_elsewhere() -> None:
    assert [m.at_s for m in schedule(20, 1)] != [m.at_s for m in schedule(20, 2)]


def test_a_worker_can_only_be_struck_where_there_are_workers() -> None:
    assert all(m.workers for m in schedule(60, 3) if m.victim == "worker")


def test_in_twenty_moments_everything_of_ours_is_struck_at_once() -> None:
    assert [m.victim for m in schedule(20, 4) if m.everything] == ["injector and master"]


@given(st.integers(10, 60), SEEDS)
def test_blows_fall_into_every_fault(count: int, seed: int) -> None:
    assert {m.fault for m in schedule(count, seed)} - {""} == set(FAULTS)


@given(SEEDS)
def test_six_moments_already_see_a_fault_that_only_a_journal_undoes(seed: int) -> None:
    kinds = {f.name: f.kind for f in read_profile(PROFILE, file="chaos.toml", environment={}, sets=[]).profile.faults}
    assert {kinds[m.fault] for m in schedule(6, seed) if m.fault} & {"output-buffer", "lock", "pause"}


def test_faults_do_not_overlap_and_end_before_the_run() -> None:
    read = read_profile(PROFILE, file="chaos.toml", environment={}, sets=[]).profile
    faults = sorted(read.faults, key=lambda fault: fault.at_s)
    ends = [f.at_s + f.for_s for f in faults]
    assert all(end < after.at_s for end, after in zip(ends, faults[1:], strict=False))
    assert ends[-1] + 1 < DURATION_S
    assert WARM_UP_S + DURATION_S < 15


def test_the_built_in_profile_is_one_that_a_user_could_write() -> None:
    profile = read_profile(PROFILE, file="chaos.toml", environment={}, sets=[]).profile
    assert [f.name for f in profile.faults] == ["slow", "cut", "small", "locked", "still"]


# -- the questions


def moment(victim: str = "gateway", *, everything: bool = False) -> ChaosMoment:
    return ChaosMoment(
        number=1, victim=victim, fault="slow", at_s=0.3, workers=0, everything=everything, seed=1  # type: ignore[arg-type]
    )  # fmt: skip


CAUSE = {
    "gateway": "the target's services lived: gateway ended by SIGKILL at 2.4 s",
    "redis": "the target's services lived: redis ended by SIGKILL at 2.4 s",
    "toxiproxy": "the plan had not ended: error: toxiproxy ended by SIGKILL at 2.4 s",
    "postgres": "the target's services lived: postgres ended by SIGKILL at 2.4 s",
    "master": "the history is whole: the history has no end: the leading process was killed or crashed, or ...",
    "injector and master": "the history has no end: the leading process was killed or crashed, or it still runs",
    "injector": "the injector lived: 2.4 s: The injector had died; a new one has swept.",
    "worker": "worker-1 published and was lost: the worker is gone",
    "disk full": "the history could not be written: No space left on device",
    "disk read-only": "error: the history cannot be written: Read-only file system",
}
FINE = SeenFromOutside(
    at_s=2.4,
    fault="latency on tickstorm.client-gateway",
    status=3,
    verdict="UNKNOWN",
    reasons=[CAUSE["gateway"]],
    said="",
    again_status=3,
    again_verdict="UNKNOWN",
    again_reasons=[],
    facts_s=0.8,
    torn=[],
    over_s=2.0,
    healed_s=1.0,
    left=[],
    left_at_last=[],
    changed=[],
    stopped=[],
    processes=[],
)


def found(**changes: Any) -> list[str]:
    return problems(moment(), dataclasses.replace(FINE, **changes))


def test_what_was_survived_in_order_has_no_problem() -> None:
    assert found() == []


@pytest.mark.parametrize("victim", VICTIMS)
def test_every_victim_has_a_cause_of_its_own(victim: str) -> None:
    seen = dataclasses.replace(FINE, reasons=[CAUSE[victim]])
    assert problems(moment(victim), seen) == []
    others = [c for v, c in CAUSE.items() if not ({v, victim} <= {"master", "injector and master"} or v == victim
                                                  or {v, victim} == {"disk full", "disk read-only"})]  # fmt: skip
    for other in others:
        assert problems(moment(victim), dataclasses.replace(FINE, reasons=[other])), other


@pytest.mark.parametrize(
    "changes",
    [
        {"left": ["latency on tickstorm.client-gateway"], "healed_s": None},
        {"left": ["x is disabled"], "left_at_last": ["x is disabled"]},
        {"left": ["postgres lock on events: nothing -> held"], "healed_s": None},
        {"left": ["producer state: ready -> paused"], "healed_s": None},
        {"changed": ["redis setting maxmemory: 0 -> 1000000"]},
        {"stopped": ["4711 python -m loadtests.inject"]},
        {"processes": ["4711 python -m loadtests.inject"]},
        {"facts_s": FACTS_S + 0.1},
        {"facts_s": None},
        {"torn": ["main.tsh"]},
        {"over_s": HANG_S + 0.1},
        {"verdict": "PASS", "status": 0},
        {"again_verdict": "PASS", "again_status": 0},
        {"status": 0},
        {"status": -9},
        {"status": 1},
        {"verdict": "FAIL", "status": 3},
        {"again_status": 2, "again_verdict": ""},
        {"reasons": ["recovered from every fault: cut: not recovered (> 2 s)"]},
        {"reasons": []},
    ],
    ids=str,
)
def test_a_planted_leftover_is_found(changes: dict[str, Any]) -> None:
    assert found(**changes)


def test_when_all_of_ours_died_at_once_the_next_start_may_heal() -> None:
    left = dataclasses.replace(
        FINE, left=["x is disabled"], healed_s=None, status=-9, verdict="", again_reasons=[CAUSE["master"]]
    )
    assert problems(moment("injector and master", everything=True), left) == []
    still = dataclasses.replace(left, left_at_last=["x is disabled"])
    assert problems(moment("injector and master", everything=True), still)
    assert problems(moment("injector and master"), left)


def test_a_torn_tail_is_no_hole_but_frames_behind_one_are() -> None:
    frames = [b"".join(pack(number, [Note(at_ns=number, text="x")])) for number in range(3)]
    assert not has_hole(b"".join(frames))
    assert not has_hole(b"".join(frames)[:-3])
    assert has_hole(frames[0] + frames[1][:-3] + frames[2])
    assert last_ns(b"".join(frames)[:-3]) == 1
    assert last_ns(b"") is None
