"""Does the scaling law find planted truths, and is it silent where its points say nothing?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.measure.usl import REACH, fit, parse_points
from loadtests.model.capacity import Scaling

FEW, SOME, MANY = [1, 2, 3], [1, 2, 4, 6, 8], [2, 4, 6, 8, 12, 16, 24, 32]
NEAR, MIDDLE, FAR = (0.03, 0.03), (0.08, 0.011), (0.05, 0.002)
"""σ and κ with a peak at 5.7, 9.1 and 21.8."""
LAMBDA = 9000.0


def law(n: float, sigma: float, kappa: float) -> float:
    return LAMBDA * n / (1 + sigma * (n - 1) + kappa * n * (n - 1))


def planted(ns: Sequence[int], of: tuple[float, float], error: float, seed: int) -> Scaling:
    dice = np.random.default_rng(seed)
    points = [(float(n), law(n, *of) * float(np.exp(dice.normal(0, error)))) for n in ns]
    return fit(points, [error] * len(ns), seed)


def test_without_noise_the_truth_comes_back() -> None:
    found = fit([(n, law(n, *MIDDLE)) for n in MANY], [0.01] * len(MANY))
    for span, truth in ((found.lambda_, LAMBDA), (found.sigma, MIDDLE[0]), (found.kappa, MIDDLE[1])):
        assert span.at == pytest.approx(truth, rel=1e-6)
        assert span.low is not None
        assert span.high is not None
        assert span.low < truth < span.high
    assert found.peak is not None
    assert found.peak.n == pytest.approx(math.sqrt((1 - MIDDLE[0]) / MIDDLE[1]), rel=1e-6)
    assert found.why_not == []


def test_equal_points_give_equal_results_in_any_order() -> None:
    points = [(n, law(n, *MIDDLE) * (1 + n % 3 / 50)) for n in SOME]
    assert fit(points) == fit(list(reversed(points)))


@pytest.mark.parametrize("ns", [FEW, SOME, MANY], ids=["3 points", "5 points", "8 points"])
def test_the_intervals_hold_the_truth_as_often_as_they_say(ns: list[int]) -> None:
    inside: dict[str, list[bool]] = {"next": [], "lambda": [], "sigma": [], "kappa": []}
    for of in (NEAR, MIDDLE, FAR):
        for seed in range(60):
            found = planted(ns, of, 0.03, seed)
            (first, *_) = found.told
            assert first.n == ns[-1] + 1
            inside["next"].append(first.low <= law(first.n, *of) <= first.high)
            for name, span, truth in (
                ("lambda", found.lambda_, LAMBDA),
                ("sigma", found.sigma, of[0]),
                ("kappa", found.kappa, of[1]),
            ):
                assert span.low is not None
                assert span.high is not None
                inside[name].append(span.low <= truth <= span.high)
    assert {
        name: round(sum(said) / len(said), 2) for name, said in inside.items() if sum(said) < 0.85 * len(said)
    } == {}


def test_a_peak_is_found_where_it_was_measured_and_its_interval_holds_it() -> None:
    found = [planted(MANY, MIDDLE, 0.03, seed) for seed in range(40)]
    peaks = [one.peak for one in found if one.peak is not None]
    truth = math.sqrt((1 - MIDDLE[0]) / MIDDLE[1])
    assert len(peaks) == 40
    assert sum(peak.low <= truth <= peak.high for peak in peaks) >= 34


@pytest.mark.parametrize("error", [0.03, 0.1])
@pytest.mark.parametrize("ns", [[1, 2, 4, 6, 8, 10], SOME, FEW])
def test_a_peak_is_never_told_from_less_than_half_of_it(ns: list[int], error: float) -> None:
    assert math.sqrt((1 - FAR[0]) / FAR[1]) > 2 * ns[-1]
    for seed in range(120):
        found = planted(ns, FAR, error, seed)
        assert found.peak is None
        assert any("no turning point" in text for text in found.why_not)


def test_a_law_without_a_peak_has_none() -> None:
    assert sum(planted(MANY, (0.05, 0.0), 0.03, seed).peak is not None for seed in range(60)) == 0


@given(
    points=st.lists(st.tuples(st.integers(1, 40), st.floats(1.0, 1e7)), min_size=1, max_size=9),
    error=st.floats(0.005, 0.5),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_negative_and_nothing_is_told_out_of_reach(points: list[tuple[int, float]], error: float) -> None:
    found = fit([(float(n), x) for n, x in points], [error] * len(points))
    different = {n for n, _ in points}
    if len(different) < 3:
        assert (found.told, found.peak, found.curve, found.lambda_.at) == ([], None, [], None)
        assert "say" in found.why_not[0]
        return
    for span in (found.lambda_, found.sigma, found.kappa):
        assert span.at is not None
        assert span.at >= 0
        assert span.low is not None
        assert span.low >= 0
    largest = max(different)
    for told in found.told:
        assert largest < told.n <= max(REACH * largest, largest + 1)
        assert (told.high - told.low) / 2 <= 0.15 * told.x
    if len(different) == 3:
        assert {told.n for told in found.told} <= {largest + 1}


def test_three_points_tell_the_next_and_say_what_more_needs() -> None:
    found = planted(FEW, FAR, 0.03, 1)
    assert [told.n for told in found.told] == [4]
    assert "needs a fourth" in " ".join(found.why_not)


def test_dull_points_are_told_how_sharp_they_must_be() -> None:
    found = planted(SOME, FAR, 0.15, 3)
    assert found.told == []
    assert "needs a point at N = 9, or points to ±" in " ".join(found.why_not)


def test_a_point_that_the_law_does_not_fit_is_named() -> None:
    points = [(n, law(n, *FAR)) for n in MANY]
    points[3] = (points[3][0], points[3][1] * 0.8)
    said = " ".join(fit(points, [0.03] * len(points)).why_not)
    assert "does not fit N = 8" in said
    assert "N = 12:" not in said


def test_errors_that_nobody_said_are_said_to_be_taken() -> None:
    assert "± 3% is taken" in fit([(1, 9100), (2, 17400), (4, 31000), (6, 41000)]).why_not[0]


@pytest.mark.parametrize("bad", [[(0.5, 9.0)], [(1.0, 0.0)], [(1.0, math.inf)]])
def test_impossible_points_are_refused(bad: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        fit(bad)


def test_points_are_read() -> None:
    assert parse_points("1:9100, 2:17_400,4:31e3") == [(1, 9100), (2, 17400), (4, 31000)]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["0 different N"]),
        ("1:9100,2:17400,2:17500", ["2 different N, allowed 3 or more"]),
        ("1:9100,two:17400,4", ["point 2: N is 'two'", "point 3: found '4'"]),
        (
            "0:1,2:-5,3:nan,4:1:2",
            ["point 1: N is 0", "point 2: X is -5", "point 3: X is nan", "point 4: found '4:1:2'"],
        ),
    ],
)
def test_all_problems_of_points_are_named_at_once(text: str, problems: list[str]) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the lines are compared
        parse_points(text)
    said = str(refused.value).splitlines()
    assert len(said) == len(problems)
    for line, problem in zip(said, problems, strict=True):
        assert problem in line


@pytest.mark.parametrize("text", ["1:1,1:1000000,2:1,3:1", "1:1,2:100,3:10000,4:1000000", "1:9,2:10,3:4"])
def test_a_law_that_its_points_contradict_foretells_nothing(text: str) -> None:
    found = fit(parse_points(text))
    assert any("does not fit N" in why for why in found.why_not)
    assert (found.told, found.peak) == ([], None)


def test_no_turning_point_lies_before_the_first() -> None:
    found = fit([(n, law(n, 0.0, 3.0)) for n in MANY], [0.01] * len(MANY))
    assert found.peak is None
    assert "more of them carry less from the first on" in found.why_not


@pytest.mark.parametrize("text", ["1:1,2:2,3:3,1e308:4", "1:1e308,2:1e308,3:1e308", "1:1e-300,2:1e-300,3:1e-308"])
def test_points_beyond_all_reason_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"point \d: [NX] is 1e"):
        parse_points(text)
