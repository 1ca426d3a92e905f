"""Is every load by levels refused that says nothing of the target, with path, found and allowed?"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from loadtests.model.capacity import asked_of, whole_periods
from loadtests.model.profile.fault_times import occurrences
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.rules import offered_per_s

BASE: dict[str, Any] = {
    "name": "base",
    "question": "How much does the base profile carry?",
    "run": {"duration_s": 60},
    "families": [
        {"name": "ranks", "channel": "tickstock.events.market_state", "event": "ranking_change", "symbols": 4},
        {"name": "patterns", "channel": "tickstock.events.patterns", "event": "pattern_detected", "symbols": 4},
    ],
    "publishers": [
        {"name": "p", "count": 2, "families": ["ranks", "patterns"], "shape": {"kind": "constant", "rate_per_s": 20}}
    ],
    "consumers": [{"name": "all", "count": 10}, {"name": "some", "count": 4, "subscribe": {"families": ["ranks"]}}],
    "faults": [
        {"name": "cut", "kind": "down", "link": "gateway-redis", "at_s": 5, "for_s": 2},
        {"name": "again", "kind": "down", "link": "gateway-redis", "at_s": 20, "for_s": 1,
         "repeat": {"times": 2, "every_s": 18}},
    ],
    "recovery": {"limit_s": 10},
    "thresholds": [{"measure": "latency_p95_ms", "at_most": 100}, {"measure": "lost_defect", "at_most": 0}],
}  # fmt: skip
SEARCH = {"capacity": {"search": True}}


def problems_of(**changes: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        Profile.model_validate(copy.deepcopy(BASE) | changes)
    return str(refused.value)


def shaped(**shape: Any) -> list[dict[str, Any]]:
    return [{"name": "p", "families": ["ranks", "patterns"], "shape": shape}]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"capacity": {"start": 4.0, "to": 4.0}}, "to: found 4, allowed above start, 4"),
        ({"capacity": {"tolerance_percent": 0.5}}, "tolerance_percent"),
        ({"capacity": {"under": "nobody"}}, 'capacity.under: found "nobody", allowed one of "cut"'),
        ({"capacity": {"under": "again"}}, 'capacity.under: found "again", allowed one of "cut", since a level'),
        ({"capacity": {"limits": ["recovery_s"]}}, 'capacity.limits[0]: found "recovery_s", allowed one of'),
        ({"capacity": {"limits": ["lost_defect", "lost_defect"]}}, 'limits: found "lost_defect" twice'),
        (SEARCH | {"levels": [{"factor": 1.0, "hold_s": 5}]}, "levels: found stages beside capacity.search"),
        (SEARCH | {"publishers": shaped(kind="ramp", from_per_s=1.0, to_per_s=9.0)}, 'shape.kind: found "ramp"'),
        (SEARCH | {"publishers": shaped(kind="constant", rate_per_s=50.0, at_most=9)}, "shape.at_most: found 9"),
        (
            {"levels": [{"factor": 1.0, "hold_s": 50}, {"factor": 2.0, "hold_s": 9}]},
            "run.duration_s: found 60, allowed from 63, what the levels take",
        ),
        (
            {"levels": [{"factor": 0.1, "hold_s": 2}]},
            "levels[0].hold_s: found 2, allowed from 5: latency_p95_ms needs 200 deliveries in a hold",
        ),
        (
            SEARCH
            | {"thresholds": [{"measure": "latency_p99_ms", "at_most": 9}], "consumers": [{"name": "a", "count": 2}]},
            "capacity.hold_s: found 8, allowed from 13: latency_p99_ms needs 1,000 deliveries in a hold",
        ),
        (
            {
                "publishers": shaped(kind="burst", base_per_s=20.0, peak_per_s=400.0, length_s=0.5, period_s=10.0),
                "levels": [{"factor": 1.0, "hold_s": 5}],
            },
            "levels[0].hold_s: found 5, allowed from 10, a period of publishers[0]",
        ),
    ],
)  # fmt: skip
def test_what_says_nothing_is_refused_in_words(changes: dict[str, Any], said: str) -> None:
    assert said in problems_of(**changes)


def test_the_offered_load_counts_whoever_follows_a_route() -> None:
    # 40 messages/s, half of each family (4 routes each): ranks go to 14 clients, patterns to 10.
    assert offered_per_s(Profile.model_validate(BASE)) == pytest.approx(20 * 14 + 20 * 10)


def test_a_hold_holds_whole_periods() -> None:
    raw = BASE | {"publishers": shaped(kind="burst", base_per_s=20.0, peak_per_s=400.0, length_s=0.5, period_s=3.0)}
    profile = Profile.model_validate(raw | SEARCH)
    assert whole_periods(profile, 8.0) == 9.0
    assert whole_periods(profile, 9.0) == 9.0
    assert asked_of(profile).hold_s == 9.0


def test_a_search_plays_no_fault_of_its_own_and_a_level_under_one_takes_longer() -> None:
    plain = Profile.model_validate(BASE)
    searching = Profile.model_validate(BASE | SEARCH)
    under = Profile.model_validate(BASE | {"capacity": {"search": True, "under": "cut"}})
    assert [len(occurrences(plain, index)) for index in (0, 1)] == [1, 2]
    assert [len(occurrences(searching, index)) for index in (0, 1)] == [0, 0]
    assert asked_of(under).settle_s == asked_of(searching).settle_s + 4 + 2 + 10 + 3  # calm, cut, limit, steady
    assert asked_of(searching).latency_share == 0.05
    assert asked_of(searching).limits[:2] == ["latency_p95_ms<=100", "lost_defect<=0"]


@pytest.mark.parametrize("toxiproxy", ["", 'toxiproxy = "127.0.0.1:8474"'])
def test_families_of_a_target_without_toxiproxy_lead_over_no_link(toxiproxy: str) -> None:
    target = {"kind": "external", "redis": "127.0.0.1:1", "gateway": "127.0.0.1:2"}
    if toxiproxy:
        target["toxiproxy"] = "127.0.0.1:8474"
    profile = Profile.model_validate(BASE | {"target": target, "faults": []})
    assert [bool(family.path) for family in profile.families] == [bool(toxiproxy)] * 2
