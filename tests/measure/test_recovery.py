"""Is a recovery found where it was planted: for the run, and for each consumer?"""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec
import pytest

from loadtests.measure.case import case
from loadtests.measure.facts import fold
from loadtests.measure.felt_by import consumer_table
from loadtests.measure.judge import judge
from loadtests.model.ids import SLICE_NS
from loadtests.model.records import FirstAfter, Touched
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
    found = case(world.profile, fold(history)).felt[0]
    assert found is not None
    assert latest, "or this would test nothing"
    for row, stay in enumerate(world.stays):
        assert found.fresh[row] == exact.at_ns[row]
        bad = max(at for at, m in stay.got if at - m.due > late_ns)
        assert abs(int(found.steady[row]) - max(bad, exact.at_ns[row])) < 20 * MS


def test_a_gap_spoils_no_more_than_what_came_before_it_was_noticed() -> None:
    world = cut(back_ns=0)
    world.deliver(outage(world, 330 * MS))
    found = case(world.profile, fold(world.history())).felt[0]
    assert found is not None
    for row, stay in enumerate(world.stays):
        first = min(at for at, m in stay.got if m.due >= world.faults[0].end)
        noticed = [
            min(at for at, m in stay.got if (m.slot, m.route) == stream and at >= first)
            for stream in {(m.slot, m.route) for _, m in stay.got}
        ]
        assert first <= int(found.steady[row]) <= max(noticed)


def test_every_consumer_has_a_line_in_the_table() -> None:
    world = cut(back_ns=0, link="client-gateway")
    fault = world.faults[0]
    world.deliver(lambda m, stay: m.sent >= fault.start and (stay.consumer == 1 or m.sent < fault.end + 200 * MS))
    found = case(world.profile, fold(world.history()))
    lines = list(csv.DictReader(io.StringIO(consumer_table(found.contract, found.felt))))
    assert [line["consumer"] for line in lines] == [str(c) for c in range(5)]
    assert {line["fault"] for line in lines} == {"cut"}
    assert [line["first_fresh_s"] == "" for line in lines] == [c == 1 for c in range(5)]
    assert all(float(line["steady_s"]) >= 0.2 for line in lines if line["consumer"] != "1")
