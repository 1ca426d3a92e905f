"""What becomes of numbers that our own stalls touch?  A stall is planted beside, before or after what it spoils."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from loadtests.measure.judge import judge
from loadtests.model import records as r
from loadtests.model.codec import Frame
from loadtests.model.ids import SLICE_NS
from loadtests.model.results import Check, Results, Verdict
from loadtests.tally.histogram import Histogram
from tests.measure.simulate import MS, FaultIn, S, Stay, World, profile

History = list[tuple[str, Frame]]
READER = {"name": "ui", "count": 1, "timeout_s": 2.0}


def check_of(results: Results, start: str) -> Check:
    return next(c for c in results.checks if c.name.startswith(start))


def busy(history: History, from_ns: int, to_ns: int, process: str = "", lag_ns: int = 2 * MS) -> History:
    """Readings of a process, or of all, say that it could not keep up."""

    def worse(name: str, x: r.Record) -> r.Record:
        hit = isinstance(x, r.HarnessSecond) and from_ns < x.at_ns <= to_ns and process in ("", name)
        return msgspec.structs.replace(x, saturated=True, hub_lag_max_ns=lag_ns) if hit else x

    return [(n, f._replace(records=[worse(n, x) for x in f.records])) for n, f in history]


def silent(history: History, from_ns: int, to_ns: int) -> History:
    """No process left a reading of itself."""

    def stays(x: r.Record) -> bool:
        return not (isinstance(x, r.HarnessSecond) and from_ns < x.at_ns < to_ns)

    return [(n, f._replace(records=[x for x in f.records if stays(x)])) for n, f in history]


def limits(measure: str, limit: float, **more: Any) -> dict[str, Any]:
    return {"thresholds": [{"measure": measure, "at_most": limit, "phases": ["all"], **more}]}


def test_what_a_stalled_publisher_sent_late_is_not_the_targets_latency() -> None:
    """It is received at once, by a process that is quiet: only the process that published knows why it was late."""
    world = World(profile(**limits("latency_max_ms", 200)), processes=2)
    world.publish()
    world.subscribe()
    start = world.warm + 2 * S + 50 * MS
    for message in world.messages:
        if start <= message.due < start + 850 * MS:
            message.sent = start + 850 * MS
    world.deliver()
    history = world.history()
    assert check_of(judge(world.profile, history), "latency_max_ms").verdict is Verdict.FAIL
    own = busy(history, start - S, start + S, process="main")  # the one that publishes in this world
    assert check_of(judge(world.profile, own), "latency_max_ms").verdict is Verdict.PASS
    others = busy(history, start + 2 * S, start + 3 * S, process="main")
    assert check_of(judge(world.profile, others), "latency_max_ms").verdict is Verdict.FAIL


def test_a_stall_while_a_recovery_had_to_hold_makes_it_unknown() -> None:
    """In band from within the limit on, out of it again beyond the limit, by our own doing."""
    cut = {"name": "cut", "kind": "down", "link": "gateway-redis", "at_s": 3.0, "for_s": 1.0}
    world = World(profile(faults=[cut], recovery={"limit_s": 0.9}))
    world.publish()
    world.subscribe()
    start = world.warm + 3 * S
    healed = start + S
    world.faults.append(FaultIn(name="cut", kind="down", link="gateway-redis", start=start, end=healed))
    late = healed + 1020 * MS, healed + 1090 * MS
    world.deliver(
        lambda m, stay: start <= m.sent < healed + 500 * MS,
        lambda m, stay: 400 * MS if late[0] <= m.sent < late[1] else 0,
    )
    history = world.history()
    (plain,) = judge(world.profile, history).recovery
    assert plain.verdict is Verdict.FAIL, plain.summary
    (found,) = judge(world.profile, busy(history, healed + S, healed + 2 * S)).recovery
    assert found.verdict is Verdict.UNKNOWN, found.summary
    (other,) = judge(world.profile, busy(history, healed + 3 * S, healed + 4 * S)).recovery
    assert other.verdict is Verdict.FAIL, other.summary


@pytest.mark.parametrize(("measure", "limit"), [("query_max_ms", 100), ("query_failed", 0)])
def test_a_query_that_waited_for_us_is_not_the_databases(measure: str, limit: float) -> None:
    """Nobody says of a hub that stood still that it did: no reading is left. It was due just before."""
    world = World(profile(**limits(measure, limit), readers=[READER])).calm()
    stall = world.warm + 3 * S

    def asked(at_ns: int, took_ns: int, failed: int = 0) -> r.Queried:
        took = Histogram()
        took.add(took_ns, 40)
        return r.Queried(
            readers=0, query="symbols_count", due_slice=at_ns // SLICE_NS, ok=40, failed=failed,
            connect=([], []), latency=took.sparse(), example="timeout: nothing came" if failed else "",
        )  # fmt: skip

    bad = asked(stall - 300 * MS, 2 * S, failed=int(measure == "query_failed"))
    world.extra += [asked(world.warm + S, 5 * MS), bad]
    history = world.history()
    assert check_of(judge(world.profile, history), measure).verdict is Verdict.FAIL
    found = check_of(judge(world.profile, silent(history, stall, stall + 4 * S)), measure)
    assert found.verdict is Verdict.UNKNOWN, found.summary
    later = check_of(judge(world.profile, silent(history, stall + 3 * S, stall + 7 * S)), measure)
    assert later.verdict is Verdict.FAIL, "what was over before our stall stands"


def test_a_health_page_that_we_were_too_busy_to_read_is_no_evidence() -> None:
    world = World(profile(**limits("health_ms", 100))).calm()
    at = world.warm + 2 * S + 100 * MS
    world.extra += [
        r.PathProbe(what="health", at_ns=world.warm + 500 * MS, took_ns=3 * MS, ok=True),
        r.PathProbe(what="health", at_ns=at, took_ns=800 * MS, ok=True),
        r.PathProbe(what="health", at_ns=at + 10 * MS, took_ns=-1, ok=False, detail="TimeoutError"),
    ]
    history = world.history()
    assert check_of(judge(world.profile, history), "health_ms").verdict is Verdict.FAIL
    assert check_of(judge(world.profile, busy(history, at, at + S)), "health_ms").verdict is Verdict.UNKNOWN
    assert check_of(judge(world.profile, busy(history, at + 2 * S, at + 3 * S)), "health_ms").verdict is Verdict.FAIL


def test_a_health_page_that_was_asked_just_before_a_fault_belongs_to_the_fault() -> None:
    cut = {"name": "cut", "kind": "down", "link": "client-gateway", "at_s": 3.0, "for_s": 1.0}
    calm = {"thresholds": [{"measure": "health_ms", "at_most": 100.0, "phases": ["calm"]}]}
    for ahead_ms, verdict in ((20, Verdict.PASS), (2500, Verdict.FAIL)):
        world = World(profile(faults=[cut], **calm))
        start = world.warm + 3 * S
        world.faults.append(FaultIn(name="cut", kind="down", link="client-gateway", start=start, end=start + S))
        world.calm()
        world.ask_health()
        world.extra += [
            r.PathProbe(what="health", at_ns=start - ahead_ms * MS, took_ns=-1, ok=False, detail="TimeoutError"),
        ]
        assert check_of(judge(world.profile, world.history()), "health_ms").verdict is verdict, ahead_ms


def test_what_piled_up_in_a_stall_is_read_after_the_reading_that_tells_of_it() -> None:
    world = World(profile()).calm()
    at = world.warm + 2 * S
    history = world.history()
    shorter, longer = (
        judge(world.profile, busy(history, at - 1, at, lag_ns=lag)).latency_ms.count for lag in (2 * MS, 900 * MS)
    )
    assert longer < shorter < judge(world.profile, history).latency_ms.count


def test_memory_that_starts_anew_with_a_process_hides_no_growth() -> None:
    """It grew by 50 MB a second, was killed, and ends below where it had begun, however long it lived before."""
    kill = {"name": "dead", "kind": "kill", "service": "gateway", "at_s": 5.0, "for_s": 0.5}
    growth = limits("growth_mb", 50, process="gateway")
    for planted, at_s, verdict in ((True, 5, Verdict.FAIL), (True, 4, Verdict.FAIL), (False, 5, Verdict.PASS)):
        fault = [{**kill, "at_s": float(at_s)}] if planted else []
        world = World(profile(faults=fault, target={"test_system": True}, **growth)).calm()
        dead = world.warm + at_s * S
        if planted:
            world.faults.append(FaultIn(name="dead", kind="kill", link="gateway", start=dead, end=dead + S // 2))
        for n in range(40):
            now = world.warm + n * S // 5
            mb = 100 + 50 * (now - world.warm) / S if now < dead else 90
            world.samples.append(r.Samples(source="gateway", at_ns=now, metric=["rss_bytes"], value=[mb * 1e6]))
        found = check_of(judge(world.profile, world.history()), "growth_mb")
        assert found.verdict is verdict, found.summary


def test_our_lag_in_a_fault_is_a_doubt_about_latencies_in_that_fault() -> None:
    cut = {"name": "slow", "kind": "latency", "link": "client-gateway", "at_s": 3.0, "for_s": 1.0, "latency_ms": 50}
    limit = {"thresholds": [{"measure": "latency_p95_ms", "at_most": 150.0, "phases": ["fault"]}]}
    for lag_ms, verdict in ((0, Verdict.FAIL), (120, Verdict.UNKNOWN)):
        world = World(profile(faults=[cut], **limit))
        world.publish()
        world.subscribe()
        start = world.warm + 3 * S
        world.faults.append(FaultIn(name="slow", kind="latency", link="client-gateway", start=start, end=start + S))
        world.deliver(delay=lambda m, stay, a=start: 300 * MS if a <= m.sent < a + S else 0)

        def lagging(x: r.Record, a: int = start, ms: int = lag_ms) -> r.Record:
            if not isinstance(x, r.PublishTimes) or not a // SLICE_NS <= x.due_slice < (a + S) // SLICE_NS:
                return x
            own = Histogram()
            own.add(ms * MS, x.sent)
            return msgspec.structs.replace(x, own_lag=own.sparse())

        history = [(n, f._replace(records=[lagging(x) for x in f.records])) for n, f in world.history()]
        found = check_of(judge(world.profile, history), "latency_p95_ms")
        assert found.verdict is verdict, found.summary


def test_whom_the_target_dropped_in_our_stall_may_come_back_after_it() -> None:
    threshold = {
        "thresholds": [{"measure": "connected", "at_least": 5.0, "phases": ["all"]}],
        "guard": {"undecided_share": 0.1},
    }
    for stalled, again, verdict in (
        (False, False, Verdict.FAIL),
        (True, False, Verdict.UNKNOWN),
        (True, True, Verdict.FAIL),
    ):
        world = World(profile(**threshold))
        world.publish()
        world.subscribe()
        first = world.stays[0]
        end, first.end, first.why = first.end, world.warm + 2 * S, "peer closed"
        back = Stay(consumer=first.consumer, epoch=1, start=first.end + 3 * S, end=end)
        world.stays.append(back)
        if again:  # and once more, without any trouble of ours
            back.end, back.why = back.start + S, "peer closed"
            world.stays.append(Stay(consumer=first.consumer, epoch=2, start=back.end + S // 2, end=end))
        world.deliver()
        history = world.history()
        results = judge(world.profile, busy(history, first.end - S, first.end + S) if stalled else history)
        assert check_of(results, "connected").verdict is verdict, (stalled, again)


def test_a_refusal_at_once_is_a_finding_whatever_befell_us_later() -> None:
    for measure, limit in (("query_failed", 0.0), ("health_ms", 100.0)):
        world = World(profile(**limits(measure, limit), readers=[READER])).calm()
        at = world.warm + 2 * S
        took = Histogram()
        took.add(5 * MS, 40)
        world.extra += [
            r.Queried(
                readers=0, query="symbols_count", due_slice=at // SLICE_NS, ok=39, failed=1, connect=([], []),
                latency=took.sparse(), example="53300: too many connections",
            ),
            r.PathProbe(what="health", at_ns=at - 900 * MS, took_ns=3 * MS, ok=True),
            r.PathProbe(what="health", at_ns=at, took_ns=-1, ok=False, detail="ConnectionRefusedError"),
        ]  # fmt: skip
        history = busy(world.history(), at + S, at + 2 * S)
        assert check_of(judge(world.profile, history), measure).verdict is Verdict.FAIL, measure


def test_a_failed_recovery_is_not_excused_by_a_stall_after_it_was_decided() -> None:
    """The next fault began before: nothing that came later could have made the first one steady."""
    cuts = [
        {"name": f"cut-{n}", "kind": "down", "link": "gateway-redis", "at_s": 3.0 + 1.7 * n, "for_s": 0.6}
        for n in range(2)
    ]
    world = World(profile(faults=cuts, recovery={"limit_s": 0.5}))
    world.publish()
    world.subscribe()
    first, second = (world.warm + round((3.0 + 1.7 * n) * S) for n in range(2))
    for name, start in (("cut-0", first), ("cut-1", second)):
        world.faults.append(FaultIn(name=name, kind="down", link="gateway-redis", start=start, end=start + 600 * MS))
    world.deliver(lambda m, stay: first <= m.sent < second + 600 * MS)
    found = judge(world.profile, busy(world.history(), second + S, second + 3 * S)).recovery
    assert found[0].verdict is Verdict.FAIL, found[0].summary


def test_publishers_that_could_not_keep_up_are_in_the_clean_coverage() -> None:
    """The process that receives is quiet all the time, and what it received is left out all the same."""
    world = World(profile(), processes=2).calm()
    results = judge(world.profile, busy(world.history(), world.warm, world.end, process="main"))
    assert results.harness.clean_coverage is not None
    assert results.harness.clean_coverage < 0.5
    assert results.verdict is Verdict.UNKNOWN
