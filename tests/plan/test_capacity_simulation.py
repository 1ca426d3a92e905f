"""Does a whole session, in virtual time, find a limit that is known, and say UNKNOWN where load does not decide it?"""

from __future__ import annotations

import msgspec
import pytest
from capacity_simulation import LATENCY, LOSS, Target, session, told

from loadtests.measure.capacity import conclude, exit_status
from loadtests.model.capacity import Capacity, CapacityAsked

ASKED = CapacityAsked(limits=[LATENCY, LOSS])
WITH_STALLS = 0.915
"""Of the bucket: the load at which half of all holds of 120 s are good, where a stall of 0.6 s comes each 120 s and has
to be caught up (bisected over 20 seeds a load)."""


def found(asked: CapacityAsked = ASKED, **target: float) -> list[Capacity]:
    answers = []
    for seed in range(10):
        one = Target(seed=seed, **target)  # type: ignore[arg-type]
        search, trials = session(one, asked)
        answers.append(conclude(trials, asked, ended=search.ended, spent_s=one.now_s))
    return answers


@pytest.mark.parametrize("bucket", [3000, 6000, 12_000])
def test_a_bucket_is_found_within_its_bracket(bucket: float) -> None:
    answers = found(per_s=bucket)
    right = [
        c.confidence == "held"
        and c.low is not None
        and c.high is not None
        and c.low <= 1.03 * bucket
        and c.high >= 0.95 * bucket
        and c.high <= 1.06 * c.low
        for c in answers
    ]
    assert sum(right) >= 9, [told(c) for c in answers]
    assert all(c.spent_s is not None and c.spent_s <= 600 for c in answers)
    assert all(exit_status(c) == 0 for c in answers)


def test_what_a_delivery_costs_is_found() -> None:
    for c in found(per_s=6000, cpu_us=150.0):
        (gateway,) = (cost for cost in c.cost if cost.what.startswith("gateway: CPU"))
        assert gateway.value == pytest.approx(150, rel=0.05)
        assert "Gateway CPU" in c.bottleneck_sentence


def test_rare_stalls_lower_the_limit_and_do_not_hide_it() -> None:
    answers = found(per_s=6000, stall_s=0.6, stall_every_s=120.0)
    near = []
    for c in answers:
        if c.low is not None and c.high is not None:
            near.append(abs((c.low * c.high) ** 0.5 / (WITH_STALLS * 6000) - 1) <= 0.1)
    assert sum(near) >= 9, [told(c) for c in answers]


def test_frequent_stalls_are_unknown_and_never_told_above_the_bucket() -> None:
    answers = found(per_s=6000, stall_s=0.6, stall_every_s=20.0)
    assert sum(c.confidence == "unknown" for c in answers) >= 6, [told(c) for c in answers]
    assert all(c.low is None or c.low <= 6000 for c in answers)
    assert all(exit_status(c) == 3 for c in answers if c.confidence == "unknown")
    assert any("decide this limit, not load" in reason for c in answers for reason in c.found.reasons)


def test_a_target_beyond_the_range_is_at_least_and_a_plan_above_it_is_unknown() -> None:
    asked = msgspec.structs.replace(ASKED, to=8.0, plan=5000.0)
    for c in found(asked, per_s=6000):
        assert c.confidence == "at_least"
        assert c.low == pytest.approx(4000, rel=0.02)
        assert exit_status(c) == 3
        assert "highest that was played" in c.sentence


def test_a_target_beyond_the_generator_is_at_least() -> None:
    for c in found(per_s=60_000, generator_per_s=10_000):
        assert c.confidence == "at_least"
        assert c.ended == "generator"
        assert c.low == pytest.approx(8000, rel=0.02)
        assert "the load generator's end, not the target's" in c.sentence


def test_a_target_that_drops_its_backlog_fails_by_loss() -> None:
    answers = found(per_s=6000, drops_beyond=400.0)
    assert all(c.confidence == "held" and c.low is not None and c.low <= 1.03 * 6000 for c in answers)
    assert sum(c.high is not None and c.high >= 0.93 * 6000 for c in answers) >= 9, [told(c) for c in answers]
    assert all("lost_defect" in c.found.broke and "latency" not in c.found.broke for c in answers)


def test_a_budget_that_is_too_short_confirms_what_there_is() -> None:
    asked = msgspec.structs.replace(ASKED, budget_s=230.0)
    for c in found(asked, per_s=6000):
        assert c.spent_s is not None
        assert c.spent_s <= 240  # a gap may take longer than was planned for
        if c.confidence == "held" and c.low and c.high:
            assert c.low <= 1.03 * 6000
            assert c.high >= 0.95 * 6000
