"""Does a slot's plan depend on the profile and the slot alone, and does it reach every route?"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_S
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.tables import Run, Sampling, Threshold
from loadtests.model.profile.workload import Consumers, Family, Publishers, Shape
from loadtests.plan.replay import Replayed, parse
from loadtests.plan.workload import Rotation, SlotPlan, Workload, replay_words

SHAPES = {
    "constant": Shape(kind="constant", rate_per_s=700.0),
    "poisson": Shape(kind="poisson", rate_per_s=700.0),
    "burst": Shape(kind="burst", base_per_s=50.0, peak_per_s=9000.0, length_s=0.02, period_s=0.5),
    "on-off": Shape(kind="on-off", rate_per_s=3000.0, length_s=0.1, period_s=0.7),
    "ramp": Shape(kind="ramp", from_per_s=0.0, to_per_s=900.0),
}


def profile(*shapes: Shape, canary: float = 0.0, count: int = 3) -> Profile:
    return Profile.model_construct(
        name="test",
        seed=7,
        run=Run(duration_s=3.0, warm_up_s=1.0),
        families=[
            Family(
                name="patterns",
                channel="tickstock.events.patterns",
                event="pattern_detected",
                keys={"pattern": ["Doji", "Hammer"], "symbol": ["AAPL", "MSFT", "TSLA"]},
            ),
            Family(name="states", channel="tickstock.events.market_state", event="ranking_change", symbols=5),
        ],
        publishers=[
            Publishers(name=f"p{n}", count=count, families=["patterns", "states"], shape=shape)
            for n, shape in enumerate(shapes)
        ],
        consumers=[Consumers(name="all", count=1)],
        sampling=Sampling(canary_per_s=canary),
        readers=[],
        faults=[],
        thresholds=[Threshold(measure="lost_defect", at_most=0)],
    )


def whole(plan: SlotPlan) -> list[tuple[int, int]]:
    return [pair for n in range(plan.blocks) for pair in zip(plan.block(n).due_ns, plan.block(n).routes, strict=True)]


def made(given_profile: Profile, slot: int) -> SlotPlan:
    return Workload(given_profile, Contract(given_profile)).publisher(slot)


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_blocks_are_the_plan_in_any_order_and_cover_every_route(kind) -> None:
    spec = profile(SHAPES[kind], canary=2.0)
    forward = whole(made(spec, 1))
    plan = made(spec, 1)
    backward = [
        list(zip(plan.block(n).due_ns, plan.block(n).routes, strict=True)) for n in reversed(range(plan.blocks))
    ]
    assert forward == [pair for block in reversed(backward) for pair in block]
    times = [due for due, _ in forward]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < 4 * NS_PER_S
    counts = Counter(route for _, route in forward)
    assert set(counts) == set(range(11))
    assert max(counts.values()) - min(counts.values()) <= (12 if kind != "poisson" else 60)


def test_slots_differ_and_a_block_holds_few_messages() -> None:
    spec = profile(SHAPES["burst"])
    assert whole(made(spec, 0)) != whole(made(spec, 1))
    plan = made(spec, 0)
    assert max(len(plan.block(n).due_ns) for n in range(plan.blocks)) <= 260


def test_the_canary_flows_once_per_family_beside_any_shape() -> None:
    spec = profile(Shape(kind="on-off", rate_per_s=0.001, length_s=0.001, period_s=100.0), canary=5.0)
    families = Counter()
    for slot in range(3):
        for _, route in whole(made(spec, slot)):
            families[Contract(spec).routes[route].family] += 1
    assert all(19 <= families[family] <= 23 for family in (0, 1))


@given(st.integers(1, 400), st.integers(0, 1000), st.text(max_size=4))
def test_a_rotation_meets_every_route_once_a_turn_from_any_index(n, first, seed) -> None:
    turn = Rotation(range(n), seed)
    assert sorted(turn.take(first, n)) == list(range(n))
    assert turn.take(first, 3) == [turn.take(first + k, 1)[0] for k in range(3)]


def replayed(spec: Profile, text: str, speed: float = 1.0) -> tuple[Replayed, ...]:
    contract = Contract(spec)
    return parse(text.encode(), routes=[contract.routes[r] for r in contract.publisher_routes(0)], speed=speed)


def test_a_replay_keeps_its_gaps_and_its_routes() -> None:
    text = "time,symbol,pattern,confidence\n10.0,MSFT,Doji,0.5\n10.5,TSLA,Hammer,0.75\n12.0,AAPL,Doji,1\n"
    spec = profile(Shape(kind="replay", file="x.csv", speed=2.0), count=1, canary=1.0)
    rows = replayed(spec, text, 2.0)
    assert [row.due_ns for row in rows] == [0, NS_PER_S // 4, NS_PER_S]
    plan = Workload(spec, Contract(spec), {"p0": rows}).publisher(0)
    blocks = [plan.block(n) for n in range(plan.blocks)]
    found = [
        (due, route, row)
        for block in blocks
        for due, route, row in zip(block.due_ns, block.routes, block.rows, strict=True)
        if row
    ]
    assert [due for due, _, _ in found] == [0, NS_PER_S // 4, NS_PER_S]
    contract = Contract(spec)
    assert dict(contract.routes[found[0][1]].keys) == {"pattern": "Doji", "symbol": "MSFT"}
    assert dict(contract.routes[found[1][1]].keys) == {"pattern": "Hammer", "symbol": "TSLA"}
    assert found[1][2]["confidence"] == 0.75
    assert sum(not row for block in blocks for row in block.rows) >= 7


def test_publishers_of_a_group_share_a_replay() -> None:
    spec = profile(Shape(kind="replay", file="x.jsonl"), count=3)
    rows = replayed(spec, "\n".join(f'{{"time": {n / 100}, "n": {n}}}' for n in range(30)))
    work = Workload(spec, Contract(spec), {"p0": rows})
    seen = [
        row["n"]
        for slot in range(3)
        for n in range(work.publisher(slot).blocks)
        for row in work.publisher(slot).block(n).rows
    ]
    assert sorted(seen) == list(range(30))


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ({}, "30 rows over 14.5 s at speed 1, 8 of them due in the 4.0 s of the run, 22 are left over"),
        ({"speed": 10.0}, "30 of them due in the 4.0 s of the run; nothing more is due for the last 2.5 s"),
        ({"at_most": 1}, "30 rows over 14.5 s at speed 1, 3 of them due in the 4.0 s of the run, 27 are left over"),
    ],
)  # fmt: skip
def test_how_much_of_a_replay_falls_into_the_run_is_told_and_true(shape, says) -> None:
    spec = profile(Shape(kind="replay", file="x.jsonl", **shape), count=3)
    speed = spec.publishers[0].shape.speed
    rows = replayed(spec, "\n".join(f'{{"time": {n / 2}, "n": {n}}}' for n in range(30)), speed)
    work = Workload(spec, Contract(spec), {"p0": rows})
    told = replay_words(rows, spec.publishers[0], work.span_ns)
    assert says in told
    played = sum(work.publisher(slot).count(0, work.span_ns) for slot in range(3))
    assert f" {played} of them" in told
