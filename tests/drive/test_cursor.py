"""Does a cursor pass over exactly what the plan holds, whichever way it goes, and at no cost per message?"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from publish_servers import make_profile

from loadtests.drive.publish.slot import Cursor
from loadtests.model.contract import Contract
from loadtests.model.ids import SLICE_NS
from loadtests.model.profile.workload import Shape
from loadtests.plan.workload import SlotPlan, Workload

MS = 1_000_000
T0 = 37 * MS
SHAPES = {
    "constant": Shape(kind="constant", rate_per_s=730.0),
    "poisson": Shape(kind="poisson", rate_per_s=300.0),
    "burst": Shape(kind="burst", base_per_s=0.5, peak_per_s=900.0, length_s=0.2, period_s=0.7),
    "at most": Shape(kind="poisson", rate_per_s=300.0, at_most=211),
}


def plan_of(shape: Shape) -> SlotPlan:
    profile = make_profile(shape, duration_s=2.0)
    return Workload(profile, Contract(profile)).publisher(0)


@pytest.mark.parametrize("kind", sorted(SHAPES))
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 700 * MS)), max_size=12))
@settings(max_examples=25, deadline=None)
def test_what_is_taken_and_what_is_skipped_is_the_plan(kind: str, steps: list[tuple[bool, int]]) -> None:
    plan = plan_of(SHAPES[kind])
    cursor = Cursor(plan)
    cursor.begin(T0, 0)
    due, now, found = plan.planned(0, plan.span_ns), T0, 0
    counted: dict[int, int] = {}
    for skips, length in steps:
        now += length
        if skips:
            for place, count in cursor.skip(now):
                counted[place] = counted.get(place, 0) + count
            found = sum(T0 + at < now for at in due)
        else:
            while (head := cursor.head()) is not None and head < now:
                assert head == T0 + due[found]
                counted[head // SLICE_NS] = counted.get(head // SLICE_NS, 0) + 1
                cursor.at += 1
                found += 1
        head = cursor.head()
        assert head == (T0 + due[found] if found < len(due) else None)
    expected: dict[int, int] = {}
    for at in due[:found]:
        expected[(T0 + at) // SLICE_NS] = expected.get((T0 + at) // SLICE_NS, 0) + 1
    assert counted == expected


def test_a_plan_that_nobody_can_keep_is_counted_without_building_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(Shape(kind="constant", rate_per_s=5_000_000.0))
    built = []
    block = plan.block
    monkeypatch.setattr(plan, "block", lambda number: built.append(number) or block(number))
    cursor = Cursor(plan)
    cursor.begin(T0, 0)
    assert sum(count for _, count in cursor.skip(T0 + plan.span_ns + 1)) == plan.count(0, plan.span_ns)
    assert cursor.head() is None
    assert len(built) <= 3
