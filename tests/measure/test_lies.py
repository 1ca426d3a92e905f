"""Where could a number lie?  Each test plants one way to be fooled: a verdict too kind, or blame on the wrong one."""

from __future__ import annotations

from typing import Any

import msgspec

from loadtests.measure.judge import judge
from loadtests.model import records as r
from loadtests.model.ids import SLICE_NS
from loadtests.model.results import Check, Results, Verdict
from tests.measure.simulate import MS, FaultIn, S, Stay, World, profile

CUT = {"name": "cut", "kind": "down", "link": "gateway-redis", "at_s": 3.0, "for_s": 1.0}


def check_of(results: Results, start: str) -> Check:
    return next(c for c in results.checks if c.name.startswith(start))


def cut_world(threshold: dict[str, Any] | None = None, **changes: Any) -> World:
    """The link is cut from 3 s after the warm-up on, for one second; nothing is delivered yet."""
    thresholds = [{"measure": "lost_defect", "at_most": 0.0, "phases": ["all"]}] + ([threshold] if threshold else [])
    world = World(profile(faults=[CUT], thresholds=thresholds, **changes))
    world.publish()
    world.subscribe()
    start = world.warm + 3 * S
    world.faults.append(FaultIn(name="cut", kind="down", link="gateway-redis", start=start, end=start + S))
    return world


def changed(history: list[Any], change: Any) -> list[Any]:
    return [(n, f._replace(records=[y for x in f.records if (y := change(x)) is not None])) for n, f in history]


# -- whose is a loss?


def test_a_loss_that_was_seen_before_the_fault_began_is_a_defect() -> None:
    """Its successor on the same stream had come: no later cut of the link can have taken it."""
    world = cut_world()
    start = world.faults[0].start
    early = [m for m in world.messages if m.slot == 1 and start - 450 * MS < m.sent < start - 200 * MS]
    lost = early[len(early) // 2]
    world.deliver(lambda m, stay: m is lost or start - 5 * MS <= m.sent < start + S + 100 * MS)
    results = judge(world.profile, world.history())
    followers = sum(lost.route in world.contract.consumer(c).routes for c in range(world.contract.consumer_count))
    assert results.delivery.lost.defect == followers > 0
    assert check_of(results, "lost_defect").verdict is Verdict.FAIL


def test_a_gap_is_not_excused_by_the_end_of_its_connection_later_on() -> None:
    """What came behind it on that connection proves that the connection still carried."""
    world = World(profile(guard={"undecided_share": 0.1}))
    world.publish()
    world.subscribe()
    stay = world.stays[0]
    stay.end, stay.why = world.warm + 3 * S, "peer closed"
    routes = world.contract.consumer(stay.consumer).routes
    before = [m for m in world.messages if m.route in routes and stay.end - 450 * MS < m.sent < stay.end - 200 * MS]
    lost = before[0]
    assert any(m.stream == lost.stream and lost.sent < m.sent < stay.end - 10 * MS for m in world.messages)
    world.deliver(lambda m, stay: m is lost and stay.consumer == 0)
    results = judge(world.profile, world.history())
    assert results.delivery.lost.defect == 1


def test_what_a_fault_took_that_could_not_be_confirmed_is_not_the_targets() -> None:
    """The control call failed or the read-back did not show it: it may have acted all the same until it was lifted."""
    for step in ("failed", "not in force"):
        world = cut_world()
        fault = world.faults[0]
        world.deliver(lambda m, stay, f=fault: f.start - 5 * MS <= m.sent < f.end + 100 * MS)

        def unsure(x: Any, step: str = step) -> Any:
            if not isinstance(x, r.FaultStep) or x.step not in ("active", "proved"):
                return x
            return msgspec.structs.replace(x, step=step) if x.step == "active" else None

        results = judge(world.profile, changed(world.history(), unsure))
        assert results.delivery.lost.total
        assert results.delivery.lost.defect == 0, step
        assert results.verdict is Verdict.UNKNOWN
        assert check_of(results, "every fault acted").verdict is Verdict.UNKNOWN


def test_a_fault_that_ended_before_its_time_is_not_proved_any_more() -> None:
    """Of `proved` and `not proved` the last word counts, in whatever order the history holds them."""
    for word, verdict in (("not proved", Verdict.UNKNOWN), ("proved", Verdict.PASS)):
        world = cut_world()
        fault = world.faults[0]
        world.deliver(lambda m, stay, f=fault: f.start <= m.sent < f.end + 100 * MS)
        common: dict[str, Any] = {"name": "cut", "kind": "down", "link": "gateway-redis"}
        since = "not in force any more since 4.3 s"
        later = r.FaultStep(
            step="not proved", before_ns=fault.start + 3 * MS, after_ns=fault.start + 400 * MS, detail=since, **common
        )
        world.extra.append(later)
        if word == "proved":
            again = fault.start + 500 * MS
            world.extra.append(r.FaultStep(step="proved", before_ns=fault.start, after_ns=again, **common))
        results = judge(world.profile, world.history())
        assert results.faults[0].proved is (word == "proved")
        acted = check_of(results, "every fault acted")
        assert acted.verdict is verdict
        assert results.recovery[0].verdict is verdict
        if verdict is Verdict.UNKNOWN:
            assert acted.evidence == [f"cut: it was not in force until its end: {since}"]
            assert results.recovery[0].summary == f"cut: it was not in force until its end: {since}"


# -- recovery


def test_no_act_is_no_recovery() -> None:
    world = cut_world({"measure": "not_recovered", "at_most": 0.0})
    world.deliver()
    results = judge(world.profile, changed(world.history(), lambda x: None if isinstance(x, r.FaultStep) else x))
    for name in ("every fault acted", "recovered from every fault", "not_recovered"):
        assert check_of(results, name).verdict is Verdict.UNKNOWN, name


def test_one_that_is_proved_too_slow_outweighs_one_that_is_unsure() -> None:
    twice = {**CUT, "at_s": 2.0, "for_s": 0.5, "repeat": {"every_s": 3.0, "times": 2}}
    limit = {"measure": "recovery_s", "at_most": 0.2}
    world = World(profile(faults=[twice], thresholds=[limit]))
    world.publish()
    world.subscribe()
    for n in range(2):
        start = world.warm + (2 + 3 * n) * S
        world.faults.append(
            FaultIn(
                name=f"cut#{n + 1}", kind="down", link="gateway-redis", start=start, end=start + S // 2, proved=not n
            )
        )
    world.deliver(lambda m, stay: any(f.start <= m.sent < f.end + 600 * MS for f in world.faults))
    results = judge(world.profile, world.history())
    assert [x.verdict for x in results.recovery] == [Verdict.PASS, Verdict.UNKNOWN]
    check = check_of(results, "recovery_s")
    assert check.verdict is Verdict.FAIL
    assert check.measured
    assert check.measured > 0.2


def test_a_limit_finer_than_the_error_bar_is_not_passed() -> None:
    for limit, verdict in ((0.05, Verdict.UNKNOWN), (0.5, Verdict.PASS)):
        world = cut_world({"measure": "recovery_s", "at_most": limit})
        fault = world.faults[0]
        world.deliver(lambda m, stay, f=fault: f.start <= m.sent < f.end)
        results = judge(world.profile, world.history())
        assert results.recovery[0].error_s
        assert results.recovery[0].error_s > 0.05
        assert check_of(results, "recovery_s").verdict is verdict


def _busy(history: list[Any], from_ns: int, to_ns: int) -> list[Any]:
    def worse(x: Any) -> Any:
        hit = isinstance(x, r.HarnessSecond) and from_ns < x.at_ns <= to_ns
        return msgspec.structs.replace(x, saturated=True) if hit else x

    return changed(history, worse)


def test_a_slow_recovery_while_the_load_generator_was_in_trouble_is_unknown() -> None:
    world = cut_world({"measure": "recovery_s", "at_most": 0.3})
    fault = world.faults[0]
    world.deliver(lambda m, stay: fault.start <= m.sent < fault.end + 600 * MS)
    assert check_of(judge(world.profile, world.history()), "recovery_s").verdict is Verdict.FAIL
    results = judge(world.profile, _busy(world.history(), fault.end, fault.end + S))
    assert check_of(results, "recovery_s").verdict is Verdict.UNKNOWN


def test_a_baseline_of_our_own_trouble_does_not_widen_the_band() -> None:
    """Slow because we were, before the fault; then slow for good after it: that is no recovery."""
    world = cut_world(recovery={"limit_s": 1.5})
    fault = world.faults[0]
    world.deliver(
        lambda m, stay: fault.start <= m.sent < fault.end, lambda m, stay: 0 if m.sent < world.warm else 300 * MS
    )
    results = judge(world.profile, _busy(world.history(), world.warm - S, fault.start + S - 1))
    assert results.recovery[0].verdict is Verdict.UNKNOWN


def test_a_third_fault_is_not_blamed_on_the_first_of_two_that_overlap() -> None:
    faults = [
        {**CUT, "name": "a", "at_s": 2.0, "for_s": 1.0},
        {"name": "b", "kind": "latency", "link": "client-gateway", "at_s": 2.5, "for_s": 0.3, "latency_ms": 5},
        {**CUT, "name": "c", "at_s": 3.6, "for_s": 0.6},
    ]
    world = World(profile(faults=faults, recovery={"limit_s": 1.5}))
    world.publish()
    world.subscribe()
    for f in faults:
        start = world.warm + round(f["at_s"] * S)
        end = start + round(f["for_s"] * S)
        world.faults.append(FaultIn(name=f["name"], kind=f["kind"], link=f["link"], start=start, end=end))
    a, _, c = world.faults
    # Back 300 ms after the first was healed, then the third cuts it: too early to say, not "not recovered".
    world.deliver(lambda m, stay: a.start <= m.sent < a.end + 300 * MS or c.start <= m.sent < c.end + 1400 * MS)
    of = {x.fault: x for x in judge(world.profile, world.history()).recovery}
    assert of["a"].verdict is Verdict.UNKNOWN, of["a"].summary
    assert "next fault" in of["a"].summary


# -- our own doing


def test_consumers_that_locust_took_away_are_no_clients_that_the_target_lost() -> None:
    world = cut_world()
    for stay in world.stays[:2]:
        stay.end, stay.why = world.warm + S, "moved"
    fault = world.faults[0]
    world.deliver(lambda m, stay: fault.start <= m.sent < fault.end)
    world.extra += [
        r.WantedUsers(at_ns=world.warm - S, wanted={"WebSocketClient": 5, "EventPublisher": 2}),
        r.WantedUsers(at_ns=world.warm + S, wanted={"WebSocketClient": 3, "EventPublisher": 2}),
    ]
    results = judge(world.profile, world.history())
    assert results.recovery[0].verdict is Verdict.PASS, results.recovery[0].summary
    assert results.recovery[0].recovery_s == 0
    assert check_of(results, "load offered").verdict is Verdict.PASS


def test_publishers_that_are_gone_offer_less_than_planned() -> None:
    fewer = r.WantedUsers(at_ns=3 * S + S // 2, wanted={"WebSocketClient": 5, "EventPublisher": 1})
    dead = r.Trouble(process="main", from_ns=4 * S, to_ns=-1, what="the worker is gone")
    for record in (fewer, dead):
        world = World(profile()).calm()
        world.extra.append(record)
        check = check_of(judge(world.profile, world.history()), "load offered as planned")
        assert check.verdict is Verdict.UNKNOWN
        assert check.evidence


# -- our own trouble


def test_what_is_lost_to_a_reader_that_could_not_keep_up_is_no_defect_of_the_target() -> None:
    """FAIL needs evidence outside our own trouble."""
    thresholds = [
        {"measure": "lost_defect", "at_most": 0.0, "phases": ["all"]},
        {"measure": "delivery_rate", "at_least": 1.0, "phases": ["all"]},
    ]
    for beyond_s, verdict in ((0, Verdict.UNKNOWN), (3, Verdict.FAIL)):
        world = World(profile(thresholds=thresholds))
        world.publish()
        world.subscribe()
        start = world.warm + 2 * S
        world.deliver(lambda m, stay, a=start: a < m.sent < a + S // 5)
        lost = next(m for m in world.messages if m.sent > start + beyond_s * S)
        for stay in world.stays[:1]:
            stay.got = [g for g in stay.got if g[1] is not lost]
        results = judge(world.profile, _busy(world.history(), start - S, start + 2 * S))
        assert results.delivery.lost.defect
        for name in ("lost_defect", "delivery_rate"):
            assert check_of(results, name).verdict is verdict, (name, beyond_s)


def test_who_left_while_we_were_in_trouble_is_not_the_targets_doing() -> None:
    threshold = {"measure": "connected", "at_least": 5.0, "phases": ["all"]}
    for busy, verdict in ((False, Verdict.FAIL), (True, Verdict.UNKNOWN)):
        world = World(profile(thresholds=[threshold], guard={"undecided_share": 0.1}))
        world.publish()
        world.subscribe()
        first = world.stays[0]
        end = first.end
        first.end, first.why = world.warm + 2 * S, "peer closed"
        world.stays.append(Stay(consumer=first.consumer, epoch=1, start=first.end + S // 2, end=end))
        world.deliver()
        history: list[Any] = world.history()
        results = judge(world.profile, _busy(history, first.end - S, first.end + 2 * S) if busy else history)
        assert check_of(results, "connected").verdict is verdict


def test_bytes_that_lay_in_the_kernel_for_long_waited_for_us() -> None:
    """Processor and timers may look well while no socket is read: a target may drop such a reader."""
    world = World(profile())
    world.publish()
    world.subscribe()
    start = world.warm + 2 * S
    world.deliver(lambda m, stay: start < m.sent < start + S // 5)

    def late(x: Any) -> Any:
        hit = isinstance(x, r.HarnessSecond) and start - S < x.at_ns < start + 2 * S
        return msgspec.structs.replace(x, read_delay_p99_ns=450 * MS) if hit else x

    results = judge(world.profile, changed(world.history(), late))
    assert check_of(results, "lost_defect").verdict is Verdict.UNKNOWN
    assert results.harness.saturated_s


def test_a_stretch_of_which_our_process_left_no_reading_is_no_evidence_either() -> None:
    """A hub that is stalled writes no reading of itself: to say nothing is not to be in order."""
    world = World(profile())
    world.publish()
    world.subscribe()
    start = world.warm + 2 * S
    world.deliver(lambda m, stay: start < m.sent < start + S // 5)
    history = world.history()
    assert check_of(judge(world.profile, history), "lost_defect").verdict is Verdict.FAIL

    def silent(x: Any) -> Any:
        return None if isinstance(x, r.HarnessSecond) and start - 2 * S < x.at_ns < start + 2 * S else x

    assert check_of(judge(world.profile, changed(history, silent)), "lost_defect").verdict is Verdict.UNKNOWN


def test_a_latency_that_no_reading_speaks_for_is_not_counted() -> None:
    """A hub in which one turn takes seconds leaves a hole between two readings: what came in it was read late."""
    world = World(profile()).calm()
    history = world.history()
    start = world.warm + 2 * S

    def silent(x: Any) -> Any:
        return None if isinstance(x, r.HarnessSecond) and start - 2 * S < x.at_ns < start + 2 * S else x

    whole, holed = judge(world.profile, history), judge(world.profile, changed(history, silent))
    assert holed.latency_ms.count < whole.latency_ms.count
    assert holed.delivery.unique == whole.delivery.unique


# -- what is missing


def test_too_few_deliveries_of_a_load_that_was_not_offered_say_nothing() -> None:
    world = World(profile(thresholds=[{"measure": "deliveries", "at_least": 1e9, "phases": ["all"]}]))
    world.not_offered = 10_000
    world.calm()
    check = check_of(judge(world.profile, world.history()), "deliveries")
    assert check.verdict is Verdict.UNKNOWN
    assert "not offered" in check.summary


def test_files_of_two_runs_or_two_profiles_are_no_history() -> None:
    for change in ({"run": "run-0"}, {"profile_sha256": "1" * 64}):
        world = World(profile(), processes=2).calm()

        def other(x: Any, change: dict[str, str] = change) -> Any:
            of_it = isinstance(x, r.Header) and x.process == "worker-1"
            return msgspec.structs.replace(x, **change) if of_it else x

        results = judge(world.profile, changed(world.history(), other))
        assert check_of(results, "the history is whole").verdict is Verdict.UNKNOWN, change
        assert results.verdict is Verdict.UNKNOWN


def test_a_file_that_lost_its_tail_between_two_frames_is_named() -> None:
    world = World(profile()).calm()
    frames = {"main": 1, "worker-7": 3}
    world.finish = r.Finish(
        at_ns=world.end, reason="plan done", plan_done=True, drained=True, complete=True, frames=frames
    )
    results = judge(world.profile, world.history())
    assert results.verdict is Verdict.UNKNOWN
    assert any(
        line.startswith("worker-7: frames 0 to 2") for line in check_of(results, "the history is whole").evidence
    )


def test_readings_that_end_early_are_no_flat_memory() -> None:
    threshold = {"measure": "growth_mb", "at_most": 10.0, "process": "gateway", "phases": ["all"]}
    for share, verdict in ((1.0, Verdict.PASS), (0.6, Verdict.UNKNOWN)):
        world = World(profile(thresholds=[threshold])).calm()
        span = world.plan_end - world.warm
        for i in range(round(40 * share)):
            world.samples.append(
                r.Samples(source="gateway", at_ns=world.warm + i * span // 40, metric=["rss_bytes"], value=[1e8])
            )
        results = judge(world.profile, world.history())
        assert check_of(results, "growth_mb").verdict is verdict, share


def test_the_longest_latency_is_not_hidden_behind_slow_reads() -> None:
    """Where our reads were too slow to be believed, the kernel's stamps still say how long it took."""
    threshold = {"measure": "latency_max_ms", "at_most": 100.0, "phases": ["all"]}
    world = World(profile(thresholds=[threshold])).calm()
    slow = r.Consumed(
        group=0, due_slice=world.warm // SLICE_NS + 5, received_slice=world.warm // SLICE_NS + 9, clock="kernel",
        unique=0, repeated=0, bytes=0, latency=([1500], [1]), negative=0,
    )  # fmt: skip
    world.extra.append(slow)
    check = check_of(judge(world.profile, world.history()), "latency_max_ms")
    assert check.verdict is Verdict.FAIL


def test_losses_outside_the_phases_of_a_threshold_are_said() -> None:
    world = World(profile(thresholds=[{"measure": "lost_defect", "at_most": 0.0}]))
    world.publish()
    world.subscribe()
    lost = next(m for m in world.messages if m.sent > world.warm - S // 2)
    world.deliver(lambda m, stay: m is lost and stay.consumer == 0)
    results = judge(world.profile, world.history())
    assert results.delivery.lost.defect == 1
    assert "1 more" in check_of(results, "lost_defect").summary


# -- just before a fault


def before_the_cut(**changes: Any) -> World:
    """The link is cut, and what is judged in calm may come as late as 2 s."""
    thresholds = [{"measure": m, "at_most": 0.0} for m in ("lost_defect", "lost_total")]
    thresholds.append({"measure": "delivery_rate", "at_least": 0.999})
    run = {"duration_s": 8.0, "warm_up_s": 1.0, "drain_s": 2.5, "late_s": 2.0, "settle_ms": 100}
    world = World(profile(faults=[CUT], run=run, thresholds=thresholds))
    world.publish()
    world.subscribe()
    start = world.warm + 3 * S
    world.faults.append(FaultIn(name="cut", kind="down", link="gateway-redis", start=start, end=start + S))
    return world


def by_the_cut(world: World) -> Any:
    start, end = world.faults[0].start, world.faults[0].end
    return lambda m, stay: start - 5 * MS <= m.sent < end + 100 * MS


def test_who_is_thrown_out_just_before_a_fault_is_judged_in_calm() -> None:
    world = before_the_cut()
    start, stay = world.faults[0].start, world.stays[0]
    world.stays.append(Stay(consumer=stay.consumer, epoch=1, start=start - 100 * MS, end=stay.end))
    stay.end, stay.why = start - 1600 * MS, "peer closed"
    world.deliver(by_the_cut(world))
    results = judge(world.profile, world.history())
    assert check_of(results, "lost_disconnected").verdict is Verdict.FAIL
    assert check_of(results, "lost_disconnected").measured == results.delivery.away.disconnected > 0
    assert check_of(results, "delivery_rate").verdict is Verdict.FAIL


def test_what_was_lost_just_before_a_fault_and_overtaken_is_judged_in_calm() -> None:
    world = before_the_cut()
    start, cut = world.faults[0].start, by_the_cut(world)
    world.deliver(lambda m, stay: cut(m, stay) or start - 900 * MS <= m.sent < start - 600 * MS)
    results = judge(world.profile, world.history())
    assert results.delivery.lost.defect > 0
    for measure in ("lost_defect", "lost_total"):
        assert check_of(results, measure).verdict is Verdict.FAIL
        assert check_of(results, measure).measured == results.delivery.lost.defect
    assert check_of(results, "delivery_rate").verdict is Verdict.FAIL


def test_what_was_refused_just_before_a_fault_is_judged_in_calm() -> None:
    world = before_the_cut()
    start = world.faults[0].start
    for m in world.messages:
        if start - 900 * MS <= m.sent < start - 600 * MS:
            m.outcome = "FAILED"
    world.deliver(by_the_cut(world))
    assert check_of(judge(world.profile, world.history()), "publish_failed").verdict is Verdict.FAIL


def test_what_a_fault_took_that_was_due_just_before_it_is_not_judged_in_calm() -> None:
    world = before_the_cut()
    start, end = world.faults[0].start, world.faults[0].end
    world.deliver(lambda m, stay: start - 900 * MS <= m.sent < end + 100 * MS)
    results = judge(world.profile, world.history())
    assert results.delivery.lost.charged > 0
    assert results.delivery.lost.defect == 0
    assert results.verdict is Verdict.PASS


def test_a_delivery_that_was_due_in_another_age_takes_no_room() -> None:
    """As a target that writes its own clock into the identity leaves it in an older history."""
    world = World(profile()).calm()
    for due in (17_000_000_000, -17_000_000_000):
        world.extra.append(
            r.Consumed(
                group=0, due_slice=due, received_slice=world.warm // SLICE_NS, clock="read", unique=1,
                repeated=0, bytes=1, latency=([], []), service=([], []), read_delay=([1], [1]), reads=1, negative=1,
            )
        )  # fmt: skip
    assert judge(world.profile, world.history()).verdict is Verdict.UNKNOWN
