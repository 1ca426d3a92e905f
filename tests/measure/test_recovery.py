"""Is a recovery found where it was planted: for the run, and for each consumer?"""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec
import pytest

from loadtests.measure.history_tables import fold
from loadtests.measure.judge import judge
from loadtests.measure.recovery_spread import consumer_table
from loadtests.measure.stages import analyse
from loadtests.model.ids import SLICE_NS
from loadtests.model.records import FirstAfter, PhaseMark, Touched
from loadtests.model.results import Results, Verdict
from tests.measure.simulate import MS, FaultIn, Message, S, Stay, World, profile

CUT = {"name": "cut", "kind": "down", "link": "gateway-redis", "at_s": 3.0, "for_s": 1.0}


def cut(
    *, back_ns: int, limit_s: float = 1.5, proved: bool = True, kind: str = "down", link: str = "gateway-redis"
) -> World:
    """Nothing arrives from 4.0 s after T0 until the fault was healed and `back_ns` had passed."""
    fault = {**CUT, "kind": kind, "link": link}
    world = World(profile(faults=[fault], recovery={"limit_s": limit_s}))
    world.publish()
    world.subscribe()
    start = world.warm + 3 * S
    world.faults.append(FaultIn(name="cut", kind=kind, link=link, start=start, end=start + S, proved=proved))
    return world


def judged(world: World, lose: Any, delay: Any = None) -> Results:
    world.deliver(lose, delay)
    return judge(world.profile, world.history())


def outage(world: World, back_ns: int) -> Any:
    fault = world.faults[0]
    return lambda m, stay: fault.start <= m.sent < fault.end + back_ns


@pytest.mark.parametrize("back_ms", [0, 130, 400, 790, 1210])
def test_the_run_recovers_within_a_slice_of_the_planted_moment(back_ms: int) -> None:
    world = cut(back_ns=back_ms * MS)
    results = judged(world, outage(world, back_ms * MS))
    (recovery,) = results.recovery
    assert recovery.verdict is Verdict.PASS, recovery.summary
    assert recovery.recovery_s == pytest.approx(back_ms / 1000, abs=0.15)
    assert recovery.outage_s == pytest.approx(1 + back_ms / 1000, abs=0.15)
    assert results.delivery.lost.defect == 0
    assert results.delivery.lost.charged == results.delivery.lost.total
    assert results.delivery.lost.injector_at_most == sum(r.lost.injector_at_most or 0 for r in results.routes)
    assert results.delivery.lost.total
    assert results.delivery.rpo_s == pytest.approx(1 + back_ms / 1000, abs=0.25)
    spread = recovery.consumers.first_fresh
    assert spread.not_recovered == 0
    assert spread.max == pytest.approx(back_ms / 1000, abs=0.15)
    assert recovery.consumers.detected.max == pytest.approx(0, abs=0.4)
    assert [p.phase for p in results.phases].count("fault") == 1


def test_what_the_band_forgives_at_the_start_of_the_steady_stretch_is_the_recoverys() -> None:
    """The gateway was back, but one message came a moment too early for it: few enough to be in band, yet no defect."""
    world = cut(back_ns=0)
    fault = world.faults[0]
    early = min(m.sent for m in world.messages if m.sent >= fault.end)
    results = judged(world, lambda m, stay: fault.start <= m.sent < fault.end or m.sent == early)
    (recovery,) = results.recovery
    assert recovery.verdict is Verdict.PASS
    assert recovery.recovery_s == pytest.approx(0, abs=0.15)
    assert results.delivery.lost.defect == 0
    world = cut(back_ns=0)
    later = min(m.sent for m in world.messages if m.sent >= fault.end + S)
    lost = judged(world, lambda m, stay: fault.start <= m.sent < fault.end or m.sent == later).delivery.lost
    assert lost.defect, "beyond its first group a loss is the target's again"


def test_each_consumer_recovers_when_it_does() -> None:
    world = cut(back_ns=0, link="client-gateway")
    fault = world.faults[0]
    back = {c: fault.end + (c + 1) * 137 * MS for c in range(5)}
    for stay in list(world.stays):
        world.stays.append(Stay(consumer=stay.consumer, epoch=1, start=back[stay.consumer], end=stay.end))
        stay.end, stay.why = fault.start + 20 * MS, "peer closed"
    results = judged(world, lambda m, stay: fault.start <= m.sent < fault.end)
    consumers = results.recovery[0].consumers
    assert results.recovery[0].recovery_s == pytest.approx(5 * 0.137, abs=0.15)
    expected = sorted((c + 1) * 0.137 for c in range(5))
    for name in ("first_fresh", "steady"):
        assert consumers.distribution[name] == pytest.approx(expected, abs=0.13), name
    assert consumers.first_byte.p50 == pytest.approx(expected[2], abs=0.13)
    assert consumers.detected.p50 == pytest.approx(0.02, abs=0.1)
    assert consumers.slowest[0].startswith("consumer 4 (sock): first fresh 0.7")
    assert results.delivery.lost.total == results.delivery.lost.charged
    assert results.delivery.undecided == 0


def test_not_to_recover_is_a_failure_and_no_number() -> None:
    world = cut(back_ns=0, limit_s=1.5)
    results = judged(world, outage(world, 2 * S))
    (recovery,) = results.recovery
    assert recovery.verdict is Verdict.FAIL
    assert recovery.recovery_s is None
    assert recovery.outage_s is None
    assert "not recovered (> 1.5 s)" in recovery.summary
    assert results.verdict is Verdict.FAIL
    assert recovery.consumers.first_fresh.not_recovered == 5
    # What was lost after the limit is charged to nobody.
    assert results.delivery.lost.defect


def test_without_proof_a_recovery_is_unknown() -> None:
    world = cut(back_ns=0, proved=False)
    results = judged(world, outage(world, 100 * MS))
    assert results.recovery[0].verdict is Verdict.UNKNOWN
    assert "proves" in results.recovery[0].summary
    assert results.verdict is Verdict.UNKNOWN


def test_no_visible_impact_needs_proof() -> None:
    for proved, verdict in ((True, Verdict.PASS), (False, Verdict.UNKNOWN)):
        world = cut(back_ns=0, proved=proved, link="gateway-postgres")
        results = judged(world, None)
        assert results.recovery[0].verdict is verdict
        assert results.recovery[0].recovery_s == 0
        assert results.recovery[0].outage_s == 0


def test_latency_recovers_too() -> None:
    world = cut(back_ns=0, kind="down")
    fault = world.faults[0]

    def slow(m: Message, stay: Stay) -> int:
        return 300 * MS if fault.start <= m.sent < fault.end + 250 * MS else 0

    world.deliver(None, slow)
    results = judge(world.profile, world.history())
    assert results.delivery.lost.total == 0
    # Later ones queue behind those that are held back, until less than the 50 ms of the band is left of 300.
    assert results.recovery[0].recovery_s == pytest.approx(0.5, abs=0.12)
    assert results.recovery[0].outage_s == pytest.approx(1.5, abs=0.12)


def test_a_loss_off_the_faults_path_is_a_defect() -> None:
    world = cut(back_ns=0, link="gateway-postgres")
    results = judged(world, outage(world, 0))
    assert results.delivery.lost.charged == 0
    assert results.delivery.lost.defect == results.delivery.lost.total
    assert results.delivery.lost.defect


def test_missing_touched_slices_say_nothing_about_consumers() -> None:
    world = cut(back_ns=0)
    world.deliver(outage(world, 200 * MS))
    history = [
        (name, frame._replace(records=[r for r in frame.records if type(r).__name__ != "Touched"]))
        for name, frame in world.history()
    ]
    results = judge(world.profile, history)
    assert results.recovery[0].consumers.first_fresh.p50 is None
    assert results.recovery[0].consumers.first_fresh.not_recovered is None
    assert results.recovery[0].recovery_s is not None


def test_a_consumer_that_gets_its_backlog_first_is_dated_to_the_message() -> None:
    """The slice in which it comes back holds old messages, late ones and fresh ones."""
    world = cut(back_ns=0, link="client-gateway")
    fault = world.faults[0]
    back = fault.end + 530 * MS

    def delay(m: Message, stay: Stay) -> int:
        return max(back - m.sent, 0) if fault.start <= m.sent < back else 0

    world.deliver(None, delay)
    exact = FirstAfter(
        healed_ns=fault.end,
        kind=["fresh"] * 5,
        consumer=list(range(5)),
        at_ns=[min(at for at, m in stay.got if m.due >= fault.end) for stay in world.stays],
    )
    late_ns = round(world.profile.run.late_s * S)
    latest: dict[tuple[int, int], int] = {}
    for stay in world.stays:
        for at, m in stay.got:
            if at - m.due > late_ns:
                latest[stay.consumer, at // SLICE_NS] = at

    def told(record: Any) -> Any:
        if not isinstance(record, Touched):
            return record
        late = [latest.get((c, record.received_slice), 0) for c in record.consumer]
        return msgspec.structs.replace(record, late_ns=late)

    history = [(name, frame._replace(records=[told(x) for x in frame.records])) for name, frame in world.history()]
    name, last = history[-1]
    history[-1] = (name, last._replace(records=[*last.records[:-1], exact, last.records[-1]]))
    found = analyse(world.profile, fold(history)).felt[0]
    assert found is not None
    assert latest, "or this would test nothing"
    for row, stay in enumerate(world.stays):
        assert found.fresh[row] == exact.at_ns[row]
        bad = max(at for at, m in stay.got if at - m.due > late_ns)
        assert abs(int(found.steady[row]) - max(bad, exact.at_ns[row])) < 20 * MS


# -- a gap stands where the missing message was due

RARE = [
    {"name": "often", "count": 1, "families": ["patterns"], "shape": {"kind": "constant", "rate_per_s": 50.0}},
    {"name": "rarely", "count": 1, "families": ["ranks"], "shape": {"kind": "constant", "rate_per_s": 1.0}},
]


def rare() -> World:
    """One stream has a message in every other second; nothing else is wrong after the cut."""
    run = {"duration_s": 12.0, "warm_up_s": 1.0, "drain_s": 1.0, "late_s": 0.5, "settle_ms": 100}
    steady = {"hold_s": 1.2, "group_ms": 300, "group_min_messages": 5}
    plain, limit = [{"name": "plain", "count": 3}], {"limit_s": 3.0}
    world = World(profile(faults=[CUT], publishers=RARE, consumers=plain, recovery=limit, steady=steady, run=run))
    world.publish()
    world.subscribe()
    start = world.warm + 3 * S
    world.faults.append(FaultIn(name="cut", kind="down", link="gateway-redis", start=start, end=start + S))
    return world


def steady_s(world: World, lose: Any) -> list[float]:
    world.deliver(lose)
    found = analyse(world.profile, fold(world.history())).felt[0]
    assert found is not None
    return [(int(at) - found.healed_ns) / S for at in found.steady]


def test_what_was_missing_before_the_healing_makes_nothing_after_it_unsteady() -> None:
    world = rare()
    cut = world.faults[0]
    lost = [m for m in world.messages if cut.start <= m.sent < cut.end and m.slot == 1]
    shown = min(m.sent for m in world.messages if (m.slot, m.route) == (1, lost[0].route) and m.sent > cut.end)
    assert shown > cut.end + 800 * MS, "or this would test nothing"
    assert max(steady_s(world, lambda m, stay: cut.start <= m.sent < cut.end)) < 0.1


def test_what_is_missing_after_the_healing_is_dated_by_when_it_was_due() -> None:
    world = rare()
    cut = world.faults[0]
    late = next(m for m in world.messages if m.slot == 0 and m.sent > cut.end + 700 * MS)
    for at in steady_s(world, lambda m, stay: cut.start <= m.sent < cut.end or m is late):
        assert at == pytest.approx((late.due - cut.end) / S, abs=0.051)


def test_what_nothing_of_its_stream_follows_is_missed_all_the_same() -> None:
    world = rare()
    cut = world.faults[0]
    gone = next(m for m in world.messages if m.slot == 1 and m.sent > cut.end + 500 * MS)
    never_shown = [m for m in world.messages if (m.slot, m.route) == (1, gone.route) and m.sent >= gone.sent]
    world.messages = [m for m in world.messages if m not in never_shown[1:]]
    for at in steady_s(world, lambda m, stay: cut.start <= m.sent < cut.end or m is gone):
        assert at == pytest.approx((gone.due - cut.end) / S, abs=0.051)


def test_what_came_after_all_is_no_gap() -> None:
    world = rare()
    cut = world.faults[0]
    late = next(m for m in world.messages if m.slot == 0 and m.sent > cut.end + 700 * MS)
    world.deliver(lambda m, stay: cut.start <= m.sent < cut.end)
    for stay in world.stays:
        at = next(i for i, (_, m) in enumerate(stay.got) if m is late)
        stay.got.insert(at + 2, (stay.got[at + 2][0], stay.got.pop(at)[1]))
        stay.got.sort(key=lambda g: g[0])
    results = judge(world.profile, world.history())
    steady = results.recovery[0].consumers.steady
    assert results.delivery.reordered == len(world.stays)
    assert steady.max is not None
    assert steady.max < 0.1


# -- who does not come back is slower than all who do

MANY = [{"name": "plain", "count": 40}]


def crowd(gone: int, *, why: str = "peer closed") -> World:
    """The first `gone` of forty consumers are thrown out in the cut, and never let in again; the run forgives it."""
    steady = {"hold_s": 0.6, "group_ms": 300, "group_min_messages": 5, "connected_min": 0.0, "delivery_min": 0.0}
    world = World(profile(faults=[CUT], consumers=MANY, recovery={"limit_s": 2.0}, steady=steady))
    world.publish()
    world.subscribe()
    start = world.warm + 3 * S
    world.faults.append(FaultIn(name="cut", kind="down", link="client-gateway", start=start, end=start + S))
    for stay in world.stays[:gone]:
        stay.end, stay.why = start + 20 * MS, why
    return world


def crowded(world: World) -> Results:
    fault = world.faults[0]
    return judged(world, lambda m, stay: fault.start <= m.sent < fault.end)


@pytest.mark.parametrize(
    ("gone", "p50", "p95"), [(0, True, True), (2, True, True), (3, True, False), (20, True, False), (21, False, False)]
)
def test_a_percentile_that_falls_among_those_who_did_not_come_back_is_beyond_the_limit(
    gone: int, p50: bool, p95: bool
) -> None:
    results = crowded(crowd(gone))
    (recovery,) = results.recovery
    for spread in (recovery.consumers.first_fresh, recovery.consumers.steady):
        assert (spread.clients, spread.back, spread.not_recovered) == (40, 40 - gone, gone)
        assert (spread.p50 is not None, spread.p95 is not None, spread.max is not None) == (p50, p95, not gone)
        assert spread.beyond_s == {
            name: 2.0 for name, known in (("p50", p50), ("p95", p95), ("max", not gone)) if not known
        }
    assert recovery.verdict is (Verdict.FAIL if gone > 2 else Verdict.PASS)
    assert (f"{gone} of 40 clients were not back within 2 s" in recovery.summary) is (gone > 2)
    check = next(c for c in results.checks if c.name.startswith("clients_not_back"))
    assert (check.measured, check.verdict) == (gone, Verdict.FAIL if gone else Verdict.PASS)
    assert len(check.evidence) == min(gone, 20)
    recovered = next(c for c in results.checks if c.name == "recovered from every fault")
    assert recovered.verdict is (Verdict.FAIL if gone > 2 else Verdict.PASS)


def test_who_gets_messages_and_never_all_of_them_is_not_back() -> None:
    """Fresh at once, but one message in five never comes: steady is what the profile asks for."""
    world = crowd(0)
    fault = world.faults[0]
    results = judged(
        world, lambda m, stay: fault.start <= m.sent < fault.end or (stay.consumer == 7 and m.seq % 5 == 0)
    )
    consumers = results.recovery[0].consumers
    assert (consumers.first_fresh.not_recovered, consumers.steady.not_recovered) == (0, 1)
    assert consumers.slowest[0].endswith("never steady")
    check = next(c for c in results.checks if c.name.startswith("clients_not_back"))
    assert check.verdict is Verdict.FAIL
    assert check.evidence == ["cut: consumer 7 was not steady within 2 s"]


def test_whom_our_own_plan_took_away_is_not_missed() -> None:
    results = crowded(crowd(5, why="moved"))
    spread = results.recovery[0].consumers.steady
    assert (spread.clients, spread.back, spread.not_recovered, spread.beyond_s) == (35, 35, 0, {})
    assert next(c for c in results.checks if c.name.startswith("clients_not_back")).verdict is Verdict.PASS


@pytest.mark.parametrize("after_ms", [1300, 2200])
def test_where_the_data_end_before_it_is_decided_nobody_is_said_to_stay_away(after_ms: int) -> None:
    """The plan is stopped before the limit, or after it in a stretch that began within it and might have held."""
    world = crowd(0)
    fault = world.faults[0]
    world.extra.append(PhaseMark(phase="drain", at_ns=fault.end + after_ms * MS))
    off = fault.end + 1800 * MS
    results = judged(world, lambda m, stay: fault.start <= m.sent < fault.end or (stay.consumer < 4 and m.sent < off))
    spread = results.recovery[0].consumers.steady
    assert (spread.not_recovered, spread.back, spread.p50 is None) == (None, 36, False)
    assert spread.p95 is None
    assert spread.beyond_s == {}
    check = next(c for c in results.checks if c.name.startswith("clients_not_back"))
    assert check.verdict is Verdict.UNKNOWN
    assert "4 clients were not back within 2 s, but the data end before that is decided" in check.summary


def test_a_fault_that_concerns_nobody_has_nobody_who_stays_away() -> None:
    """Its families are followed by none but those that are expected to be slow."""
    slow = [{"name": "slow", "count": 2, "expect_slow": True}]
    limits = [{"measure": "lost_defect", "at_most": 0.0, "group": "slow"}]
    world = World(profile(faults=[CUT], consumers=slow, thresholds=limits))
    world.publish()
    world.subscribe()
    start = world.warm + 3 * S
    world.faults.append(FaultIn(name="cut", kind="down", link="gateway-redis", start=start, end=start + S))
    results = judged(world, lambda m, stay: start <= m.sent < start + S)
    assert next(c for c in results.checks if c.name.startswith("clients_not_back")).verdict is Verdict.PASS
    assert results.recovery[0].consumers.steady.clients == 0


def test_without_proof_nobody_is_said_to_stay_away() -> None:
    world = crowd(1)
    world.faults[0].proved = False
    check = next(c for c in crowded(world).checks if c.name.startswith("clients_not_back"))
    assert check.verdict is Verdict.UNKNOWN
    assert "nothing proves that it acted" in check.summary


def test_every_consumer_has_a_line_in_the_table() -> None:
    world = cut(back_ns=0, link="client-gateway")
    fault = world.faults[0]
    world.deliver(lambda m, stay: m.sent >= fault.start and (stay.consumer == 1 or m.sent < fault.end + 200 * MS))
    found = analyse(world.profile, fold(world.history()))
    lines = list(csv.DictReader(io.StringIO(consumer_table(found.contract, found.felt))))
    assert [line["consumer"] for line in lines] == [str(c) for c in range(5)]
    assert {line["fault"] for line in lines} == {"cut"}
    assert [line["first_fresh_s"] == "" for line in lines] == [c == 1 for c in range(5)]
    assert all(float(line["steady_s"]) >= 0.2 for line in lines if line["consumer"] != "1")
