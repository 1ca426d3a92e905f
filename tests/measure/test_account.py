"""Does the judge count what a brute-force oracle counts, whatever went wrong in a run?"""

from __future__ import annotations

import itertools
import random
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loadtests.measure.absences import CAUSES
from loadtests.measure.history_tables import HistoryTables, fold
from loadtests.measure.judge import conclude, judge
from loadtests.measure.stages import analyse
from loadtests.model.results import Results, to_json
from tests.examples import examples
from tests.measure.oracle import count
from tests.measure.simulate import MS, FaultIn, S, Stay, World, profile


def messy(seed: int, *, faults: bool, processes: int, disconnects: int, share: float) -> World:
    """A world in which everything goes wrong that the account must tell apart."""
    dice = random.Random(seed)
    given_faults: list[dict[str, Any]] = []
    if faults:
        given_faults = [
            {"name": "cut", "kind": "down", "link": "gateway-redis", "at_s": 2.0, "for_s": 0.8},
            {"name": "slow", "kind": "latency", "link": "client-gateway", "at_s": 5.0, "for_s": 0.5, "latency_ms": 60},
        ]
    groups = [
        {"name": "plain", "count": 3, "subscribe": {"symbol_share": 0.5} if dice.random() < 0.5 else {}},
        {"name": "sock", "count": 2, "transport": "socketio", "subscribe": {"families": ["patterns"]}},
    ]
    world = World(profile(faults=given_faults, consumers=groups), seed=seed, processes=processes)
    world.publish()
    for m in world.messages:
        m.outcome = dice.choices(["OK", "FAILED", "UNKNOWN"], [1 - share, share / 2, share / 2])[0]
    world.subscribe()
    for _ in range(disconnects):
        stay = dice.choice(world.stays)
        if stay.end - stay.start > 3 * S:
            at = dice.randrange(stay.start + S, stay.end - S)
            back = at + dice.randrange(1, 900) * MS
            epoch = max(s.epoch for s in world.stays if s.consumer == stay.consumer) + 1
            world.stays.append(Stay(consumer=stay.consumer, epoch=epoch, start=back, end=stay.end, why=stay.why))
            stay.end, stay.why = at, dice.choice(["peer closed", "error", "own"])
    world.stays.sort(key=lambda s: (s.consumer, s.start))
    for _, stays in itertools.groupby(world.stays, key=lambda s: s.consumer):
        for epoch, stay in enumerate(stays):
            stay.epoch = epoch
    if faults:
        start = world.warm + 2 * S + dice.randrange(0, 100) * MS
        world.faults.append(
            FaultIn(name="cut", kind="down", link="gateway-redis", start=start, end=start + 8 * S // 10)
        )
        start = world.warm + 5 * S
        world.faults.append(
            FaultIn(name="slow", kind="latency", link="client-gateway", start=start, end=start + S // 2)
        )
    unlucky = {(id(m), s.consumer) for m in world.messages for s in world.stays if dice.random() < share}
    maybe = {id(m) for m in world.messages if m.outcome == "UNKNOWN" and dice.random() < 0.5}

    def lose(m: Any, stay: Any) -> bool:
        cut = any(f.kind == "down" and f.start - 5 * MS <= m.sent < f.end + 150 * MS for f in world.faults)
        return cut or (id(m), stay.consumer) in unlucky or id(m) in maybe

    def delay(m: Any, stay: Any) -> int:
        slow = any(f.kind == "latency" and f.start <= m.sent < f.end for f in world.faults)
        return (60 * MS if slow else 0) + (700 * MS if share and m.seq % 97 == 3 else 0)

    world.deliver(lose, delay)
    for stay in world.stays:
        _mix(dice, world, stay, share)
    return world


def _mix(dice: random.Random, world: World, stay: Stay, share: float) -> None:
    """Repeat some deliveries, swap some, hand out some of an earlier connection again."""
    got = stay.got
    for i in range(len(got) - 1, 0, -1):
        if dice.random() < share:
            got[i - 1], got[i] = (got[i - 1][0], got[i][1]), (got[i][0], got[i - 1][1])
        if dice.random() < share:
            got.insert(i, got[i - 1])
    if stay.epoch and got and share:
        before = [g for s in world.stays if s.consumer == stay.consumer and s.epoch < stay.epoch for g in s.got]
        for _, m in before[-3:]:
            got.insert(0, (got[0][0], m))


def windows(world: World) -> list[tuple[str, str, int, int, int]]:
    """Fault windows with the end of the recovery that was judged; that one has tests of its own."""
    judged = analyse(world.profile, fold(world.history())).phases.windows
    faults = sorted(world.faults, key=lambda f: f.start)
    return [(f.kind, f.link, f.start, f.end, w.to_ns) for f, w in zip(faults, judged, strict=True)]


def compare(world: World, results: Results) -> None:
    """Every number of the account."""
    right = count(world, windows(world))
    t, d = right["total"], results.delivery
    assert not results.harness.trouble
    assert d.published == t["published"]
    assert (d.failed, d.unknown) == (t["FAILED"], t["UNKNOWN"])
    assert d.owed == t["owed"]
    assert d.offered == t["offered"]
    assert d.unique == t["unique"]
    assert d.undecided == t["undecided"]
    assert d.repeated == t["repeated"]
    assert d.reordered == t["reordered"]
    assert d.late == t["late"]
    assert d.lost.defect == t["defect"]
    assert d.lost.charged == t["charged"]
    assert d.lost.total == t["defect"] + t["charged"]
    assert d.delivered == t["delivered"]
    assert d.away is not None
    away = {cause: t[f"away {cause}"] for cause in CAUSES}
    assert away == {cause: getattr(d.away, cause) for cause in CAUSES}
    assert d.lost.injector_at_most == t["injector"]
    assert d.lost.broker is None
    assert d.rpo_s is not None
    assert round(d.rpo_s * 10) == right["run"]
    assert d.owed is not None
    assert d.offered == d.owed + (d.undecided or 0) + sum(away.values())
    assert d.owed == d.delivered + (d.lost.total or 0)
    for route in results.routes:
        c = right["routes"][route.group]
        assert (route.owed, route.unique, route.repeated) == (c["owed"], c["unique"], c["repeated"]), route.group
        assert (route.reordered, route.late) == (c["reordered"], c["late"]), route.group
        assert (route.lost.defect, route.lost.charged) == (c["defect"], c["charged"]), route.group


@settings(max_examples=examples(8), deadline=None)
@given(
    seed=st.integers(0, 10_000),
    faults=st.booleans(),
    processes=st.sampled_from([1, 2, 3]),
    disconnects=st.integers(0, 5),
    share=st.sampled_from([0.0, 0.01, 0.1]),
)
def test_the_judge_counts_what_the_oracle_counts(
    seed: int, faults: bool, processes: int, disconnects: int, share: float
) -> None:
    world = messy(seed, faults=faults, processes=processes, disconnects=disconnects, share=share)
    results = judge(world.profile, world.history())
    if share and disconnects:  # what is handed out again late may come unasked, which the oracle does not know
        assume(not results.delivery.unasked)
    assert not results.delivery.unasked
    compare(world, results)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000), parts=st.integers(2, 4))
def test_shards_merged_in_any_order_are_the_whole(seed: int, parts: int) -> None:
    world = messy(seed, faults=True, processes=2, disconnects=3, share=0.02)
    history = world.history(chunk=40)
    dice = random.Random(seed)
    shards = [HistoryTables() for _ in range(parts)]
    for process, frame in history:
        dice.choice(shards).add(process, frame)
    dice.shuffle(shards)
    for other in shards[1:]:
        shards[0].merge(other)
    assert to_json(conclude(world.profile, shards[0])) == to_json(judge(world.profile, world.history()))
