"""Does every check turn red?  Each measure with a planted violation, and each condition of the harness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtests.measure.checks import MEASURES
from loadtests.measure.judge import judge
from loadtests.model import records as r
from loadtests.model.codec import Frame, Torn
from loadtests.model.ids import SLICE_NS
from loadtests.model.measures import MEASURES as ROWS
from loadtests.model.results import Check, Results, Verdict
from loadtests.tally.histogram import Histogram
from tests.measure.simulate import MS, FaultIn, S, Stay, World, profile

READER = {"name": "r", "count": 1, "rate_per_s": 2.0, "queries": ["symbols_count"]}
FAST = [{"name": "fast", "families": ["patterns", "ranks"], "shape": {"kind": "constant", "rate_per_s": 150.0}}]
CUT = {"name": "cut", "kind": "down", "link": "gateway-redis", "at_s": 3.0, "for_s": 1.0}


def world_with(threshold: dict[str, Any], **changes: Any) -> World:
    return World(profile(thresholds=[{"phases": ["all"], **threshold}], **changes))


def sampled(world: World, source: str, metric: str, values: list[float]) -> None:
    for i, value in enumerate(values):
        at = world.warm + i * (world.plan_end - world.warm) // len(values)
        world.samples.append(r.Samples(source=source, at_ns=at, metric=[metric], value=[value]))


def plain(world: World) -> None:
    world.calm()


def losing(world: World) -> None:
    world.publish()
    world.subscribe()
    world.deliver(lambda m, stay: m.seq == 40 and stay.consumer == 1)


def disconnected(world: World) -> None:
    world.publish()
    world.subscribe()
    stay = world.stays[0]
    stay.end, stay.why = world.warm + 3 * S, "peer closed"
    world.deliver(lambda m, stay: stay.consumer == 0 and stay.end - 300 * MS < m.sent)


def slow(world: World) -> None:
    world.publish()
    world.subscribe()
    world.deliver(None, lambda m, stay: 800 * MS)


def one_slow(world: World) -> None:
    world.publish()
    world.subscribe()
    world.deliver(None, lambda m, stay: 80 * MS if stay.consumer == 1 else 0)


def repeating(world: World) -> None:
    world.calm()
    got = world.stays[0].got
    got.insert(50, got[49])


def swapping(world: World) -> None:
    world.calm()
    got = world.stays[0].got
    same = [i for i, (_, m) in enumerate(got) if m.stream == got[40][1].stream][3:5]
    (a, x), (b, y) = got[same[0]], got[same[1]]
    got[same[0]], got[same[1]] = (a, y), (b, x)


def strange(kind: str) -> Any:
    def plant(world: World) -> None:
        world.calm()
        world.extra.append(
            r.Strange(kind=[kind], consumer=[1], count=[3], at_ns=[world.warm + S], example=["what came"])
        )

    return plant


def cut_off(world: World) -> None:
    world.publish()
    world.subscribe()
    start = world.warm + 3 * S
    world.faults.append(FaultIn(name="cut", kind="down", link="gateway-redis", start=start, end=start + S))
    world.deliver(lambda m, stay: start <= m.sent < start + S + 300 * MS)


def never_back(world: World) -> None:
    world.publish()
    world.subscribe()
    start = world.warm + 3 * S
    world.faults.append(FaultIn(name="cut", kind="down", link="gateway-redis", start=start, end=start + S))
    world.deliver(lambda m, stay: start <= m.sent < start + 3 * S)


def growing(world: World) -> None:
    world.calm()
    sampled(world, "gateway", "rss_bytes", [1e8 + i * 2e6 for i in range(40)])


def busy(world: World) -> None:
    world.calm()
    sampled(world, "gateway", "cpu_percent", [90.0] * 8)


def ill(world: World) -> None:
    world.calm()
    world.ask_health()
    world.extra.append(r.PathProbe(what="health", at_ns=world.warm + S, took_ns=900 * MS, ok=True))


def querying(world: World) -> None:
    world.calm()
    world.query()
    h = Histogram()
    h.add(80 * MS, 400)
    world.extra.append(
        r.Queried(readers=0, query="symbols_count", due_slice=world.warm // SLICE_NS + 9,
                  ok=400, failed=2, connect=h.sparse(), latency=h.sparse(), example="57P01 gone")
    )  # fmt: skip


def lagging(world: World) -> None:
    world.own_lag_ns = 40 * MS
    world.calm()


def hanging(world: World) -> None:
    world.calm()
    stay = world.stays[0]
    stay.end, stay.why = world.warm + S, "error"
    stay.got = [g for g in stay.got if g[0] < stay.end]


def with_outcome(outcome: str) -> Any:
    def plant(world: World) -> None:
        world.publish()
        world.subscribe()
        for message in world.messages[200:210]:
            message.outcome = outcome
        world.deliver()

    return plant


def refused(world: World) -> None:
    world.publish()
    world.subscribe()
    world.stays = [s for s in world.stays if s.consumer]
    world.deliver()
    world.extra.append(
        r.Subscription(consumer=0, epoch=0, group=0, step="left", at_ns=world.warm - 2 * S, route_set=0,
                       why="connect failed", detail="upgrade answered: HTTP/1.1 503")
    )  # fmt: skip


def one_never_back(world: World) -> None:
    world.publish()
    world.subscribe()
    start = world.warm + 3 * S
    world.faults.append(FaultIn(name="cut", kind="down", link="gateway-redis", start=start, end=start + S))
    world.deliver(lambda m, stay: m.sent >= start and stay.consumer == 1)


def left_for_a_while(world: World, replay: Any) -> None:
    """The first consumer leaves by the plan and returns; of what it missed it gets what `replay` says."""
    world.publish()
    world.subscribe()
    stay = world.stays[0]
    start, back = world.warm + 2 * S, world.warm + 4 * S
    world.stays.append(Stay(consumer=0, epoch=1, start=back, end=stay.end))
    stay.end, stay.why = start, "own"
    world.deliver()
    routes = world.contract.consumer(0).routes
    missed = [m for m in world.messages if m.route in routes and start + S // 2 < m.sent < back - S]
    world.stays[-1].got[:0] = [(back + 2 * MS + i, m) for i, m in enumerate(replay(missed))]


def stale(world: World) -> None:
    left_for_a_while(world, lambda missed: missed)


def forgotten(world: World) -> None:
    left_for_a_while(world, lambda missed: [])


TWICE = [{"name": "patterns", "channel": "tickstock.events.patterns", "event": "pattern_detected", "copies": 2,
          "keys": {"symbol": ["A", "B"]}},
         {"name": "ranks", "channel": "tickstock.events.market_state", "event": "ranking_change",
          "keys": {"symbol": ["A", "B"]}}]  # fmt: skip


def once_each(world: World) -> None:
    """Every second copy that the contract asks for comes, but for one message."""
    world.calm()
    twice = {route.index for route in world.contract.routes if route.family == 0}
    for stay in world.stays:
        again = [(at + 1, m) for at, m in stay.got if m.route in twice and not (stay.consumer == 1 and m.seq == 40)]
        stay.got = sorted([*stay.got, *again], key=lambda got: got[0])


REPLAYING = [{"name": "patterns", "channel": "tickstock.events.patterns", "event": "pattern_detected",
              "offline": "replayed", "replay_messages": 100, "replay_age_s": 9, "keys": {"symbol": ["A", "B"]}},
             {"name": "ranks", "channel": "tickstock.events.market_state", "event": "ranking_change",
              "keys": {"symbol": ["A", "B"]}}]  # fmt: skip
EDGES = {"guard": {"undecided_share": 0.1}}
RED: dict[str, tuple[Any, float, dict[str, Any]]] = {
    "deliveries": (plain, 1e9, {}),
    "published": (plain, 1e9, {}),
    "delivery_rate": (losing, 1.0, {}),
    "received_per_s": (plain, 1e9, {}),
    "lost_defect": (losing, 0, {}),
    "lost_disconnected": (disconnected, 0, EDGES),
    "lost_not_replayed": (forgotten, 0, {"families": REPLAYING, **EDGES}),
    "missing_copies": (once_each, 0, {"families": TWICE}),
    "unasked": (stale, 0, EDGES),
    "not_admitted": (refused, 0, {}),
    "publish_failed": (with_outcome("FAILED"), 0, {}),
    "publish_unknown": (with_outcome("UNKNOWN"), 0, {}),
    "clients_not_back": (one_never_back, 0, {"faults": [CUT]}),
    "lost_charged": (cut_off, 0, {"faults": [CUT]}),
    "lost_total": (losing, 0, {}),
    "repeated": (repeating, 0, {}),
    "reordered": (swapping, 0, {}),
    "foreign": (strange("foreign run"), 0, {}),
    "stray": (strange("no identity"), 0, {}),
    "undecodable": (strange("undecodable"), 0, {}),
    "protocol": (strange("protocol"), 0, {}),
    "altered": (strange("altered"), 0, {}),
    "restamped": (strange("restamped"), 0, {}),
    "late": (slow, 0, {}),
    "latency_mean_ms": (slow, 50, {}),
    "latency_p50_ms": (slow, 50, {}),
    "latency_p95_ms": (slow, 50, {}),
    "latency_p99_ms": (slow, 50, {}),
    "latency_max_ms": (slow, 50, {}),
    "slowest_client_p95_ms": (one_slow, 50, {}),
    "service_p95_ms": (slow, 50, {}),
    "service_p99_ms": (slow, 50, {}),
    "own_lag_p99_ms": (lagging, 10, {"publishers": FAST}),
    "query_mean_ms": (querying, 10, {"readers": [READER]}),
    "query_p95_ms": (querying, 10, {"readers": [READER]}),
    "query_max_ms": (querying, 10, {"readers": [READER]}),
    "query_failed": (querying, 1, {"readers": [READER]}),
    "recovery_s": (cut_off, 0.1, {"faults": [CUT]}),
    "outage_s": (cut_off, 0.5, {"faults": [CUT]}),
    "not_recovered": (never_back, 0, {"faults": [CUT]}),
    "growth_mb": (growing, 10, {}),
    "cpu_mean_percent": (busy, 50, {}),
    "health_ms": (ill, 100, {}),
    "clean_coverage": (plain, 1.0, {}),
    "connected": (hanging, 5, {}),
}
ELSEWHERE = {"growth_mb_per_h": "tests/measure/test_growth.py"}
"""Measures whose red test needs more than one history."""
AT_LEAST = {"deliveries", "published", "delivery_rate", "received_per_s", "clean_coverage", "connected"}


def check_of(results: Results, start: str) -> Check:
    return next(c for c in results.checks if c.name.startswith(start))


def test_every_measure_has_a_test_in_which_it_goes_red() -> None:
    assert RED.keys() | ELSEWHERE.keys() == set(ROWS) == MEASURES.keys()
    root = Path(__file__).parents[2]
    assert all("LEAK" in (root / path).read_text("utf-8") for path in ELSEWHERE.values())


@pytest.mark.parametrize("measure", sorted(RED))
def test_a_violation_turns_its_threshold_red_and_a_wide_limit_green(measure: str) -> None:
    plant, limit, changes = RED[measure]
    side, wide = ("at_least", 0.0) if measure in AT_LEAST else ("at_most", 1e8)
    world = world_with({"measure": measure, side: float(limit)}, **changes)
    plant(world)
    planted = world.history()
    for bound, verdict in ((limit, Verdict.FAIL), (wide, Verdict.PASS)):
        history = planted
        if measure == "clean_coverage" and verdict is Verdict.FAIL:
            history = _saturated(history)
        if measure == "not_recovered" and verdict is Verdict.PASS:
            continue
        limited = world_with({"measure": measure, side: float(bound)}, **changes).profile
        check = check_of(judge(limited, history), measure)
        if verdict is Verdict.FAIL and measure in ("clean_coverage", "own_lag_p99_ms"):
            verdict = Verdict.UNKNOWN  # our own trouble is no failure of the target
        assert check.verdict is verdict, (check, bound)
        assert check.measured is not None
        assert len(check.evidence) <= 20


def _saturated(history: list[Any]) -> list[Any]:
    import msgspec

    def worse(record: Any) -> Any:
        busy = isinstance(record, r.HarnessSecond) and record.at_ns % (4 * S) == 0
        return msgspec.structs.replace(record, saturated=True) if busy else record

    return [(name, frame._replace(records=[worse(x) for x in frame.records])) for name, frame in history]


@pytest.mark.parametrize("measure", ["cpu_mean_percent", "growth_mb", "growth_mb_per_h", "health_ms"])
def test_no_samples_are_unknown(measure: str) -> None:
    world = world_with({"measure": measure, "at_most": 1.0})
    world.calm()
    results = judge(world.profile, world.history())
    assert check_of(results, measure).verdict is Verdict.UNKNOWN
    assert check_of(results, measure).measured is None
    assert results.verdict is Verdict.UNKNOWN


def without(history: list[Any], drop: Any) -> list[Any]:
    return [(n, f._replace(records=[x for x in f.records if not drop(x)])) for n, f in history]


CONDITIONS: dict[str, Any] = {
    "the history is whole": lambda h: without(h, lambda x: isinstance(x, r.Finish)),
    "load offered as planned": lambda h: without(h, lambda x: isinstance(x, r.PublishTimes)),
    "clean coverage": lambda h: _saturated(without(h, lambda x: isinstance(x, r.HarnessSecond) and x.at_ns < 7 * S)),
    "path proved before the start": lambda h: without(h, lambda x: isinstance(x, r.PathProbe)),
    "all connected at the start": lambda h: without(h, lambda x: isinstance(x, r.Subscription) and x.consumer == 1),
    "the account adds up": lambda h: without(h, lambda x: isinstance(x, r.Closing)),
}


@pytest.mark.parametrize("name", sorted(CONDITIONS))
def test_a_broken_condition_makes_the_run_unknown(name: str) -> None:
    world = World(profile()).calm()
    results = judge(world.profile, CONDITIONS[name](world.history()))
    assert check_of(results, name).verdict is Verdict.UNKNOWN
    assert results.verdict is Verdict.UNKNOWN
    assert results.reasons


def test_a_false_sum_is_named() -> None:
    world = World(profile()).calm()
    history = world.history()
    closing = next(x for _, f in history for x in f.records if isinstance(x, r.Closing))
    closing.unique[0] -= 1
    results = judge(world.profile, history)
    check = check_of(results, "the account adds up")
    assert check.verdict is Verdict.UNKNOWN
    assert "does not add up" in check.summary
    assert any("consumer" in line and "stream" in line for line in check.evidence)


def test_a_torn_file_and_a_missing_frame_are_named() -> None:
    world = World(profile()).calm()
    history: list[Any] = world.history(chunk=20)
    results = judge(world.profile, [*history, ("main", Torn(4711, "half a frame"))])
    assert results.verdict is Verdict.UNKNOWN
    assert any("4711" in line for line in results.harness.trouble)
    lacking = judge(world.profile, [h for h in history if h[1].number != 1])
    assert any("frames 1 to 1 are missing" in line for line in lacking.harness.trouble)
    assert lacking.verdict is not Verdict.PASS


def test_a_killed_worker_leaves_its_consumers_unknown_and_the_rest_exact() -> None:
    world = World(profile(), processes=2)
    world.silent_workers = {"worker-1"}
    world.calm()
    results = judge(world.profile, world.history())
    alive = [s for s in world.stays if s.consumer % 2 == 0]
    assert results.verdict is Verdict.UNKNOWN
    assert results.delivery.unique == results.delivery.owed == sum(len(s.got) for s in alive)
    assert results.delivery.lost.total == 0
    assert check_of(results, "lost_defect").verdict is Verdict.UNKNOWN


def test_a_loss_elsewhere_fails_beside_a_killed_worker() -> None:
    world = World(profile(), processes=2)
    world.silent_workers = {"worker-1"}
    world.publish()
    world.subscribe()
    world.deliver(lambda m, stay: m.seq == 40 and stay.consumer == 0)
    assert judge(world.profile, world.history()).verdict is Verdict.FAIL


def test_a_stopped_run_is_aborted_unless_a_defect_is_proven() -> None:
    for lose, verdict in ((None, Verdict.ABORTED), (lambda m, stay: m.seq == 40, Verdict.FAIL)):
        world = World(profile())
        world.publish()
        world.subscribe()
        world.deliver(lose)
        world.finish = r.Finish(at_ns=world.end, reason="stop button", plan_done=False, drained=True, complete=True)
        results = judge(world.profile, world.history())
        assert results.verdict is verdict
        assert any("stop button" in reason for reason in results.reasons)


def test_own_lag_makes_a_slow_run_unknown_and_not_slow() -> None:
    world = world_with({"measure": "latency_p95_ms", "at_most": 50.0})
    world.own_lag_ns = 100 * MS
    slow(world)
    results = judge(world.profile, world.history())
    assert check_of(results, "latency_p95_ms").verdict is Verdict.UNKNOWN
    assert check_of(results, "own lag").verdict is Verdict.UNKNOWN


def test_what_failed_and_came_all_the_same_is_a_finding() -> None:
    world = World(profile()).calm()
    world.messages[300].outcome = "FAILED"
    results = judge(world.profile, world.history())
    assert check_of(results, "what failed stays away").verdict is Verdict.UNKNOWN
    assert check_of(results, "what failed stays away").measured


def test_not_offered_is_not_a_failure_of_the_target() -> None:
    world = World(profile())
    world.not_offered = 50
    world.calm()
    results = judge(world.profile, world.history())
    assert check_of(results, "load offered as planned").verdict is Verdict.UNKNOWN
    assert results.delivery.not_offered == 50


def test_the_name_of_a_check_says_what_it_limits() -> None:
    world = World(profile(thresholds=[{"measure": "latency_p95_ms", "at_most": 100.0, "group": "plain"}])).calm()
    assert judge(world.profile, world.history()).checks[0].name == "latency_p95_ms<=100 calm plain"


def test_what_a_lost_process_sent_last_is_nobodys_loss() -> None:
    world = World(profile())
    world.publish()
    world.subscribe()
    world.deliver(lambda m, stay: m.sent >= world.plan_end - S)
    gone = r.Trouble(process="publisher", from_ns=world.plan_end - S, to_ns=-1, what="the worker is gone")
    history: list[Any] = without(world.history(), lambda x: isinstance(x, r.Published | r.Settled))
    rows = [x for _, f in world.history() for x in f.records if isinstance(x, r.Published | r.Settled)]
    header = r.Header(
        run="run-1", process="publisher", role="worker", profile_sha256="0" * 64, origin_ns=0, origin_unix_ns=0,
        boot_id="b", slice_ns=SLICE_NS, versions={},
    )  # fmt: skip
    results = judge(world.profile, [*history, ("publisher", Frame(0, [header, *rows, gone]))])
    assert results.delivery.lost.total == 0
    assert results.delivery.unknown
    assert judge(world.profile, [*history, ("publisher", Frame(0, [header, *rows]))]).delivery.lost.defect


def told(rows: r.Published, keep: Any) -> r.Published:
    """Some rows of a record."""
    at = [i for i, sent in enumerate(rows.sent_slice) if keep(sent)]
    names = ("stream", "due_slice", "sent_slice", "first", "last", "bytes")
    return r.Published(**{name: [getattr(rows, name)[i] for i in at] for name in names})


@pytest.mark.parametrize(("hole_s", "lost", "adds_up"), [(0, True, True), (0, False, False), (1, True, False)])
def test_what_a_lost_process_could_not_tell_any_more_is_no_error_of_those_who_saw_it(
    hole_s: int, lost: bool, adds_up: bool
) -> None:
    """Its rows end before its messages do; a hole in its rows, or an end without a reason, is an error all the same."""
    world = World(profile()).calm()
    end = (world.plan_end - S) // SLICE_NS
    hole = range(end - 20, end - 20 + hole_s)
    gone = r.Trouble(process="publisher", from_ns=world.plan_end - S, to_ns=-1, what="the worker is gone")
    history: list[Any] = without(world.history(), lambda x: isinstance(x, r.Published))
    rows = [x for _, f in world.history() for x in f.records if isinstance(x, r.Published)]
    rows = [told(x, lambda sent: sent < end and sent not in hole) for x in rows]
    header = r.Header(
        run="run-1", process="publisher", role="worker", profile_sha256="0" * 64, origin_ns=0, origin_unix_ns=0,
        boot_id="b", slice_ns=SLICE_NS, versions={},
    )  # fmt: skip
    results = judge(world.profile, [*history, ("publisher", Frame(0, [header, *rows, *([gone] if lost else [])]))])
    assert (check_of(results, "the account adds up").verdict is Verdict.PASS) is adds_up
    if adds_up:
        assert results.delivery.unique == sum(len(stay.got) for stay in world.stays)
        assert results.delivery.lost.total == 0
