"""Whose doing is it that a consumer was away, and what does it cost?  Each lie once, with the right verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from loadtests.measure.judge import judge
from loadtests.model import records as r
from loadtests.model.codec import Frame
from loadtests.model.results import Away, Check, Results, Verdict
from tests.measure.simulate import MS, FaultIn, Message, S, Stay, World, profile

CUT = {"name": "cut", "kind": "down", "link": "client-gateway", "at_s": 2.0, "for_s": 1.0}


def check_of(results: Results, start: str) -> Check:
    return next(c for c in results.checks if c.name.startswith(start))


def away_of(results: Results) -> Away:
    d = results.delivery
    assert d.away is not None
    assert d.away.total is not None
    assert d.owed is not None
    assert d.delivered is not None
    assert d.offered == d.owed + (d.undecided or 0) + d.away.total
    assert d.owed == d.delivered + (d.lost.total or 0)
    return d.away


def subscribed(**changes: Any) -> World:
    world = World(profile(**changes))
    world.publish()
    world.subscribe()
    return world


def gone(world: World, consumer: int, from_ns: int, to_ns: int | None = None, why: str = "peer closed") -> None:
    """A consumer's connection ends; it comes back at `to_ns`, or never."""
    stay = next(s for s in world.stays if s.consumer == consumer and s.start < from_ns < s.end)
    if to_ns is not None:
        world.stays.append(Stay(consumer=consumer, epoch=stay.epoch + 1, start=to_ns, end=stay.end))
    stay.end, stay.why = from_ns, why


def offered_between(world: World, consumer: int, from_ns: int, to_ns: int) -> int:
    routes = world.contract.consumer(consumer).routes
    return sum(m.route in routes and m.outcome == "OK" and from_ns <= m.sent < to_ns for m in world.messages)


def refused(world: World, consumer: int, epoch: int, at_ns: int, detail: str = "upgrade answered: 503") -> None:
    group = world.contract.consumer_group(consumer)[0]
    world.extra.append(
        r.Subscription(
            consumer=consumer, epoch=epoch, group=group, step="left", at_ns=at_ns, route_set=0, why="connect failed",
            detail=detail,
        )
    )  # fmt: skip


# -- thrown out by the target


def test_all_thrown_out_in_calm_fail_and_the_denominator_does_not_shrink() -> None:
    world = subscribed()
    start, end = world.warm + 2 * S, world.warm + 4 * S
    for consumer in range(5):
        gone(world, consumer, start, end)
    world.deliver()
    results = judge(world.profile, world.history())
    missed = sum(offered_between(world, c, start, end) for c in range(5))
    assert 0.8 * missed < (away_of(results).disconnected or 0) <= missed
    assert results.verdict is Verdict.FAIL
    check = check_of(results, "lost_disconnected")
    assert check.verdict is Verdict.FAIL
    assert check.default
    assert "away" in check.evidence[0]
    assert results.delivery.rate is not None
    assert results.delivery.delivered_of_owed == 1
    assert results.delivery.rate < 0.9


def test_one_that_is_banned_for_good_fails() -> None:
    world = subscribed()
    gone(world, 1, world.warm + 2 * S)
    refused(world, 1, 1, world.warm + 3 * S)
    world.deliver()
    results = judge(world.profile, world.history())
    assert away_of(results).disconnected
    assert check_of(results, "lost_disconnected").verdict is Verdict.FAIL


def test_the_default_limit_is_switched_off_or_replaced_by_the_profile() -> None:
    for limit, verdict in (("off", Verdict.PASS), (10_000.0, Verdict.PASS), (1.0, Verdict.FAIL)):
        more = {"measure": "lost_disconnected", "at_most": limit}
        base = {"measure": "lost_defect", "at_most": 0.0, "phases": ["all"]}
        world = subscribed(thresholds=[base, more], guard={"undecided_share": 0.1})
        gone(world, 0, world.warm + 2 * S, world.warm + 4 * S)
        world.deliver()
        results = judge(world.profile, world.history())
        assert results.verdict is verdict, (limit, results.reasons)
        assert any("switched off" in reason for reason in results.reasons) is (limit == "off")


def test_a_target_that_throws_out_in_mode_latest_is_told_by_seconds() -> None:
    families = [{**REPLAYED[0], "mode": "latest", "latest_within_s": 1.0, "offline": "lost", "replay_messages": 0,
                 "replay_age_s": 0}]  # fmt: skip
    world = subscribed(families=families, publishers=ONE, consumers=[{"name": "plain", "count": 3}])
    gone(world, 0, world.warm + 2 * S, world.warm + 4 * S)
    world.deliver()
    results = judge(world.profile, world.history())
    assert away_of(results).total == 0
    check = check_of(results, "lost_disconnected")
    assert check.verdict is Verdict.FAIL
    assert check.measured == pytest.approx(2, abs=0.2)


# -- under and after a fault


def cut_world(back: Callable[[int], int | None], at_s: float = 0.05) -> World:
    world = subscribed(faults=[CUT])
    start = world.warm + 2 * S
    world.faults.append(FaultIn(name="cut", kind="down", link="client-gateway", start=start, end=start + S))
    for consumer in range(5):
        gone(world, consumer, start + round(at_s * S), back(consumer))
    return world


def test_the_absence_in_a_cut_is_charged_to_it() -> None:
    world = cut_world(lambda c: World(profile()).warm + 3 * S + 200 * MS)
    world.deliver()
    results = judge(world.profile, world.history())
    assert away_of(results).charged
    assert away_of(results).disconnected == 0
    assert check_of(results, "lost_disconnected").verdict is Verdict.PASS
    assert check_of(results, "clients_not_back").measured == 0


def test_one_that_is_never_let_back_is_charged_until_the_limit_and_disconnected_after_it() -> None:
    warm = World(profile()).warm
    world = cut_world(lambda c: None if c == 3 else warm + 3 * S + 200 * MS)
    world.deliver()
    results = judge(world.profile, world.history())
    assert away_of(results).disconnected == pytest.approx(
        offered_between(world, 3, warm + 4 * S, world.plan_end), rel=0.1
    )
    assert check_of(results, "lost_disconnected").verdict is Verdict.FAIL
    back = check_of(results, "clients_not_back")
    assert back.verdict is Verdict.FAIL
    assert "consumer 3" in back.evidence[0]


def test_one_that_is_thrown_out_when_all_was_steady_again_is_not_the_faults() -> None:
    warm = World(profile()).warm
    world = cut_world(lambda c: warm + 3 * S + 100 * MS)
    gone(world, 2, warm + 5 * S, warm + 6 * S)
    world.deliver()
    results = judge(world.profile, world.history())
    assert away_of(results).disconnected
    assert check_of(results, "lost_disconnected").verdict is Verdict.FAIL


# -- our own doing


@pytest.mark.parametrize("why", ["moved", "fault", "own"])
def test_who_leaves_by_the_plan_is_nobodys_loss_until_the_target_refuses(why: str) -> None:
    world = subscribed()
    start, end = world.warm + 2 * S, world.warm + 4 * S
    gone(world, 0, start, end, why)
    world.deliver()
    results = judge(world.profile, world.history())
    assert away_of(results).disconnected == 0
    assert away_of(results).own_plan == pytest.approx(offered_between(world, 0, start, end), rel=0.1)
    assert check_of(results, "lost_disconnected").verdict is Verdict.PASS
    refused(world, 0, 7, world.warm + 3 * S)
    assert away_of(judge(world.profile, world.history())).disconnected


def test_who_never_tried_is_our_own_trouble_and_who_was_refused_was_not_admitted() -> None:
    world = subscribed()
    world.stays = [s for s in world.stays if s.consumer]
    world.deliver()
    results = judge(world.profile, world.history())
    assert away_of(results).harness
    assert away_of(results).disconnected == 0
    assert results.verdict is Verdict.UNKNOWN
    refused(world, 0, 0, world.warm - 2 * S, "upgrade answered: HTTP/1.1 429 Too Many Requests")
    results = judge(world.profile, world.history())
    assert away_of(results).harness == 0
    assert away_of(results).disconnected
    check = check_of(results, "not_admitted")
    assert check.verdict is Verdict.FAIL
    assert "429" in check.evidence[0]


def test_whom_the_target_dropped_in_our_stall_is_our_trouble_for_as_long_as_a_recovery_may_take() -> None:
    world = subscribed()
    start = world.warm + 2 * S
    gone(world, 0, start, start + 700 * MS)
    world.deliver()
    history = [
        (n, f._replace(records=[_saturated(x, start) for x in f.records])) for n, f in world.history()
    ]  # fmt: skip
    away = away_of(judge(world.profile, history))
    assert away.harness
    assert away.disconnected == 0


def _saturated(record: r.Record, at_ns: int) -> r.Record:
    import msgspec

    if isinstance(record, r.HarnessSecond) and at_ns - S < record.at_ns <= at_ns + S:
        return msgspec.structs.replace(record, saturated=True)
    return record


# -- the contract "replayed"

REPLAYED = [
    {"name": "patterns", "channel": "tickstock.events.patterns", "event": "pattern_detected", "offline": "replayed",
     "replay_messages": 1000, "replay_age_s": 60, "keys": {"symbol": ["A", "B"]}},
]  # fmt: skip
ONE = [{"name": "first", "families": ["patterns"], "shape": {"kind": "constant", "rate_per_s": 50.0}}]


def replaying(**family: Any) -> tuple[World, list[Message], Stay]:
    """One consumer is away for two seconds; what it missed, and its second stay."""
    families = [{**REPLAYED[0], **family}]
    world = subscribed(
        families=families,
        publishers=ONE,
        consumers=[{"name": "plain", "count": 3}],
        thresholds=[{"measure": "repeated", "at_most": 0.0, "phases": ["all"]}],
        guard={"undecided_share": 0.1},
    )
    start, end = world.warm + 2 * S, world.warm + 4 * S
    gone(world, 0, start, end, "own")
    world.deliver()
    stay = next(s for s in world.stays if s.consumer == 0 and s.epoch == 1)
    missed = [m for m in world.messages if start - 2 * MS < m.sent < end - 2 * MS]
    return world, missed, stay


def played(world: World, stay: Stay, replayed: list[Message]) -> Results:
    begin = stay.start + 2 * MS
    stay.got = [(begin + i, m) for i, m in enumerate(replayed)] + stay.got
    return judge(world.profile, world.history())


def test_what_was_missed_is_owed_at_the_return_and_its_loss_has_a_name() -> None:
    world, missed, stay = replaying()
    whole = played(world, stay, missed)
    assert whole.delivery.lost.total == 0
    assert whole.verdict is Verdict.PASS, whole.reasons
    world, missed, stay = replaying()
    results = played(world, stay, [])
    assert results.delivery.lost.not_replayed == pytest.approx(len(missed), rel=0.2)
    assert results.delivery.lost.total == results.delivery.lost.not_replayed
    check = check_of(results, "lost_not_replayed")
    assert check.verdict is Verdict.FAIL
    assert results.verdict is Verdict.FAIL
    away_of(results)


@pytest.mark.parametrize("replayed", [False, True])
def test_what_a_fault_kept_from_a_client_is_owed_at_its_return_all_the_same(replayed: bool) -> None:
    world, missed, stay = replaying()
    world.profile = world.profile.model_copy(update={"faults": profile(faults=[CUT]).faults})
    world.faults.append(
        FaultIn(name="cut", kind="down", link="client-gateway", start=stay.start - 2 * S, end=stay.start - 100 * MS)
    )
    results = played(world, stay, missed if replayed else [])
    check = check_of(results, "lost_not_replayed")
    assert check.default
    assert check.verdict is (Verdict.PASS if replayed else Verdict.FAIL)
    assert bool(results.delivery.lost.not_replayed) is not replayed
    assert results.delivery.lost.charged == 0, "a fault excuses an absence, and no replay that does not come"


def test_one_message_that_was_not_replayed_fails_and_one_replayed_twice_is_repeated() -> None:
    world, missed, stay = replaying()
    hole = missed[len(missed) // 2]
    results = played(world, stay, [m for m in missed if m is not hole])
    assert results.delivery.lost.not_replayed == 1
    world, missed, stay = replaying()
    results = played(world, stay, [*missed, missed[50]])
    assert results.delivery.repeated == 1
    assert check_of(results, "repeated").verdict is Verdict.FAIL


def test_beyond_the_contracts_number_and_age_it_is_undecided() -> None:
    for bound in ({"replay_messages": 20}, {"replay_age_s": 1}):
        world, missed, stay = replaying(**bound)
        newest = missed[-45:] if "replay_age_s" in bound else missed[-20:]
        results = played(world, stay, newest)
        assert results.delivery.lost.total == 0, bound
        assert results.delivery.undecided
        away_of(results)


# -- what nobody asked for


def test_a_stale_replay_under_the_contract_lost_is_unasked() -> None:
    world = subscribed(guard={"undecided_share": 0.1})
    start, end = world.warm + 2 * S, world.warm + 4 * S
    gone(world, 0, start, end, "own")
    world.deliver()
    routes = world.contract.consumer(0).routes
    missed = [m for m in world.messages if m.route in routes and start + S // 2 < m.sent < end - S]
    stay = next(s for s in world.stays if s.consumer == 0 and s.epoch == 1)
    results = played(world, stay, missed)
    assert results.delivery.unasked == len(missed)
    check = check_of(results, "unasked")
    assert check.verdict is Verdict.FAIL
    assert check.default
    assert results.delivery.lost.total == 0
    away_of(results)


def test_times_that_the_target_moved_on_for_one_make_no_other_client_early() -> None:
    world = subscribed()
    gone(world, 0, world.warm + 2 * S, world.warm + 4 * S, "own")
    world.deliver()
    other = next(s for s in world.stays if s.consumer == 1)
    other.got = [
        (at, replace(m, due=m.due + S) if at > world.warm + 2 * S else m)  # as if received a second before it was due
        for at, m in other.got
    ]
    results = judge(world.profile, world.history())
    assert results.delivery.unasked == 0
    away_of(results)


# -- what Redis refuses, or never acknowledges


@pytest.mark.parametrize(("outcome", "measure"), [("FAILED", "publish_failed"), ("UNKNOWN", "publish_unknown")])
def test_a_publish_that_is_refused_or_never_acknowledged_in_calm_fails(outcome: str, measure: str) -> None:
    world = World(profile())
    world.publish()
    for message in world.messages[::2]:
        message.outcome = outcome
    world.subscribe()
    world.deliver()
    results = judge(world.profile, world.history())
    check = check_of(results, measure)
    assert check.verdict is Verdict.FAIL
    assert check.measured == sum(m.outcome == outcome and m.due >= world.warm for m in world.messages)


def test_publishes_that_a_fault_on_their_way_took_are_excused_and_those_under_another_fault_are_not() -> None:
    for link, verdict in (("publisher-redis", Verdict.PASS), ("client-gateway", Verdict.FAIL)):
        world = subscribed(faults=[{**CUT, "link": link}])
        start = world.warm + 2 * S
        world.faults.append(FaultIn(name="cut", kind="down", link=link, start=start, end=start + S))
        inside = [m for m in world.messages if start < m.sent < start + S]
        for message in inside:
            message.outcome = "FAILED"
        # What is due shortly before a fault is in the fault's phase: a threshold over all phases sees it.
        world.deliver()
        changed = world.profile.model_copy(
            update={
                "thresholds": [
                    *world.profile.thresholds,
                    world.profile.thresholds[0].model_copy(update={"measure": "publish_failed", "phases": ["all"]}),
                ]
            }
        )
        assert check_of(judge(changed, world.history()), "publish_failed").verdict is verdict, link


def test_the_frames_of_an_old_history_without_any_of_this_are_still_judged() -> None:
    world = World(profile()).calm()
    history = [(n, Frame(f.number, f.records)) for n, f in world.history()]
    results = judge(world.profile, history)
    assert results.verdict is Verdict.PASS, results.reasons
    assert {c.name.split("<=")[0] for c in results.checks if c.default} >= {"lost_disconnected", "publish_failed"}


def test_who_is_thrown_out_for_less_than_a_slice_again_and_again_is_disconnected() -> None:
    """Each absence lies in slices that the subscriptions around it touch as well; so few could be undecided."""
    world = World(profile(consumers=[{"name": "plain", "count": 40}]))
    world.publish()
    world.subscribe()
    last = world.stays[7]
    for epoch in (1, 2):
        at = world.warm + epoch * 2 * S + 30 * MS
        world.stays.append(Stay(consumer=7, epoch=epoch, start=at + 150 * MS, end=last.end))
        last.end, last.why = at, "peer closed"
        last = world.stays[-1]
    world.deliver()
    missed = [
        m
        for m in world.messages
        if world.contract.routes[m.route].family == 0 or m.route in world.contract.consumer(7).routes
        if not any(m is got for stay in world.stays if stay.consumer == 7 for _, got in stay.got)
    ]
    results = judge(world.profile, world.history())
    assert results.delivery.away.disconnected == len(missed) > 0
    assert results.delivery.undecided == 0
    assert next(c for c in results.checks if c.name.startswith("lost_disconnected")).verdict is Verdict.FAIL
