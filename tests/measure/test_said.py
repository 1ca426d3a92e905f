"""Does a verdict name its cause first, in the target's own words, and is what we could not take never the target's?"""

from __future__ import annotations

from typing import Any

import msgspec

from loadtests.measure.history_tables import fold
from loadtests.measure.judge import judge
from loadtests.measure.stages import analyse
from loadtests.measure.target_words import GROUPS, all_said, said
from loadtests.model import records as r
from loadtests.model.ids import pack_stream
from loadtests.model.results import Verdict
from tests.measure.simulate import MS, T0, S, World, profile
from tests.measure.test_lies import changed, check_of

BUSY = "upgrade answered: HTTP/1.1 503 Service Unavailable; Retry-After: {}; at capacity"


def left(consumer: int, epoch: int, at_ns: int, why: str, detail: str = "") -> r.Subscription:
    return r.Subscription(
        consumer=consumer, epoch=epoch, group=0, step="left", at_ns=at_ns, route_set=0, why=why, detail=detail
    )


def said_of(world: World, **span: int) -> list[str]:
    return said(analyse(world.profile, fold(world.history())), **span)


def test_words_are_grouped_by_what_they_say_and_counted() -> None:
    world = World(profile()).calm()
    world.extra += [left(0, 9 + n, T0 + n * S, "connect failed", BUSY.format(n)) for n in range(3)]
    world.extra += [left(1, 9, T0 + S, "peer closed", "1013 try later"), left(2, 9, T0, "fault", "storm")]
    world.extra += [left(2, 10, T0, "connect failed", BUSY.format(1).replace("503", "404"))]
    assert said_of(world) == [
        f"connect failed: {BUSY.format(0)} (3 times, first at 0.0 s)",
        f"connect failed: {BUSY.format(1).replace('503', '404')} (once, at 0.0 s)",
        "peer closed: 1013 try later (once, at 1.0 s)",
    ], "and not what a fault of ours did"
    assert said_of(world, from_ns=T0 + 2 * S) == [f"connect failed: {BUSY.format(2)} (once, at 2.0 s)"]
    assert said_of(world, to_ns=T0) == []


def test_the_groups_are_bounded() -> None:
    world = World(profile()).calm()
    world.extra += [left(0, 9 + n, T0, "refused", "no" + "x" * n) for n in range(60)]
    lines = said_of(world)
    assert len(lines) == GROUPS + 1
    assert lines[-1] == "and 50 other answers, 50 times"


def test_what_redis_and_the_database_said_is_there_too() -> None:
    world = World(profile()).calm()
    stream = pack_stream(0, 0, 0)
    world.extra.append(
        r.Settled(
            stream=[stream], first=[1], last=[4], outcome=["FAILED"], at_ns=[T0 + S], said=["OOM command not allowed"]
        )
    )
    found = analyse(world.profile, fold(world.history()))
    assert all_said(found) == ["publish: OOM command not allowed (4 times, first at 1.0 s)"]
    assert said(found) == []
    assert any("OOM command not allowed" in line for line in judge(world.profile, world.history()).log)


def nobody_connected() -> World:
    world = World(
        profile(
            thresholds=[
                {"measure": "latency_p95_ms", "at_most": 100.0},
                {"measure": "lost_defect", "at_most": 0.0},
                {"measure": "delivery_rate", "at_least": 1.0},
                {"measure": "connected", "at_least": 5.0},
            ]
        )
    )
    world.publish()
    world.extra += [left(c, n, T0 - S + n * MS, "connect failed", BUSY.format(n)) for c in range(5) for n in range(4)]
    return world


def test_the_cause_comes_first_in_the_targets_words_and_its_consequences_are_folded() -> None:
    world = nobody_connected()
    results = judge(world.profile, world.history())
    assert results.verdict is Verdict.FAIL
    words = f"connect failed: {BUSY.format(0)} (20 times, first at -1.0 s)"
    assert results.reasons[0] == f"not_admitted<=0 calm: 5, at most 0 allowed; {words}"
    assert (
        "all connected at the start: 0 of 5 planned subscriptions were confirmed at the start; " + words
    ) in results.reasons
    assert results.reasons[-1].startswith("in consequence ")
    assert "nothing was received" in results.reasons[-1]
    assert not any("nothing was received" in reason for reason in results.reasons[:-1])
    assert any("at capacity" in line for line in check_of(results, "all connected").evidence)
    assert any("what the target said: connect failed" in line for line in results.log)


def test_consumers_that_are_gone_explain_it_themselves() -> None:
    world = World(profile(thresholds=[{"measure": "connected", "at_least": 5.0}]))
    world.publish()
    world.subscribe()
    world.stays[0].end, world.stays[0].why = world.warm + 3 * S, "no heartbeat"
    world.deliver()
    world.extra.append(left(0, 1, world.warm + 4 * S, "refused", "no seat is free"))

    def named(x: Any) -> Any:
        gone = isinstance(x, r.Subscription) and x.why == "no heartbeat"
        return msgspec.structs.replace(x, detail="no ping within 45 s") if gone else x

    results = judge(world.profile, changed(world.history(), named))
    check = check_of(results, "connected")
    assert check.verdict is Verdict.FAIL
    assert check.summary == "4, at least 5 allowed; no heartbeat: no ping within 45 s (once, at 4.0 s)"
    assert check.evidence[1] == "refused: no seat is free (once, at 5.0 s)"


# -- what we could not take


def troubled(to_s: float | None) -> World:
    """From 3 s on consumer 0 gets nothing more, for a limit of ours."""
    world = World(profile(thresholds=[
        {"measure": "lost_defect", "at_most": 0.0, "phases": ["all"]}, {"measure": "connected", "at_least": 5.0},
    ]))  # fmt: skip
    world.publish()
    world.subscribe()
    begin = world.warm + 3 * S
    end = world.end if to_s is None else world.warm + round(to_s * S)
    world.deliver(lambda m, stay: stay.consumer == 0 and begin - 5 * MS <= m.sent < end)
    world.extra.append(
        r.Trouble(
            process="main", from_ns=begin, to_ns=-1 if to_s is None else end, what="a message of ours", consumers=[0]
        )
    )
    return world


def test_what_we_could_not_take_is_neither_lost_nor_a_pass() -> None:
    for to_s in (5.0, None):
        world = troubled(to_s)
        results = judge(world.profile, world.history())
        assert results.delivery.lost.total == 0
        assert results.verdict is Verdict.UNKNOWN
        until = "the end" if to_s is None else "6.0 s"
        assert results.reasons == [f"what came could be taken: a message of ours (consumer 0, 4.0 s to {until})"]


def test_what_is_lost_beside_our_trouble_stays_the_targets() -> None:
    world = troubled(5.0)
    lost = next(m for m in world.messages if m.sent > world.warm + 6 * S)
    for stay in world.stays:
        stay.got = [(at, m) for at, m in stay.got if m is not lost]
    results = judge(world.profile, world.history())
    assert results.verdict is Verdict.FAIL
    assert results.reasons[0].startswith("lost_defect")


def test_a_consumer_that_our_trouble_keeps_away_is_not_missing() -> None:
    world = troubled(None)
    world.stays[0].end, world.stays[0].why = world.warm + 3 * S, "harness"
    world.stays[0].got = [(at, m) for at, m in world.stays[0].got if m.sent < world.stays[0].end]
    results = judge(world.profile, world.history())
    assert check_of(results, "connected").verdict is Verdict.UNKNOWN
    assert results.delivery.lost.total == 0
    assert results.verdict is Verdict.UNKNOWN


def not_begun(until: int = T0) -> World:
    """The run was given up since one consumer was missing, whom the target did not want."""
    run = {"duration_s": 8.0, "warm_up_s": 1.0, "drain_s": 2.0, "connect_s": 2.0}
    world = World(profile(run=run))
    world.subscribe()
    world.stays = world.stays[:-1]
    for stay in world.stays:
        stay.end = until + MS
    world.extra += [left(4, n, T0 - S + n * MS, "refused", "too many symbols") for n in range(4)]
    reason = "error: 4 of 5 subscriptions, 2 of 2 publishers were ready 2 s after the start"
    world.finish = r.Finish(at_ns=until + MS, reason=reason, plan_done=False, drained=False, complete=True)
    return world


def never_begun(world: World) -> Any:
    begun = ("warm-up", "baseline")
    return [
        (n, f._replace(records=[x for x in f.records if not (isinstance(x, r.PhaseMark) and x.phase in begun)]))
        for n, f in world.history()
    ]


def test_whom_the_target_refuses_until_the_run_is_given_up_was_not_admitted() -> None:
    world = not_begun()
    results = judge(world.profile, never_begun(world))
    assert results.verdict is Verdict.FAIL
    assert check_of(results, "not_admitted").measured == 1
    assert results.reasons[0].startswith(
        "not_admitted<=0 calm: 1, at most 0 allowed; refused: too many symbols (4 times"
    )
    there = "4 of 5 planned subscriptions were confirmed at the start; refused: too many symbols"
    assert check_of(results, "all connected").summary.startswith(there)


def test_who_stops_while_the_clients_connect_has_seen_nobody_refused() -> None:
    world = not_begun(T0 - S // 2)
    results = judge(world.profile, never_begun(world))
    assert check_of(results, "not_admitted").verdict is Verdict.UNKNOWN
    assert results.verdict is not Verdict.FAIL


def test_why_a_client_was_thrown_out_is_told_before_how_often_it_was_refused_then() -> None:
    world = World(profile())
    world.publish()
    world.subscribe()
    at = world.stays[0].end = world.warm + 3 * S
    world.stays[0].why = "peer closed"
    world.deliver()
    world.extra.append(left(0, 0, at, "peer closed", "1008 policy: too slow"))
    world.extra += [left(0, n, at + n * MS, "connect failed", "no seat") for n in range(1, 6)]

    def gone(x: Any) -> Any:
        return (
            None
            if isinstance(x, r.Subscription) and x.step == "left" and x.why == "peer closed" and not x.detail
            else x
        )

    check = check_of(judge(world.profile, changed(world.history(), gone)), "lost_disconnected")
    assert "peer closed: 1008 policy: too slow (once, at 4.0 s); connect failed: no seat (5 times" in check.summary
