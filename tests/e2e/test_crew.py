"""Do exactly the chosen users of a run play a fault, in every process, and is it proved, lifted and told?"""

from __future__ import annotations

import re

import pytest
from launching import Bench, Run, Started

from loadtests.model.records import ChosenUsers, FaultStep, Subscription

pytestmark = [pytest.mark.e2e, pytest.mark.group("JUDGED")]

PROFILE = """
name = "crew"
question = "What do faults that the users play themselves cost?"

[run]
duration_s = 15
warm_up_s = 1
drain_s = 1
late_s = 1
connect_s = 20

[[families]]
name = "patterns"
channel = "tickstock.events.patterns"
event = "pattern_detected"
symbols = 2

[[publishers]]
name = "prices"
count = 2
families = ["patterns"]
shape = { kind = "constant", rate_per_s = 50 }

[[consumers]]
name = "plain"
count = 12

[[consumers]]
name = "sio"
count = 4
transport = "socketio"

[steady]
hold_s = 0.5

[recovery]
limit_s = 3

[[faults]]
name = "stall"
kind = "stalled-consumers"
consumers = "plain"
share = 0.5
at_s = 2
for_s = 1.5

[[faults]]
name = "away"
kind = "offline-consumers"
share = 0.25
at_s = 4.5
for_s = 1.5

[[faults]]
name = "storm"
kind = "reconnect-storm"
at_s = 7
for_s = 1.5

[[faults]]
name = "noise"
kind = "bad-input"
form = "unknown"
share = 0.2
at_s = 9.5
for_s = 1.0

[[thresholds]]
measure = "lost_defect"
at_most = 0
"""


@pytest.fixture(scope="module")
def played(bench: Bench) -> tuple[Run, Started]:
    child = bench.start("run", bench.profile(PROFILE, "crew"), "--workers", "2")
    child.wait(90)
    return bench.run_of(child), child


def steps(run: Run, fault: str) -> dict[str, FaultStep]:
    return {step.step: step for step in run.of(FaultStep) if step.name == fault}


def chosen(run: Run, fault: str) -> ChosenUsers:
    (found,) = [record for record in run.of(ChosenUsers) if record.fault == fault]
    return found


@pytest.mark.parametrize("fault", ["stall", "away", "storm", "noise"])
def test_each_is_proved_and_lifted_by_plan(played: tuple[Run, Started], fault: str) -> None:
    run, child = played
    found = steps(run, fault)
    assert set(found) == {"announced", "active", "proved", "lifted"}, (found, child.said)
    assert found["lifted"].by == "plan"
    assert found["lifted"].effective["clean"] == 1
    assert found["lifted"].after_ns - found["lifted"].before_ns < 1_500_000_000


def test_exactly_the_chosen_ones_went_away_and_came_back(played: tuple[Run, Started]) -> None:
    run, _ = played
    away = chosen(run, "away")
    assert len(away.consumers) == 4
    subs = [s for s in run.of(Subscription) if away.from_ns <= s.at_ns < chosen(run, "storm").from_ns]
    left = [s for s in subs if s.step == "left"]
    assert sorted(s.consumer for s in left) == away.consumers
    assert {(s.why, s.detail) for s in left} == {("fault", "away")}
    assert sorted({s.consumer for s in subs if s.step == "confirmed"}) == away.consumers


def test_exactly_the_chosen_ones_stalled(played: tuple[Run, Started]) -> None:
    run, _ = played
    stall = chosen(run, "stall")
    assert len(stall.consumers) == 6
    assert set(stall.consumers) < set(range(12))
    proof = steps(run, "stall")["proved"].effective
    assert proof["chosen"] == proof["in_force"] == proof["measured"] == 6
    assert proof["read_bytes"] == 0
    assert proof["unread_bytes"] > 0


def test_the_chosen_ones_were_in_both_workers(played: tuple[Run, Started]) -> None:
    run, _ = played
    for process in ("worker-0", "worker-1"):
        here = {s.consumer for s in run.of(Subscription, process)}
        assert here & set(chosen(run, "stall").consumers), process


def test_all_took_part_in_the_storm(played: tuple[Run, Started]) -> None:
    run, _ = played
    assert chosen(run, "storm").consumers == list(range(16))
    proof = steps(run, "storm")["proved"].effective
    assert proof["closed"] == proof["back"] == 16
    assert proof["gateway_connects"] >= 16


def test_bad_messages_were_taken_by_redis_rejected_by_the_gateway_and_never_offered(
    played: tuple[Run, Started],
) -> None:
    run, _ = played
    assert chosen(run, "noise").publishers == [0, 1]
    assert chosen(run, "noise").consumers == []
    proof = steps(run, "noise")["proved"].effective
    assert proof["acknowledged"] >= 1
    assert proof["gateway_rejected"] >= 1
    assert run.results["delivery"]["published"] == 2 * 50 * 16
    assert run.results["delivery"]["foreign"] == 0


def test_nothing_was_lost_by_the_target(played: tuple[Run, Started]) -> None:
    run, child = played
    assert run.results["delivery"]["lost"]["defect"] == 0, child.said
    assert child.nothing_left()
    assert not re.search(r"Traceback", child.said)
