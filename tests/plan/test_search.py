"""Does the search play what it says: double, best of three, halve, hold, control; within its range and its budget?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.model.capacity import CapacityAsked, Judged
from loadtests.plan.search import Search, Step, shortest_s

Answer = Callable[[Step], Judged]
PLENTY = CapacityAsked(budget_s=10_000.0)


def played(search: Search, answer: Answer, gap_s: float = 3.0) -> list[tuple[Step, Judged]]:
    """All steps with what became of each; no time passes but that of the steps."""
    spent, found = 0.0, []
    while (step := search.next(spent)) is not None:
        assert search.next(spent) == step, "asked twice, it says the same"
        verdict = answer(step)
        found.append((step, verdict))
        search.add(verdict)
        spent += step.settle_s + step.hold_s + gap_s
        assert len(found) < 200, "it does not end"
    assert search.ended
    assert search.why
    assert search.next(spent) is None
    return found


def carries(factor: float) -> Answer:
    return lambda step: "GOOD" if step.factor <= factor else "BAD"


def scripted(*verdicts: Judged) -> Answer:
    """These, and then GOOD for ever."""
    rest = list(verdicts)
    return lambda _: rest.pop(0) if rest else "GOOD"


def factors(steps: Sequence[tuple[Step, Judged]], kind: str = "search") -> list[float]:
    return [round(step.factor, 4) for step, _ in steps if step.kind == kind]


def test_it_doubles_until_a_level_fails_twice_then_halves_holds_and_controls() -> None:
    search = Search(PLENTY)
    steps = played(search, carries(10.0))
    assert [step.kind for step, _ in steps][:2] == ["settle-in", "search"]
    assert factors(steps)[:6] == [1, 2, 4, 8, 16, 16]
    assert factors(steps)[6] == round(math.sqrt(128), 4)
    low, high = search.bracket
    assert low is not None
    assert high is not None
    assert low <= 10 < high <= low * 1.05
    assert factors(steps, "long") == [round(low, 4)]
    assert factors(steps, "control") == [round(0.6 * low, 4)]
    assert search.ended == "decided"
    assert [step.hold_s for step, _ in steps if step.kind == "long"] == [PLENTY.long_s]


def test_the_first_level_is_thrown_away_whatever_it_says() -> None:
    once = scripted("BAD")
    search = Search(PLENTY)
    steps = played(search, once)
    assert factors(steps)[:2] == [1, 2]
    assert search.ended == "range"


@pytest.mark.parametrize(
    ("said", "good"),
    [
        (["BAD", "GOOD", "GOOD"], True),
        (["BAD", "GOOD", "BAD"], False),
        (["BAD", "BAD"], False),
        (["UNUSABLE", "GOOD"], True),
        (["BAD", "UNUSABLE", "BAD"], False),
        (["UNUSABLE", "BAD", "GOOD", "UNUSABLE", "GOOD"], True),
    ],
)
def test_a_failure_is_best_of_three_and_an_unusable_trial_counts_neither_way(said: list[Judged], good: bool) -> None:
    search = Search(CapacityAsked(to=2.0, budget_s=10_000.0))
    steps = played(search, scripted("GOOD", "GOOD", *said))  # settle-in and the first level
    at_two = [step for step, _ in steps if step.kind == "search" and step.factor == 2.0]
    assert len(at_two) == len(said)
    assert (search.ended == "range") is good


def test_two_unusable_in_a_row_end_the_climb_and_what_is_good_is_still_held() -> None:
    search = Search(PLENTY)
    steps = played(search, lambda step: "UNUSABLE" if step.factor > 8 else "GOOD")
    assert factors(steps) == [1, 2, 4, 8, 16, 16]
    assert factors(steps, "long") == [8]
    assert search.ended == "generator"
    assert "load generator" in search.why
    assert search.bracket == (8, None)


def test_unusable_from_the_begin_says_nothing() -> None:
    search = Search(PLENTY)
    assert len(played(search, lambda _: "UNUSABLE")) == 3
    assert (search.ended, search.bracket) == ("generator", (None, None))


def test_a_lowest_level_that_fails_is_never_halved() -> None:
    search = Search(PLENTY)
    steps = played(search, carries(0.5))
    assert factors(steps) == [1, 1]
    assert (search.ended, search.bracket) == ("lowest", (None, 1.0))


def test_the_end_of_the_range_is_held_when_it_is_good() -> None:
    search = Search(CapacityAsked(to=6.0, budget_s=10_000.0))
    steps = played(search, carries(100.0))
    assert factors(steps) == [1, 2, 4, 6]
    assert factors(steps, "long") == [6]
    assert search.ended == "range"


def test_a_hold_that_fails_goes_down_five_percent_at_most_four_times() -> None:
    def short_only(step: Step) -> Judged:
        return "GOOD" if step.factor <= (10 if step.hold_s < 60 else 8) else "BAD"

    search = Search(PLENTY)
    steps = played(search, short_only)
    longs = factors(steps, "long")
    assert len(longs) == 4
    assert longs[1] == pytest.approx(longs[0] * 0.95, abs=1e-4)
    assert search.ended == "unheld"
    assert not factors(steps, "control")


def test_a_hold_that_held_after_one_that_failed_makes_the_bracket() -> None:
    failed: list[float] = []

    def once(step: Step) -> Judged:
        if step.kind == "long" and not failed:
            failed.append(step.factor)
            return "BAD"
        return carries(10.0)(step)

    search = Search(PLENTY)
    played(search, once)
    assert search.bracket == (failed[0] * 0.95, failed[0])
    assert search.ended == "decided"


def test_two_unusable_holds_in_a_row_end_it() -> None:
    search = Search(PLENTY)
    steps = played(search, lambda step: "UNUSABLE" if step.kind == "long" else carries(10.0)(step))
    assert len(factors(steps, "long")) == 2
    assert search.ended == "generator"


def test_when_time_gets_short_it_stops_halving_and_confirms_what_there_is() -> None:
    asked = CapacityAsked(budget_s=2 * 65 + 13 * 9)
    search = Search(asked)
    steps = played(search, carries(10.0))
    low, high = search.bracket
    assert low is not None
    assert high is not None
    assert high / low > 1 + asked.tolerance
    assert factors(steps, "long")
    assert factors(steps, "control")
    assert search.ended == "budget"


def test_a_budget_that_ends_before_a_good_level_says_so() -> None:
    search = Search(CapacityAsked(budget_s=20.0))
    assert [step.kind for step, _ in played(search, carries(10.0))] == ["settle-in"]
    assert search.ended == "budget"


def test_the_shortest_budget_can_end_in_a_held_level() -> None:
    asked = CapacityAsked(budget_s=1.0)
    search = Search(CapacityAsked(budget_s=shortest_s(asked)))
    assert factors(played(search, carries(10.0)), "long") == [1]


def test_an_answer_without_a_question_is_refused() -> None:
    search = Search(PLENTY)
    with pytest.raises(ValueError, match="no step is out"):
        search.add("GOOD")


ASKED = st.builds(
    CapacityAsked,
    start=st.floats(0.1, 2.0),
    to=st.floats(2.0, 200.0),
    tolerance=st.floats(0.01, 0.5),
    settle_s=st.floats(0.0, 5.0),
    hold_s=st.floats(1.0, 20.0),
    long_s=st.floats(10.0, 300.0),
    budget_s=st.floats(1.0, 3000.0),
)
VERDICT = st.sampled_from(["GOOD", "BAD", "UNUSABLE"])


@given(asked=ASKED, verdicts=st.lists(VERDICT, min_size=0, max_size=120))
def test_whatever_happens_it_ends_within_range_and_budget(asked: CapacityAsked, verdicts: list[Judged]) -> None:
    search, spent = Search(asked), 0.0
    rest = list(verdicts)
    for _ in range(200):
        left = search.left_s(spent)
        assert 0 <= left <= max(0.0, asked.budget_s - spent)
        step = search.next(spent)
        if step is None:
            break
        assert step.factor <= asked.to
        assert spent + step.lasts_s <= asked.budget_s
        search.add(rest.pop(0) if rest else "GOOD", "latency")
        spent += step.lasts_s
    assert search.ended in {"decided", "range", "lowest", "generator", "unheld", "budget"}
    assert search.left_s(spent) == 0
    low, high = search.bracket
    assert low is None or high is None or low < high


@given(truth=st.floats(0.1, 300.0), asked=ASKED)
def test_of_a_target_that_does_not_change_the_bracket_holds_the_truth(truth: float, asked: CapacityAsked) -> None:
    search = Search(asked)
    played(search, carries(truth))
    low, high = search.bracket
    assert low is None or low <= truth
    assert high is None or high > truth
    if search.ended == "decided":
        assert low is not None
        assert high is not None
        assert high / low <= 1 + asked.tolerance + 1e-9
