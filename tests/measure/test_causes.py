"""Whose loss was it?  Every kind of fault in a world where every message is known; planted defects beside them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from loadtests.measure.judge import judge
from loadtests.measure.recovery_spread import repeats
from loadtests.model import records as r
from loadtests.model.fault_kinds import KINDS
from loadtests.model.results import Results, Verdict
from loadtests.tally.histogram import bucket_of
from tests.measure.simulate import MS, FaultIn, Message, S, Stay, World, profile

ONLY_DELAY = ("latency", "bandwidth", "slicer", "slow-close")
LIMIT = {"recovery": {"limit_s": 1.5}}


def world_of(*faults: FaultIn, **changes: Any) -> World:
    """Published and subscribed; the faults' times count from the end of the warm-up."""
    world = World(profile(**{**LIMIT, **changes}))
    world.publish()
    world.subscribe()
    for fault in faults:
        fault.start += world.warm
        fault.end += world.warm
        world.faults.append(fault)
    return world


def fault(
    kind: str, where: str, at_s: float = 3.0, for_s: float = 1.0, *, name: str = "it", proved: bool = True
) -> FaultIn:
    start = round(at_s * S)
    return FaultIn(name=name, kind=kind, link=where, start=start, end=start + round(for_s * S), proved=proved)


def during(it: FaultIn) -> Any:
    return lambda m, stay: it.start <= m.sent < it.end


def where_of(kind: str) -> str:
    row = KINDS[kind]
    if row.place == "link":
        return "gateway-redis"
    if row.place == "service":
        return "redis" if "redis" in row.services else row.services[0]
    return {"consumers": "consumers", "publishers": "publishers", "target": "gateway"}[row.place]


def kinds() -> list[Any]:
    """All of them; in `make test` the first of those that say the same of themselves to who judges."""
    found, said = [], set()
    for name, row in sorted(KINDS.items()):
        says = (row.place, row.charges, row.loses, row.stops, where_of(name))
        found.append(pytest.param(name, marks=[pytest.mark.prove_all] if says in said else []))
        said.add(says)
    return found


@pytest.mark.parametrize("kind", kinds())
def test_a_loss_under_a_fault_on_its_path_is_charged_and_all_else_is_a_defect(kind: str) -> None:
    world = world_of(fault(kind, where_of(kind)))
    (it,) = world.faults
    world.deliver(during(it))
    lost = judge(world.profile, world.history()).delivery.lost
    assert lost.total
    charged = KINDS[kind].charges and where_of(kind) != "postgres" and kind not in ONLY_DELAY
    assert (lost.charged, lost.defect) == ((lost.total, 0) if charged else (0, lost.total))


@pytest.mark.parametrize("kind", kinds())
def test_without_proof_every_kinds_recovery_is_unknown_with_the_reason(kind: str) -> None:
    for loses in (True, False):
        world = world_of(fault(kind, where_of(kind), proved=False))
        (it,) = world.faults
        doubt = r.FaultStep(
            name="it", kind=kind, link=it.link, step="not proved", before_ns=it.start, after_ns=it.end,
            detail="the probe saw no difference",
        )  # fmt: skip
        world.extra.append(doubt)
        world.deliver((lambda m, stay, it=it: it.start <= m.sent < it.end + 4 * S) if loses else None)
        (recovery,) = judge(world.profile, world.history()).recovery
        assert recovery.verdict is Verdict.UNKNOWN
        assert "nothing proves that it acted: the probe saw no difference" in recovery.summary
        assert "no visible impact" not in recovery.summary


# -- planted defects


def every(n: int, from_ns: int, to_ns: int) -> Any:
    """Each n-th message of each stream, but for the ends of the stretch."""
    return lambda m, stay: from_ns < m.sent < to_ns and m.seq % n == 1


def test_what_a_planted_defect_drops_is_the_targets_while_another_link_is_under_a_fault() -> None:
    defect = fault("planted-defect", "gateway", 2.0, 3.0, name="every-third")
    slow = fault("latency", "gateway-postgres", 2.5, 2.0, name="slow")
    world = world_of(defect, slow)
    world.deliver(every(3, defect.start, defect.end))
    results = judge(world.profile, world.history())
    assert results.delivery.lost.total
    assert results.delivery.lost.defect == results.delivery.lost.total
    assert results.delivery.lost.charged == 0
    assert results.checks[0].verdict is Verdict.FAIL


def test_what_was_passed_over_before_a_fault_on_the_own_path_stays_a_defect() -> None:
    defect = fault("planted-defect", "gateway", 1.0, 1.5, name="every-third")
    cut = fault("down", "gateway-redis", 3.0, 1.0, name="cut")
    world = world_of(defect, cut)
    drop, gone = every(3, defect.start, defect.end), during(cut)
    world.deliver(lambda m, stay: drop(m, stay) or gone(m, stay))
    lost = judge(world.profile, world.history()).delivery.lost
    planted = sum(
        1
        for m in world.messages
        for stay in world.stays
        if drop(m, stay) and m.route in world.contract.consumer(stay.consumer).routes
    )
    assert lost.defect == planted
    assert lost.charged
    assert lost.total == planted + lost.charged


def test_a_planted_defect_spoils_no_calm_of_others() -> None:
    """It is the target's own: its losses count in calm phases, which it does not end."""
    defect = fault("planted-defect", "gateway", 2.0, 2.0)
    world = world_of(defect, thresholds=[{"measure": "lost_defect", "at_most": 0.0}])
    world.deliver(every(3, defect.start, defect.end))
    results = judge(world.profile, world.history())
    assert results.checks[0].verdict is Verdict.FAIL
    assert "fault" not in {p.phase for p in results.phases}


@pytest.mark.parametrize("kind", sorted(k for k, row in KINDS.items() if row.place == "link"))
def test_what_was_overtaken_under_a_link_that_only_delays_is_a_defect(kind: str) -> None:
    """Delayed bytes come all the same, so what a lasting connection passed over the target had dropped."""
    world = world_of(fault(kind, "gateway-redis", 2.0, 2.0))
    (it,) = world.faults
    world.deliver(every(3, it.start, it.end))
    results = judge(world.profile, world.history())
    lost = results.delivery.lost
    assert lost.total
    only_delays = kind in ONLY_DELAY
    assert (lost.defect, lost.charged) == ((lost.total, 0) if only_delays else (0, lost.total))
    check = next(c for c in results.checks if c.name.startswith("lost_defect"))
    assert check.verdict is (Verdict.FAIL if only_delays else Verdict.PASS)
    why = f'passed over although "it" ({kind}) delays and takes nothing'
    assert all(line.endswith(why) for line in check.evidence)
    assert bool(check.evidence) is only_delays


def test_another_fault_on_the_path_may_have_taken_what_a_delay_cannot() -> None:
    """Even while that one is only being recovered from."""
    slow = fault("latency", "gateway-redis", 2.0, 2.0, name="slow")
    cut = fault("down", "client-gateway", 1.5, 1.0, name="cut")
    world = world_of(slow, cut, recovery={"limit_s": 3.0})
    world.deliver(every(3, cut.start, slow.end))
    results = judge(world.profile, world.history())
    assert results.delivery.lost.charged == results.delivery.lost.total
    assert {f.name: f.lost_charged for f in results.faults} == {"slow": 0, "cut": results.delivery.lost.total}


def test_a_delay_that_had_to_be_lifted_the_hard_way_may_have_taken_it() -> None:
    world = world_of(fault("latency", "gateway-redis", 2.0, 2.0))
    (it,) = world.faults
    world.deliver(every(3, it.start, it.end))
    history = [
        (n, f._replace(records=[
            msgspec.structs.replace(x, by="escalation: deleted its proxy")
            if isinstance(x, r.FaultStep) and x.step == "lifted" else x
            for x in f.records
        ]))
        for n, f in world.history()
    ]  # fmt: skip
    lost = judge(world.profile, history).delivery.lost
    assert lost.charged == lost.total


# -- faults that consumers play


def user_faults(world: World, *consumers: int) -> None:
    (it,) = world.faults
    world.extra.append(
        r.ChosenUsers(fault="it", kind=it.kind, consumers=list(consumers), from_ns=it.start, to_ns=it.end)
    )


def test_a_consumers_fault_is_charged_for_those_whom_it_chose_and_no_others() -> None:
    world = world_of(fault("stalled-consumers", "plain"))
    user_faults(world, 0)
    (it,) = world.faults
    world.deliver(lambda m, stay: stay.consumer in (0, 1) and it.start <= m.sent < it.end)
    lost = judge(world.profile, world.history()).delivery.lost
    assert lost.total
    assert lost.charged == lost.defect == lost.total // 2


def test_the_edges_of_a_chosen_consumers_connection_are_excused_and_those_of_others_are_not() -> None:
    for chosen, undecided in ((0, False), (1, True)):
        world = world_of(fault("offline-consumers", "plain"), guard={"undecided_share": 1.0})
        user_faults(world, chosen)
        (it,) = world.faults
        stay = world.stays[0]
        world.stays.append(Stay(consumer=0, epoch=1, start=it.end - 50 * MS, end=stay.end))
        stay.end, stay.why = it.start + 100 * MS, "peer closed"
        edge = stay.end - 60 * MS
        world.deliver(lambda m, s, edge=edge: s.consumer == 0 and s.epoch == 0 and m.sent >= edge)
        results = judge(world.profile, world.history())
        assert bool(results.delivery.undecided) == undecided, chosen


# -- inside the injector


@pytest.mark.parametrize(
    ("kind", "where", "share"),
    [
        ("down", "gateway-redis", "some"),
        ("flap", "gateway-redis", "all"),
        ("reset", "client-gateway", "all"),
        ("limit-data", "gateway-redis", "all"),
        ("failover", "gateway-redis", "all"),
        ("black-hole", "gateway-redis", "all"),
        ("kill", "toxiproxy", "some"),
        ("restart", "toxiproxy", "some"),
        ("kill", "redis", "none"),
        ("pause", "toxiproxy", "none"),
        ("pause", "gateway", "none"),
        ("latency", "gateway-redis", "none"),
        ("bandwidth", "gateway-redis", "none"),
    ],
)
def test_what_the_injector_may_have_held_is_bounded_by_its_cuts(kind: str, where: str, share: str) -> None:
    world = world_of(fault(kind, where))
    (it,) = world.faults
    world.deliver(lambda m, stay: it.start - 20 * MS <= m.sent < it.end)
    lost = judge(world.profile, world.history()).delivery.lost
    assert bool(lost.charged) == (kind not in ONLY_DELAY)
    assert lost.charged is not None
    assert lost.injector_at_most is not None
    held = lost.injector_at_most
    assert {"none": held == 0, "some": 0 < held < lost.charged, "all": held == lost.charged}[share], (held, lost)


def test_an_escalation_cuts_as_well() -> None:
    world = world_of(fault("latency", "gateway-redis"))
    (it,) = world.faults
    world.deliver(during(it))
    history = [
        (n, f._replace(records=[
            msgspec.structs.replace(x, by="escalation: proxy recreated")
            if isinstance(x, r.FaultStep) and x.step == "lifted" else x
            for x in f.records
        ]))
        for n, f in world.history()
    ]  # fmt: skip
    lost = judge(world.profile, history).delivery.lost
    assert lost.injector_at_most == lost.charged


# -- the broker


def test_what_redis_closed_subscribers_for_is_the_brokers() -> None:
    world = world_of()
    from_ns, to_ns = world.warm + 3 * S, world.warm + 4 * S
    for at, closed in ((from_ns - S, 0.0), (from_ns, 0.0), (to_ns, 1.0), (to_ns + S, 1.0)):
        metric = ["client_output_buffer_limit_disconnections"]
        world.samples.append(r.Samples(source="redis", at_ns=at, metric=metric, value=[closed]))
    away = next(m.sent for m in world.messages if m.sent > to_ns + 2 * S)
    world.deliver(lambda m, stay: from_ns <= m.sent < to_ns or m.sent == away)
    lost = judge(world.profile, world.history()).delivery.lost
    assert lost.broker
    assert lost.defect, "what was lost away from the overrun is a defect still"
    assert lost.broker + lost.defect == (lost.total or 0)


def test_the_subscriber_by_which_a_squeeze_proves_itself_is_not_the_targets() -> None:
    for closed, broker in ((1.0, False), (2.0, True)):
        world = world_of(fault("output-buffer", "redis"))
        (it,) = world.faults
        proof = r.FaultStep(
            name="it", kind="output-buffer", link="redis", step="proved", before_ns=it.start + 3 * MS,
            after_ns=it.start + 9 * MS, effective={"disconnected": 1},
        )  # fmt: skip
        world.extra.append(proof)
        for at, count in ((it.start - S, 0.0), (it.end - 100 * MS, closed)):
            metric = ["client_output_buffer_limit_disconnections"]
            world.samples.append(r.Samples(source="redis", at_ns=at, metric=metric, value=[count]))
        low, high = it.start - 450 * MS, it.start - 200 * MS
        early = next(m for m in world.messages if m.slot == 1 and low < m.sent < high)
        world.deliver(lambda m, stay, early=early: m is early)
        lost = judge(world.profile, world.history()).delivery.lost
        assert lost.total
        assert ((lost.broker or 0) > 0, (lost.defect or 0) > 0) == (broker, not broker)


# -- more than one


def two(second_for_s: float, back: Any) -> Results:
    a = fault("down", "gateway-redis", 2.0, 1.0, name="a")
    b = fault("down", "client-gateway", 2.5, second_for_s, name="b")
    world = world_of(a, b)
    world.deliver(back(a, b))
    return judge(world.profile, world.history())


def test_of_two_that_overlap_neither_loss_is_a_defect_and_both_are_judged() -> None:
    results = two(1.5, lambda a, b: lambda m, stay: a.start <= m.sent < b.end + 200 * MS)
    assert results.delivery.lost.defect == 0
    assert results.delivery.lost.charged == results.delivery.lost.total
    first, second = results.recovery
    assert first.verdict is second.verdict is Verdict.PASS, [x.summary for x in results.recovery]
    assert second.recovery_s == pytest.approx(0.2, abs=0.15)
    assert first.recovery_s == pytest.approx(1.2, abs=0.15)
    assert first.summary.endswith('at most: "b" lasted 1.00 s beyond it')


def test_one_that_lasts_beyond_the_others_limit_makes_that_one_unknown_and_says_so() -> None:
    results = two(2.5, lambda a, b: lambda m, stay: a.start <= m.sent < b.end + 200 * MS)
    first, second = results.recovery
    assert first.verdict is Verdict.UNKNOWN
    assert first.recovery_s is None
    assert '"b" lasted 2.00 s beyond it, so its own recovery cannot be told; steady 0.2' in first.summary
    assert second.verdict is Verdict.PASS
    assert results.delivery.lost.defect == 0


def test_two_that_never_recovered_are_two_failures() -> None:
    results = two(1.5, lambda a, b: lambda m, stay: a.start <= m.sent)
    assert [x.verdict for x in results.recovery] == [Verdict.FAIL, Verdict.FAIL], [x.summary for x in results.recovery]


# -- ready, repeats, interference


def test_ready_is_told_apart_from_the_recovery() -> None:
    world = world_of(fault("kill", "redis"))
    (it,) = world.faults
    step = r.FaultStep(
        name="it", kind="kill", link="redis", step="lifted", before_ns=it.end - MS, after_ns=it.end, by="plan",
        effective={"start_to_ready_ms": 312.5},
    )  # fmt: skip
    world.extra.append(step)
    world.deliver(lambda m, stay: it.start <= m.sent < it.end + 600 * MS)
    (recovery,) = judge(world.profile, world.history()).recovery
    assert recovery.ready_s == pytest.approx(0.312, abs=0.001)
    assert recovery.recovery_s == pytest.approx(0.6, abs=0.15)


def stopped(kind: str, *, active_ms: int, lifted_ms: int, **effective: float) -> Results:
    """A service that is down for a second, whose two control calls take their time; nothing comes until it is ready."""
    world = world_of(fault(kind, "redis"), recovery={"limit_s": 2.5})
    (it,) = world.faults
    world.deliver(lambda m, stay: it.start <= m.sent < it.end + 600 * MS)

    def timed(x: Any) -> Any:
        if not isinstance(x, r.FaultStep) or x.step not in ("active", "lifted"):
            return x
        at, ms = (it.start, active_ms) if x.step == "active" else (it.end, lifted_ms)
        told = effective if x.step == "lifted" else {}
        return msgspec.structs.replace(x, before_ns=at, after_ns=at + ms * MS, effective={**told})

    return judge(world.profile, [(n, f._replace(records=[timed(x) for x in f.records])) for n, f in world.history()])


@pytest.mark.parametrize("kind", ["kill", "pause"])
def test_a_stopped_service_counts_from_the_calls_that_stop_it_and_start_it_again(kind: str) -> None:
    """How long it took until it was ready is a part of the outage and of the recovery, not of their error."""
    results = stopped(kind, active_ms=300, lifted_ms=500, start_to_ready_ms=450.0, down_s=1.4)
    (acted,), (recovery,) = results.faults, results.recovery
    assert acted.injected_s is not None
    assert acted.healed_s == pytest.approx(acted.injected_s + 1, abs=0.001)
    assert recovery.outage_s == pytest.approx(1.6, abs=0.15)
    assert recovery.recovery_s == pytest.approx(0.6, abs=0.15)
    assert recovery.ready_s == pytest.approx(0.45, abs=0.001)
    assert recovery.error_s == pytest.approx(0.4, abs=0.001)


def test_a_restart_counts_from_when_it_went_down_and_was_started_again() -> None:
    """One call ends it and waits until it is ready; the step that lifts it comes after all that."""
    results = stopped("restart", active_ms=900, lifted_ms=1, start_to_ready_ms=600.0, down_s=0.85)
    (acted,), (recovery,) = results.faults, results.recovery
    assert acted.injected_s is not None
    assert acted.healed_s == pytest.approx(acted.injected_s + 0.25, abs=0.001)
    assert recovery.outage_s == pytest.approx(1.6, abs=0.15)
    assert recovery.recovery_s == pytest.approx(1.35, abs=0.15)
    assert recovery.ready_s == pytest.approx(0.6, abs=0.001)


def test_a_restart_of_which_nobody_says_when_it_was_started_counts_from_its_call() -> None:
    results = stopped("restart", active_ms=900, lifted_ms=1)
    (acted,), (recovery,) = results.faults, results.recovery
    assert acted.healed_s == acted.injected_s
    assert recovery.recovery_s == recovery.outage_s == pytest.approx(1.6, abs=0.15)
    assert recovery.ready_s is None


@pytest.mark.parametrize(
    ("recovered", "median", "greatest", "mean"),
    [
        ([1.0, 3.0, 2.0], 2.0, 3.0, 2.0),
        ([1.0, 2.0], 1.0, 2.0, 1.5),
        ([1.0, None, 2.0], 2.0, None, None),
        ([None, None, 2.0], None, None, None),
    ],
)
def test_repeats_are_never_prettier_than_they_were(
    recovered: list[float | None], median: float | None, greatest: float | None, mean: float | None
) -> None:
    world = world_of(fault("down", "gateway-redis"))
    world.deliver()
    (one,) = judge(world.profile, world.history()).recovery
    all_ = [
        msgspec.structs.replace(
            one, fault=f"it#{n + 1}", recovery_s=v, verdict=Verdict.PASS if v is not None else Verdict.FAIL
        )
        for n, v in enumerate(recovered)
    ]
    (row,) = repeats([*all_, msgspec.structs.replace(one, fault="other")])
    assert (row.fault, row.times, row.recovered) == ("it", len(recovered), sum(v is not None for v in recovered))
    assert row.recovery_s == recovered
    assert (row.median_s, row.max_s, row.mean_s) == (median, greatest, mean)
    unsure = repeats([*all_, msgspec.structs.replace(one, fault="it#9", verdict=Verdict.UNKNOWN)])
    assert unsure[0].median_s is None


def beside(slow: Any, lose: Any) -> Results:
    families = [
        {**f.model_dump(exclude_none=True), **({"path": ["client-gateway"]} if f.name == "ranks" else {})}
        for f in profile().families
    ]
    world = world_of(fault("down", "gateway-redis"), families=families)
    (it,) = world.faults
    ranks = 1

    def family(m: Message) -> int:
        return world.contract.routes[m.route].family

    world.deliver(
        lambda m, stay: it.start <= m.sent < it.end and (family(m) != ranks or lose(m)),
        lambda m, stay: slow if family(m) == ranks and it.start <= m.sent < it.end else 0,
    )
    return judge(world.profile, world.history())


def test_a_stream_beside_the_path_shows_whether_the_fault_touched_it() -> None:
    for slow, lose, touched in (
        (0, lambda m: False, False),
        (300 * MS, lambda m: False, True),
        (0, lambda m: m.seq % 4 == 0, True),
    ):
        (row,) = beside(slow, lose).interference
        assert (row.fault, row.what, row.name, row.on_path) == ("it", "stream", "ranks", False)
        assert row.touched is touched, row.summary
        assert row.before.count > 20
        assert row.after.count > 20
        assert (row.lost or 0) > 0 if "lost" in row.summary else row.lost == 0


def test_queries_are_compared_and_known_to_be_on_the_path_of_a_database_fault() -> None:
    for kind, where, on_path in (("latency", "gateway-redis", False), ("slow-queries", "postgres", True)):
        world = world_of(fault(kind, where))
        (it,) = world.faults
        for n in range(80):
            at = world.warm + n * 100 * MS
            slow = it.start <= at < it.end
            world.extra.append(
                r.Queried(
                    readers=0, query="symbols_count", due_slice=at // (100 * MS), ok=2, failed=0,
                    connect=([], []), latency=([bucket_of((400 if slow else 5) * MS)], [4]),
                )
            )  # fmt: skip
        world.deliver()
        (row,) = [i for i in judge(world.profile, world.history()).interference if i.what == "query"]
        assert (row.name, row.on_path, row.touched, row.lost) == ("symbols_count", on_path, True, 0)
