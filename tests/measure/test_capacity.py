"""Does the answer of a capacity session follow from its trials, and is it UNKNOWN where they do not carry one?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from loadtests.measure.capacity import between, conclude, exit_status, isotonic, levels_of, said
from loadtests.model.capacity import Capacity, CapacityAsked, Judged, Kind, Trial
from loadtests.model.results import Verdict

ASKED = CapacityAsked(limits=["latency_p95_ms<=100"])
HOLD = {"settle-in": 8.0, "search": 8.0, "long": 60.0, "control": 60.0, "planned": 20.0}


def trial(
    factor: float,
    verdict: Judged = "GOOD",
    kind: Kind = "search",
    *,
    p95: float | None = None,
    late: int = 0,
    longest: float = 0.0,
    offered: float | None = None,
    clients: int = 50,
    gateways: int = 1,
    cpu: float | None = None,
    broke: Sequence[str] = (),
    **resources: float,
) -> Trial:
    """A trial of a profile that offers 1,000 deliveries a second at factor 1, on a gateway that ends at about 10."""
    rate = 1000 * factor if offered is None else offered
    hold = HOLD[kind]
    known = {name.replace("_", " "): value for name, value in resources.items()}
    bad = list(broke) or ["latency_p95_ms<=100"]
    return Trial(
        run="r", index=0, kind=kind, factor=factor, from_s=2.0, to_s=2.0 + hold, verdict=verdict,
        broke=[] if verdict == "GOOD" else bad, clients=clients, gateways=gateways, published_per_s=rate / clients,
        offered_per_s=rate, delivered_per_s=rate if verdict == "GOOD" else min(rate, 10_000.0),
        latency_ms={"p50": 2.0, "p95": p95 or (4 / (1 - factor / 11) if factor < 10 else 500.0), "p99": None},
        lost=0, unseen_start=0.0, unseen_end=0.0, unseen_slope_per_s=0.0, little_ratio=1.0, own_lag_p99_ms=1.0,
        not_offered=0, slices=round(hold * 2), late_slices=late, longest_late_s=longest,
        resources={"gateway cpu": (5 + 9.2 * factor) if cpu is None else cpu, "gateway memory": 80.0} | known,
    )  # fmt: skip


def searched(*more: Trial) -> list[Trial]:
    """Up to a bracket of 9.5 and 9.9, with whatever follows."""
    return [
        trial(1, "BAD", "settle-in"),
        trial(1), trial(2), trial(4), trial(8),
        trial(16, "BAD"), trial(16, "BAD"),
        trial(9.9, "BAD"), trial(9.9), trial(9.9, "BAD"),
        trial(9.5),
        *more,
    ]  # fmt: skip


LONG, CONTROL = trial(9.5, kind="long"), trial(5.7, kind="control")
WHOLE = searched(LONG, CONTROL)


def answer(trials: Sequence[Trial] = WHOLE, **asked: object) -> Capacity:
    return conclude(trials, replace(ASKED, **asked), ended="decided", spent_s=300.0)


def unknown(capacity: Capacity, *words: str) -> None:
    assert capacity.confidence == "unknown"
    assert capacity.low is None
    assert exit_status(capacity) == 3
    assert capacity.verdict == Verdict.UNKNOWN
    assert capacity.headroom is None
    assert capacity.advised is None
    assert capacity.sentence.startswith("Unknown how much one gateway carries: ")
    for word in words:
        assert word in " ".join(capacity.found.reasons)


# -- the bracket


def test_the_limit_lies_between_the_highest_level_that_held_and_the_lowest_that_failed() -> None:
    c = answer()
    assert (c.low, c.high, c.confidence) == (9500, 9900, "held")
    assert (c.found.held_s, c.found.held_per_s, c.found.delivered_at_low) == (60, 9500, 9500)
    assert c.sentence.startswith(
        "One gateway carries 9,700 deliveries/s (9,500 held 60 s, 9,900 failed 2 of 3; limit: latency_p95_ms ≤ 100)."
    )
    assert exit_status(c) == 0
    assert c.verdict == Verdict.PASS


def test_a_level_that_was_not_held_is_no_limit() -> None:
    unknown(answer(searched()), "was not held for 60 s", "no hold was played")
    unknown(conclude(searched(), ASKED, ended="budget"), "the budget ended")


def test_a_hold_outweighs_what_short_trials_said() -> None:
    c = answer(searched(trial(9.5, "BAD", "long"), trial(9.025, kind="long"), CONTROL))
    assert (c.low, c.high) == (9025, 9500)
    assert "9,500 failed a hold of 60 s" in c.sentence


def test_the_settle_in_is_no_trial_of_its_level() -> None:
    first = answer().levels[0]
    assert (first.factor, first.good, first.bad) == (1, 1, 0)


def test_one_failure_and_one_success_decide_nothing() -> None:
    (level,) = levels_of([trial(3), trial(3, "BAD"), trial(3, "UNUSABLE")], ASKED)
    assert (level.verdict, level.good, level.bad, level.unusable) == (None, 1, 1, 1)


def test_the_chance_of_short_holds_does_not_move_a_level() -> None:
    noisy = [replace(t, offered_per_s=t.offered_per_s * (1 + (-1) ** i * 0.01)) for i, t in enumerate(WHOLE)]
    c = answer(noisy)
    assert c.low is not None
    assert c.high is not None
    assert c.high / c.low == pytest.approx(9.9 / 9.5)


def test_a_level_that_offered_something_else_stands_where_it_was() -> None:
    c = answer(searched(replace(LONG, offered_per_s=8800.0), CONTROL))
    assert c.low == pytest.approx(8800, rel=0.02)


def test_on_the_axis_of_clients_the_limit_is_in_clients() -> None:
    each = [replace(t, clients=round(t.factor * 100)) for t in WHOLE]
    c = answer(each, axis="clients", axis_unit="clients")
    assert (c.low, c.high) == (950, 990)
    assert "One gateway carries 970 clients (950 held" in c.sentence


def test_several_gateways_carry_it_together() -> None:
    c = answer([replace(t, gateways=3, latency_ms={"p95": 10.0}) for t in WHOLE])
    assert c.sentence.startswith("3 gateways carry")
    assert c.knee is not None
    assert c.knee.at == 9500
    assert c.advised == pytest.approx(9500 * 2 / 3)
    assert c.advised_because == "one of 3 gateways may be lost"


def test_stages_that_the_profile_wrote_by_hand_are_holds() -> None:
    stages = [trial(f, kind="planned") for f in (2, 4, 8, 9)] + [trial(10, "BAD", "planned")]
    c = answer(stages)
    assert (c.low, c.high, c.found.held_s) == (9000, 10_000, 20)
    assert exit_status(c) == 0


# -- at least


@pytest.mark.parametrize(
    ("trials", "ended", "words"),
    [
        ([trial(4), trial(8), trial(8, kind="long"), trial(4.8, kind="control")], "range", "highest that was played"),
        ([trial(8), *[trial(16, "UNUSABLE", broke=["saturated"])] * 2, trial(8, kind="long")], "generator",
         "the load generator's end, not the target's (saturated)"),
        ([trial(8), trial(8, kind="long")], "budget", "the budget ended before"),
    ],
)  # fmt: skip
def test_a_level_above_which_nothing_failed_is_at_least(trials: list[Trial], ended: str, words: str) -> None:
    c = conclude(trials, ASKED, ended=ended)
    assert (c.confidence, c.low, c.high) == ("at_least", 8000, None)
    assert "at least 8,000" in c.sentence
    assert words in c.sentence
    assert exit_status(c) == 0
    assert exit_status(conclude(trials, replace(ASKED, plan=8000.0), ended=ended)) == 0
    above = conclude(trials, replace(ASKED, plan=9000.0), ended=ended)
    assert exit_status(above) == 3
    assert above.headroom is not None
    assert "is not known" in above.headroom.sentence


def test_a_generator_at_its_own_end_makes_it_at_least() -> None:
    c = answer([replace(t, resources={"gateway cpu": 5 + 3 * t.factor, "generator cpu": 10 * t.factor}) for t in WHOLE])
    assert (c.confidence, c.high) == ("at_least", None)
    assert "the load generator is at its own end (generator CPU 97 %)" in c.sentence


# -- unknown


def test_no_good_level_at_all() -> None:
    c = answer([trial(1, "BAD"), trial(1, "BAD")])
    unknown(c, "the lowest level, 1,000 deliveries/s, fails already", "below --from 1")
    assert c.high == 1000


def test_nothing_usable() -> None:
    unknown(conclude([trial(1, "UNUSABLE", broke=["own lag"])] * 2, ASKED, ended="generator"), "own lag")
    unknown(conclude([], ASKED, ended="budget"), "the budget ended")
    unknown(conclude([trial(1, kind="settle-in")], ASKED, ended="budget"), "no level was decided")


def test_four_holds_that_failed() -> None:
    longs = [trial(9.5 * 0.95**i, "BAD", "long") for i in range(4)]
    unknown(answer(searched(*longs)), "4 holds of 60 s failed, down to 8,150")
    held = answer(searched(*longs[:3], trial(9.5 * 0.95**3, kind="long"), CONTROL))
    assert held.confidence == "held"


@pytest.mark.parametrize(("late", "is_unknown"), [(5, False), (6, True)])
def test_lateness_far_below_the_limit_does_not_come_from_load(late: int, is_unknown: bool) -> None:
    """Quiet are 1, 2, 4, 8 and the control: 184 slices, 2.5 % may be late; one of a trial counts for its ends."""
    c = answer(searched(LONG, replace(CONTROL, late_slices=late, longest_late_s=0.6)))
    assert (c.confidence == "unknown") is is_unknown
    if is_unknown:
        unknown(c, "2.7% of the slices at loads under 85% of the result are late too")
        unknown(c, "stalls of about 0.6 s each 92 s decide this limit, not load")


def test_lateness_near_the_limit_does_come_from_load() -> None:
    assert answer(searched(replace(LONG, late_slices=6), CONTROL)).confidence == "held"


def test_the_allowance_is_that_of_the_percentile() -> None:
    late = searched(LONG, replace(CONTROL, late_slices=3))
    assert answer(late).confidence == "held"
    unknown(answer(late, latency_share=0.01), "late too")


def test_unusable_trials_say_nothing_of_lateness() -> None:
    assert answer(searched(LONG, trial(5.7, "UNUSABLE", "control", late=60), CONTROL)).confidence == "held"


def test_a_control_that_fails_by_something_else_is_not_load_either() -> None:
    unknown(answer(searched(LONG, trial(5.7, "BAD", "control", broke=["lost_defect<=0"]))), "the control hold at 0.6 x",
            "lost_defect ≤ 0")  # fmt: skip


def test_a_bracket_wider_than_two() -> None:
    wide = [trial(4), trial(10, "BAD"), trial(10, "BAD"), trial(4, kind="long"), trial(2.4, kind="control")]
    unknown(answer(wide), "from 4,000 to 10,000 is wider than 2 x")


def test_a_hold_far_from_what_the_search_found() -> None:
    unknown(answer(searched(replace(LONG, factor=7.0, offered_per_s=7000.0), CONTROL)), "the target changed meanwhile")


def test_levels_that_contradict_each_other() -> None:
    unknown(answer(searched(trial(5, "BAD"), trial(5, "BAD"), LONG, CONTROL)), "contradict")


def test_a_bracket_that_time_left_wide_is_told_with_that() -> None:
    wide = [trial(8), trial(10, "BAD"), trial(10, "BAD"), trial(8, kind="long"), trial(4.8, kind="control")]
    c = conclude(wide, ASKED, ended="budget")
    assert c.confidence == "held"
    assert c.found.reasons == ["not narrowed to 5%: the budget ended"]


def test_aborted_is_aborted() -> None:
    c = conclude(WHOLE, ASKED, ended="aborted")
    assert exit_status(c) == 4
    assert c.verdict == Verdict.ABORTED


# -- what was not excluded


def test_what_so_short_a_time_cannot_show_is_said() -> None:
    assert answer(searched(replace(LONG, late_slices=1, longest_late_s=0.5), CONTROL)).found.not_excluded == [
        "no stall in 60 s; stalls rarer than one in 20 s are not excluded; --long 300"
    ]
    assert "no stall in 120 s; stalls rarer than one in 40 s" in answer().found.not_excluded[0]
    late = [replace(t, late_slices=1, longest_late_s=0.5) for t in (LONG, CONTROL)]
    assert "nothing late for longer than 0.5 s in 120 s" in answer(searched(*late)).found.not_excluded[0]


def test_a_control_that_was_not_played_is_missed() -> None:
    assert any("no control hold" in text for text in answer(searched(LONG)).found.not_excluded)
    assert not any("no control hold" in text for text in answer().found.not_excluded)


# -- plan


@pytest.mark.parametrize(
    ("plan", "status", "words"),
    [
        (6000, 0, "Plan 6,000: 37 to 39% headroom; it may grow by 1.58 x"),
        (9500, 0, "Plan 9,500: 0 to 4% headroom"),
        (9700, 3, "Plan 9,700 lies within the bracket: whether it is carried is not known"),
        (9901, 1, "Plan 9,900 is 1.04 x what is carried"),
        (25_000, 1, "Plan 25,000 is 2.63 x what is carried"),
    ],
)
def test_headroom_has_both_ends_of_the_bracket_and_decides_the_status(plan: float, status: int, words: str) -> None:
    c = answer(plan=plan)
    assert exit_status(c) == status
    assert c.headroom is not None
    assert c.headroom.low == pytest.approx(1 - plan / 9500)
    assert c.headroom.high == pytest.approx(1 - plan / 9900)
    assert c.headroom.sentence == words
    assert words in c.sentence


def test_growth_says_when_the_plan_outgrows_it() -> None:
    c = answer(plan=4750.0, growth=100.0)
    assert c.headroom is not None
    assert "may grow by 2 x, at 100 % a year in 12 months" in c.headroom.sentence


# -- knee, bottleneck, cost


def test_the_knee_delivers_most_for_its_latency() -> None:
    """Delivered ÷ p95 is f (1 - f / 11): greatest at 5.5; of 5.7 the neighbour 4 is 7 % worse, 5 is as good."""
    c = answer()
    assert c.knee is not None
    assert (c.knee.low, c.knee.at, c.knee.high) == (5700, 5700, 5700)
    near = answer(searched(trial(5.0), LONG, CONTROL))
    assert near.knee is not None
    assert (near.knee.low, near.knee.at, near.knee.high) == (5000, 5700, 5700)


def test_two_levels_have_no_knee() -> None:
    assert answer([trial(8), trial(8.3, "BAD"), trial(8.3, "BAD"), trial(8, kind="long")]).knee is None


@pytest.mark.parametrize(
    ("resources", "words", "names"),
    [
        ({"gateway cpu": 9.5, "redis cpu": 5.0}, "Gateway CPU is the end (92 %)", 2),
        ({"gateway cpu": 9.5, "redis cpu": 9.2}, "Gateway CPU 92 % and redis CPU 89 % are near their ends together", 2),
        ({"gateway cpu": 8.0, "redis cpu": 5.0}, "Gateway CPU 78 % is the nearest to its end, and not at it", 2),
        ({"gateway cpu": 3.0}, "Nothing watched is near its end (gateway CPU 29 %): a limit inside the gateway", 1),
        ({"gateway memory": 50.0}, "", 0),
        ({"gateway cpu": 8.0, "generator cpu": 9.5}, "The load generator is at its own end (generator CPU 92 %)", 2),
    ],
)
def test_the_bottleneck_is_what_a_line_through_good_levels_brings_to_its_end(
    resources: dict[str, float], words: str, names: int
) -> None:
    c = answer([replace(t, resources={name: each * t.factor for name, each in resources.items()}) for t in WHOLE])
    assert c.bottleneck_sentence.startswith(words)
    assert len(c.bottleneck) == names
    assert all(one.low <= one.at <= one.high for one in c.bottleneck)


def test_failed_levels_do_not_bend_the_line() -> None:
    c = answer([replace(t, resources={"gateway cpu": 9.5 * t.factor if t.verdict == "GOOD" else 20.0}) for t in WHOLE])
    assert c.bottleneck[0].at == pytest.approx(9.5 * math.sqrt(9.5 * 9.9))


def test_too_few_or_too_equal_levels_have_no_line() -> None:
    assert answer([trial(9), trial(9.3), trial(9.3, kind="long"), trial(9.6, "BAD"), trial(9.6, "BAD")]).cost == []


def test_costs_are_slopes_with_intervals() -> None:
    scatter = [1.0, -2.0, 0.5, 1.5, -1.0]
    each = [
        replace(t, clients=round(100 * t.factor),
                resources={"gateway cpu": 7 + t.delivered_per_s * 0.008 + scatter[i % 5],
                           "gateway memory": 90 + 100 * t.factor * 0.05 + scatter[i % 5] / 10})
        for i, t in enumerate(WHOLE)
    ]  # fmt: skip
    cpu, memory = answer(each, axis="clients", axis_unit="clients").cost
    assert (cpu.what, cpu.unit) == ("gateway: CPU seconds per million deliveries", "s")
    assert (memory.what, memory.unit) == ("gateway: memory per client", "MB")
    for cost, truth in ((cpu, 80.0), (memory, 0.05)):
        assert cost.low < truth < cost.high
        assert cost.value == pytest.approx(truth, rel=0.05)
        assert cost.high - cost.low < 0.2 * truth


def test_where_clients_do_not_vary_nothing_is_said_of_their_memory() -> None:
    assert [cost.what for cost in answer().cost] == ["gateway: CPU seconds per million deliveries"]


def test_a_price_is_told_for_both_ends() -> None:
    (price,) = (cost for cost in answer(price=0.36).cost if cost.what.startswith("price"))
    assert price.high == pytest.approx(0.36 / 3600 / 9500 * 1e6)
    assert price.low == pytest.approx(0.36 / 3600 / 9900 * 1e6)
    each = [replace(t, clients=round(t.factor * 100)) for t in WHOLE]
    (price,) = (c for c in answer(each, axis="clients", price=0.1).cost if c.what.startswith("price"))
    assert price.high == pytest.approx(0.1 * 730 * 1000 / 950)


# -- under a fault


def faulted(factor: float) -> Capacity:
    trials = [
        replace(t, factor=t.factor * factor, offered_per_s=t.offered_per_s * factor) for t in searched(LONG, CONTROL)
    ]
    return conclude(trials, replace(ASKED, under="redis-cut"))


def test_both_limits_their_ratio_and_what_catching_up_would_allow() -> None:
    under = faulted(0.62)
    assert under.sentence.startswith("Under redis-cut one gateway carries 6,010 deliveries/s")
    c = conclude(WHOLE, replace(ASKED, plan=6000.0), faulted=under, outage_s=3.0, recovery_s=5.0)
    assert c.under is not None
    assert c.under.ratio == pytest.approx(0.62)
    assert c.under.closed_form == pytest.approx(9500 * 5 / 8)
    assert c.under.sentence == "Under redis-cut 6,010 (catching up would allow 5,940)"
    assert c.headroom is not None
    assert "37 to 39% headroom, none under redis-cut" in c.headroom.sentence
    assert c.advised_because != "what is carried under redis-cut", "the knee is lower"
    assert under.sentence.split(" carries ")[0] not in c.sentence
    assert c.under.sentence in c.sentence


def test_far_above_what_catching_up_allows_the_backlog_was_dropped() -> None:
    c = conclude(WHOLE, ASKED, faulted=faulted(0.9), outage_s=3.0, recovery_s=5.0)
    assert c.under is not None
    assert "dropped, not delivered" in c.under.sentence


def test_an_unknown_limit_under_the_fault_stays_unknown() -> None:
    under = conclude([trial(1, "BAD"), trial(1, "BAD")], replace(ASKED, under="redis-cut"))
    c = conclude(WHOLE, ASKED, faulted=under)
    assert c.under is not None
    assert (c.under.ratio, c.under.closed_form) == (None, None)
    assert "Under redis-cut unknown: the lowest level" in c.sentence


def test_the_operating_point_is_the_least_of_what_is_known() -> None:
    c = answer()
    assert (c.advised, c.advised_because[:8]) == (5700, "the knee")
    low = conclude(WHOLE, ASKED, faulted=faulted(0.3))
    assert low.advised == pytest.approx(9500 * 0.3)
    assert low.advised_because == "what is carried under redis-cut"


# -- what if


def test_what_a_plan_would_see_is_told_between_good_levels_only() -> None:
    inside, beyond = answer(plan=3000.0), answer(plan=9700.0)
    plan = inside.at_loads[0]
    assert (plan.what, plan.load) == ("plan", 3000)
    assert plan.resources["gateway cpu"] == pytest.approx(5 + 9.2 * 3)
    assert plan.latency_ms["p50"] == 2
    assert plan.latency_ms["p99"] is None
    assert set(beyond.at_loads[0].resources.values()) == {None}


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-1e6, 1e6)), min_size=1, max_size=20))
def test_isotonic_never_falls_and_keeps_the_mean(points: list[tuple[float, float]]) -> None:
    line = isotonic(points)
    values = [y for _, y in line]
    assert values == sorted(values)
    assert sum(values) == pytest.approx(sum(y for _, y in points), abs=1e-3)
    assert [x for x, _ in line] == sorted(x for x, _ in points)


def test_between_is_a_dash_beyond_and_pools_what_falls() -> None:
    points = [(1.0, 10.0), (2.0, 30.0), (3.0, 20.0), (4.0, 40.0)]
    assert between(points, 2.5) == 25
    assert between(points, 1.5) == 17.5
    assert between(points, 0.9) is None
    assert between(points, 4.1) is None
    assert between([], 1) is None


@pytest.mark.parametrize(
    ("value", "text"), [(9123.4, "9,120"), (0.2512, "0.251"), (99.95, "100"), (1234567.0, "1,230,000")]
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert said(value) == text


TRIALS = st.builds(
    trial,
    st.sampled_from([0.5, 1.0, 2.0, 4.0, 9.5, 9.9, 16.0]),
    st.sampled_from(["GOOD", "BAD", "UNUSABLE"]),
    st.sampled_from(["settle-in", "search", "long", "control", "planned"]),
    late=st.integers(0, 10),
    clients=st.integers(1, 100),
)


@given(st.lists(TRIALS, max_size=25), st.sampled_from(["decided", "budget", "generator", "aborted"]), st.floats(1, 2e4))
def test_whatever_was_played_there_is_an_answer_that_keeps_its_rules(
    trials: list[Trial], ended: str, plan: float
) -> None:
    c = conclude(trials, replace(ASKED, plan=plan, price=1.0), ended=ended)
    assert c.sentence.endswith(".")
    assert c == conclude(trials, replace(ASKED, plan=plan, price=1.0), ended=ended)
    status = exit_status(c)
    assert (status == 4) == (ended == "aborted")
    if c.confidence == "held":
        assert c.low is not None
        assert c.high is not None
        assert c.low < c.high <= 2 * c.low
        assert any(t.verdict == "GOOD" and t.kind in ("long", "planned") for t in trials)
    elif c.confidence == "at_least":
        assert c.low is not None
        assert c.high is None
        assert status != 1
    else:
        assert c.low is None
        assert c.found.reasons
        assert status in (3, 4)


def test_a_load_of_which_little_arrives_is_no_limit_though_the_limits_asked_for_all_held() -> None:
    assert answer().confidence == "held"
    dropped = [replace(one, delivered_per_s=one.offered_per_s / 10) for one in WHOLE]
    unknown(answer(dropped), "say nothing of what is lost")
    assert answer(dropped, under="cut").confidence == "held"  # there the fault takes its part
