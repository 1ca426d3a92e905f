"""Do all processes plan the same messages of a level, whenever they were told of it?"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.drive.publish.slot import Cursor
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_S
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.tables import CapacitySearch, Run, Sampling
from loadtests.model.profile.workload import Consumers, Family, Publishers, Shape
from loadtests.plan.pacing import GAP_FACTOR, Levelled, Pacer, Stretch, Stretches, pacer, scaled
from loadtests.plan.workload import Workload

S = NS_PER_S
SHAPES = [
    Shape(kind="constant", rate_per_s=40),
    Shape(kind="poisson", rate_per_s=40),
    Shape(kind="burst", base_per_s=10, peak_per_s=200, length_s=0.2, period_s=1.0),
    Shape(kind="on-off", rate_per_s=100, length_s=0.5, period_s=1.0),
]


def levelled(shape: Shape, *stretches: Stretch) -> Levelled:
    known = Stretches()
    for stretch in stretches:
        assert known.add(stretch)

    def at(factor: float, name: str) -> Pacer:
        return pacer(scaled(shape, factor), seed=f"seed:{name}", warm_up_s=1.0, duration_s=60.0)

    return Levelled(known, at)


FIRST = Stretch(index=0, factor=2.0, from_ns=2 * S, to_ns=4 * S)
SECOND = Stretch(index=1, factor=8.0, from_ns=6 * S, to_ns=9 * S)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.kind)
def test_a_level_plays_the_shape_at_its_factor_and_a_gap_at_a_tenth(shape: Shape) -> None:
    pacing, plain = levelled(shape, FIRST, SECOND), levelled(shape)
    mean = plain.count(0, 400 * S) / 400 / GAP_FACTOR
    assert pacing.count(6 * S, 9 * S) / 3 == pytest.approx(8 * mean, rel=0.2)
    assert pacing.count(4 * S, 6 * S) == plain.count(4 * S, 6 * S)


@given(edges=st.lists(st.integers(0, 12 * S), min_size=2, max_size=8), number=st.integers(0, len(SHAPES) - 1))
def test_parts_of_the_plan_are_the_whole(edges: list[int], number: int) -> None:
    pacing = levelled(SHAPES[number], FIRST, SECOND)
    edges = sorted({0, 12 * S, *edges})
    whole = pacing.between(0, 12 * S)
    parts = [pacing.between(a, b) for a, b in pairwise(edges)]
    assert [due for part in parts for due in part] == whole == sorted(whole)
    assert [pacing.count(a, b) for a, b in pairwise(edges)] == [len(part) for part in parts]
    for at in edges:
        later = [due for due in whole if due >= at]
        if later:
            assert pacing.next_ns(at) == later[0]


def test_what_was_planned_before_a_level_stays_when_it_is_told() -> None:
    shape = SHAPES[1]
    before, after = levelled(shape, FIRST), levelled(shape, FIRST, SECOND)
    assert before.between(0, 6 * S) == after.between(0, 6 * S)
    assert before.between(6 * S, 9 * S) != after.between(6 * S, 9 * S)


def test_a_level_cannot_begin_before_the_one_before_it_is_over_and_is_taken_once() -> None:
    known = Stretches()
    assert known.add(FIRST)
    assert not known.add(FIRST)
    with pytest.raises(ValueError, match="begins before level 0 is over"):
        known.add(Stretch(index=1, factor=1.0, from_ns=3 * S, to_ns=5 * S))


def searching(rate: float) -> Profile:
    return Profile.model_construct(
        name="test",
        seed=7,
        run=Run(duration_s=20.0, warm_up_s=1.0),
        families=[
            Family(name="states", channel="tickstock.events.market_state", event="ranking_change", symbols=5),
        ],
        publishers=[
            Publishers(name="p", families=["states"], shape=Shape(kind="constant", rate_per_s=rate)),
        ],
        consumers=[Consumers(name="all", count=1)],
        sampling=Sampling(),
        capacity=CapacitySearch(search=True),
        levels=[],
    )


@given(told_s=st.floats(0, 5), rate=st.sampled_from([0.2, 3.0, 40.0]))
def test_a_publisher_that_is_told_late_in_a_gap_plays_what_one_plays_that_knew_it_always(
    told_s: float, rate: float
) -> None:
    """Also where its next message lay behind the level, or within the block that it has at hand."""
    profile = searching(rate)
    always, later = Workload(profile, Contract(profile)), Workload(profile, Contract(profile))
    for workload in (always, later):
        assert workload.stretches is not None
    always.stretches.add(SECOND)  # type: ignore[union-attr]
    expected = [at for at in played(Cursor(always.publisher(0))) if at < 9 * S]
    cursor = Cursor(later.publisher(0))
    cursor.begin(0, 0)
    found: list[int] = []
    while (head := cursor.head()) is not None and head < told_s * S:
        found.append(head)
        cursor.at += 1
    later.stretches.add(SECOND)  # type: ignore[union-attr]
    cursor.replan(SECOND.from_ns)
    while (head := cursor.head()) is not None and head < 9 * S:
        found.append(head)
        cursor.at += 1
    assert found == expected


def played(cursor: Cursor) -> list[int]:
    cursor.begin(0, 0)
    found = []
    while (head := cursor.head()) is not None and head < 12 * S:
        found.append(head)
        cursor.at += 1
    return found
