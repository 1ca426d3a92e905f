"""Is each level judged in its hold alone, by the run's own limits, and never charged with what was our doing?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from loadtests.measure.history_tables import fold
from loadtests.measure.judge import concluded, judge
from loadtests.measure.levels import held, played
from loadtests.measure.stages import analyse
from loadtests.model import records as r
from loadtests.model.capacity import Trial
from loadtests.model.ids import SLICE_NS
from loadtests.model.measures import DEFAULT_LIMITS, needing
from loadtests.model.results import Verdict
from tests.measure.simulate import MS, FaultIn, Message, S, Stay, World, profile

THRESHOLDS = [
    {"measure": "latency_p95_ms", "at_most": 100.0},
    {"measure": "lost_defect", "at_most": 0.0},
    {"measure": "deliveries", "at_least": 1.0},
]
FACTORS = (1.0, 2.0, 4.0)
LEVEL_S, SETTLE_S = 3.0, 0.5


def world(search: bool = True, **changes: Any) -> World:
    """Three levels of half a second and 2.5 s, from the warm-up's end on."""
    table: dict[str, Any] = {"capacity": {"search": True, "hold_s": 2.5}}
    if not search:
        table = {"levels": [{"factor": f, "settle_s": SETTLE_S, "hold_s": LEVEL_S - SETTLE_S} for f in FACTORS]}
    made = World(
        profile(
            run={"duration_s": 9.0, "warm_up_s": 1.0, "drain_s": 2.0, "late_s": 0.5, "settle_ms": 100},
             **({"thresholds": THRESHOLDS} | table | changes),
        )
    )  # fmt: skip
    kind = "search" if search else "planned"
    for index, factor in enumerate(FACTORS):
        start = made.warm + round(index * LEVEL_S * S)
        made.extra.append(
            r.Level(
                index=index, kind=kind, factor=factor, from_ns=start, hold_ns=start + round(SETTLE_S * S),
                to_ns=start + round(LEVEL_S * S),
            )
        )  # fmt: skip
    return made


def in_level(made: World, index: int) -> Callable[[Message], bool]:
    start = made.warm + round(index * LEVEL_S * S)
    return lambda m: start + round(SETTLE_S * S) <= m.due < start + round(LEVEL_S * S)


def filled(made: World, lose: Any = None, delay: Any = None) -> World:
    made.publish()
    made.subscribe()
    made.deliver(lose, delay)
    return made


def trials(made: World) -> list[Trial]:
    analysis = analyse(made.profile, fold(made.history()))
    return [one.trial for one in played(analysis)]


def test_calm_levels_are_good_and_counted_exactly() -> None:
    made = filled(world())
    found = trials(made)
    assert [one.verdict for one in found] == ["GOOD"] * 3
    for index, one in enumerate(found):
        mine = in_level(made, index)
        messages = [m for m in made.messages if mine(m)]
        owed = sum(mine(m) for stay in made.stays for _, m in stay.got)
        start = made.warm + round((index * LEVEL_S + SETTLE_S) * S)
        came = sum(start <= at < start + round(2.5 * S) for stay in made.stays for at, _ in stay.got)
        assert one.published_per_s * 2.5 == pytest.approx(len(messages))
        assert one.offered_per_s * 2.5 == pytest.approx(owed)
        assert one.delivered_per_s * 2.5 == pytest.approx(came)
        assert (one.clients, one.lost, one.not_offered, one.late_slices) == (5, 0, 0, 0)


def test_what_is_late_in_one_hold_is_bad_there_and_nowhere_else() -> None:
    made = world()
    late = in_level(made, 1)
    found = trials(filled(made, delay=lambda m, stay: 150 * MS if late(m) else 0))
    assert [one.verdict for one in found] == ["GOOD", "BAD", "GOOD"]
    assert "latency_p95_ms" in found[1].broke[0]
    assert found[1].late_slices == found[1].slices > 20
    assert found[1].longest_late_s == pytest.approx(2.5, abs=0.11)


def test_what_is_late_while_a_level_settles_is_no_matter() -> None:
    made = world()
    start = made.warm + round(LEVEL_S * S)
    settling = lambda m, stay: 150 * MS if start <= m.due < start + round((SETTLE_S - 0.2) * S) else 0
    assert [one.verdict for one in trials(filled(made, delay=settling))] == ["GOOD"] * 3


def test_a_loss_is_charged_to_the_level_in_which_it_was_due() -> None:
    made = world()
    mine = in_level(made, 2)
    lost: list[Message] = []

    def lose(m: Message, stay: Stay) -> bool:
        if not lost and mine(m) and stay.consumer == 0 and m.due > made.warm + 7 * S:
            lost.append(m)
        return bool(lost) and m is lost[0] and stay.consumer == 0

    found = trials(filled(made, lose=lose))
    assert [(one.verdict, one.lost) for one in found] == [("GOOD", 0), ("GOOD", 0), ("BAD", 1)]


def test_a_backlog_that_grows_is_bad_though_no_percentile_says_so_yet() -> None:
    made = world()
    mine, start = in_level(made, 1), made.warm + round(LEVEL_S * S)
    growing = lambda m, stay: (m.due - start) // 36 if mine(m) else 0
    found = trials(filled(made, delay=growing))
    assert found[1].latency_ms["p95"] < 100
    assert found[1].verdict == "BAD"
    assert "backlog grew" in found[1].broke[0]
    assert found[0].verdict == "GOOD"


@pytest.mark.parametrize("how", ["saturated", "own lag", "not offered"])
def test_our_own_trouble_is_unusable_and_never_the_targets(how: str) -> None:
    made = world()
    start = made.warm + round((LEVEL_S + SETTLE_S) * S)
    late = in_level(made, 1)
    filled(
        made, delay=lambda m, stay: 150 * MS if late(m) else 0
    )  # what the target did at the same time does not count
    if how == "saturated":
        history = [
            (name, r_frame._replace(records=[_busy(one, start) for one in r_frame.records]))
            for name, r_frame in made.history()
        ]
    else:
        lag = ([], []) if how == "not offered" else _lag(80 * MS, 40)
        made.extra.append(
            r.PublishTimes(
                publishers=0, due_slice=start // SLICE_NS + 3, sent=0 if how == "not offered" else 40,
                not_offered=40 if how == "not offered" else 0, own_lag=lag, blocked=([], []), receivers_min=1,
                receivers_max=1, receivers_zero=0,
            )
        )  # fmt: skip
        history = made.history()
    found = [one.trial for one in played(analyse(made.profile, fold(history)))]
    assert [one.verdict for one in found] == ["GOOD", "UNUSABLE", "GOOD"], found[1].broke


def _busy(record: r.Record, start: int) -> r.Record:
    if isinstance(record, r.HarnessSecond) and start < record.at_ns <= start + 3 * S:
        return r.HarnessSecond(**{f: getattr(record, f) for f in record.__struct_fields__} | {"saturated": True})
    return record


def _lag(ns: int, count: int) -> tuple[list[int], list[int]]:
    from loadtests.tally.histogram import bucket_of

    return [bucket_of(ns)], [count]


def test_a_level_whose_account_and_clock_disagree_is_unusable() -> None:
    """Latencies that say 1 ms of messages which the account has on their way for half a second."""
    made = filled(world(), delay=lambda m, stay: 3000 * MS)
    wrong = _lag(4000 * S // 1000, 1)
    history = [
        (name, frame._replace(records=[_with_latency(one, wrong[0][0]) for one in frame.records]))
        for name, frame in made.history()
    ]
    found = [one.trial for one in played(analyse(made.profile, fold(history)))]
    assert any("Little" in text for one in found for text in one.broke)


def _with_latency(record: r.Record, bucket: int) -> r.Record:
    if isinstance(record, r.Consumed) and record.clock == "read":
        count = sum(record.latency[1])
        values = {f: getattr(record, f) for f in record.__struct_fields__}
        return r.Consumed(**values | {"latency": ([bucket], [count]) if count else ([], [])})
    return record


def test_a_search_is_judged_where_it_held_though_other_levels_broke_its_limits() -> None:
    made = world()
    late = in_level(made, 2)
    results = judge(made.profile, filled(made, delay=lambda m, stay: 150 * MS if late(m) else 0).history())
    assert results.verdict is Verdict.PASS, results.reasons
    assert results.capacity is not None
    assert [one.verdict for one in results.capacity.trials] == ["GOOD", "GOOD", "BAD"]


def test_of_a_search_in_which_no_level_held_nothing_passes() -> None:
    made = world()
    results = judge(made.profile, filled(made, delay=lambda m, stay: 150 * MS).history())
    assert results.verdict is Verdict.FAIL
    assert results.capacity is not None
    assert results.capacity.low is None


def test_stages_are_each_judged_and_the_worst_counts_by_name() -> None:
    made = world(search=False)
    late = in_level(made, 2)
    results = judge(made.profile, filled(made, delay=lambda m, stay: 150 * MS if late(m) else 0).history())
    assert results.verdict is Verdict.FAIL
    check = next(c for c in results.checks if c.name.startswith("latency_p95_ms"))
    assert "stage 3 of 3 (x4)" in check.summary
    calm = world(search=False)
    assert judge(calm.profile, filled(calm).history()).verdict is Verdict.PASS


def test_the_highest_that_held_for_long_carries_the_verdict() -> None:
    made = world()
    analysis = analyse(made.profile, fold(filled(made).history()))
    found = played(analysis)
    best = held(found)
    assert best is not None
    assert best.level.factor == 4.0
    assert concluded(analysis).capacity is not None


def test_a_level_under_a_fault_is_judged_by_the_way_back_as_well() -> None:
    cut = {"name": "cut", "kind": "down", "link": "gateway-redis", "at_s": 1.0, "for_s": 0.5}
    for slow, verdict in ((0, "GOOD"), (1, "BAD")):
        made = world(
            faults=[cut], recovery={"limit_s": 0.5},
            capacity={"search": True, "hold_s": 2.5, "under": "cut", "limits": ["not_recovered"]},
            thresholds=[*THRESHOLDS, {"measure": "not_recovered", "at_most": 0.0}],
        )  # fmt: skip
        start = made.warm + round((LEVEL_S + 0.6) * S)
        made.faults.append(FaultIn(name="cut#2", kind="down", link="gateway-redis", start=start, end=start + S // 2))
        gone = start + S // 2 + slow * S

        def lose(m: Message, stay: Stay, until: int = gone, since: int = start) -> bool:
            return since <= m.sent < until

        found = trials(filled(made, lose=lose))
        assert found[1].verdict == verdict, found[1].broke
        assert (found[0].verdict, "no fault acted" in found[0].broke[0]) == ("UNUSABLE", True)


@pytest.mark.parametrize("of", ["family", "group"])
def test_what_one_family_or_group_may_take_is_not_late_by_the_limit_of_another(of: str) -> None:
    strict, loose = ("ranks", "patterns") if of == "family" else ("plain", "sock")
    limits = [
        {"measure": "latency_p95_ms", "at_most": 20.0, of: strict},
        {"measure": "latency_p95_ms", "at_most": 500.0, of: loose},
    ]
    for slow, late in ((loose, False), (strict, True)):
        made = world(thresholds=limits)
        mine = range(3, 5) if slow == loose else range(3)  # who alone gets that family, or is that group
        delay = lambda m, stay, mine=mine: 100 * MS if stay.consumer in mine else 0
        found = trials(filled(made, delay=delay))
        assert all((one.late_slices > 20) == late for one in found), [one.late_slices for one in found]


def test_a_level_that_cannot_have_been_played_or_stands_twice_is_none_of_its_own() -> None:
    """A history may be torn, or come from a stranger."""
    made = filled(world())
    first, second, third = [one for one in made.extra if isinstance(one, r.Level)]
    kept = [one for one in made.extra if not isinstance(one, r.Level)]

    def like(level: r.Level, **changes: Any) -> r.Level:
        return r.Level(**{f: getattr(level, f) for f in level.__struct_fields__} | changes)

    made.extra = [*kept, first, first, like(second, hold_ns=second.to_ns), like(third, factor=0.0)]
    assert [one.index for one in trials(made)] == [0]
    assert judge(made.profile, made.history()).capacity is not None


def test_where_no_limit_can_be_judged_in_a_hold_nothing_is_good() -> None:
    with pytest.raises(ValueError, match=r'capacity.limits\[0\]: found "deliveries"'):
        world(capacity={"search": True, "hold_s": 2.5, "limits": ["deliveries"]})
    off = [{"measure": name, "at_most": "off"} for name in DEFAULT_LIMITS if name not in needing("faults")]
    made = world(thresholds=[{"measure": "deliveries", "at_least": 1.0}, *off])
    found = trials(filled(made, lose=lambda m, stay: m.seq % 2 == 0, delay=lambda m, stay: 2 * S))
    assert {one.verdict for one in found} == {"UNUSABLE"}
    assert "no limit of the profile" in found[0].broke[0]
