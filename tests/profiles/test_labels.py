"""Does each word of the sources lead to a shipped profile, or stand among the pending ones; and has each a stage?"""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.model.errors import BadInput
from loadtests.model.labels import CATEGORIES, KNOWN, PENDING, STAGES, WORDS, category_of
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.reading import read_profile

FOLDER = Path(__file__).parents[2] / "profiles"
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.toml"))}
SOURCES = {
    "redis_integration", "database_integration", "e2e_workflows", "performance_integration", "system_resilience",
    "etf_universe", "redis_flow", "resilience", "phase3", "sprint14", "database", "performance", "redis", "latency",
    "memory", "load", "workflow", "e2e", "redis_subscriber", "websocket_broadcaster", "end_to_end", "application",
    "trading_flow", "websocket_stability", "order_lifecycle", "position_tracking", "risk", "market_data", "indicators",
    "error_recovery",
}  # fmt: skip
HOURS_S = 3600.0


@pytest.fixture(scope="module")
def shipped() -> dict[str, Profile]:
    return {name: read_profile(text, file=name).profile for name, text in TEXTS.items()}


def test_every_word_of_the_sources_is_known_once() -> None:
    assert set(KNOWN) >= SOURCES
    assert len(KNOWN) == len(set(KNOWN))
    assert set(WORDS.values()) <= set(CATEGORIES)


def test_a_word_selects_a_shipped_profile_unless_it_is_pending(shipped: dict[str, Profile]) -> None:
    had = {category for profile in shipped.values() for category in profile.labels.categories}
    assert had == set(CATEGORIES), "a category that no profile has selects nothing"
    for word in KNOWN:
        assert (category_of(word) is None) is (word in PENDING)
    with pytest.raises(KeyError):
        category_of("nonsense")


def test_each_shipped_profile_has_a_stage_unless_it_takes_hours(shipped: dict[str, Profile]) -> None:
    for name, profile in shipped.items():
        assert bool(profile.labels.stages) is (profile.run.duration_s < HOURS_S), name
        assert profile.labels.categories, name
    assert {stage for profile in shipped.values() for stage in profile.labels.stages} == set(STAGES)


def test_the_smoke_stage_fits_into_a_hundred_seconds(shipped: dict[str, Profile]) -> None:
    smoke = [profile.run for profile in shipped.values() if "smoke" in profile.labels.stages]
    planned_s = sum(run.warm_up_s + run.duration_s + run.drain_s for run in smoke)
    assert planned_s + 15 * len(smoke) <= 100  # to start, to connect and to judge take up to 15 s each
    assert len(smoke) >= 2


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ('stages = ["smok"]', "labels.stages[0]"),
        ('categories = ["redsi"]', "labels.categories[0]"),
        ('stages = ["smoke", "smoke"]', 'labels.stages: found "smoke" twice'),
        ('categories = "redis"', "labels.categories"),
        ('stage = ["smoke"]', "labels.stage"),
    ],
)
def test_a_label_that_nobody_knows_is_refused_with_its_place(labels: str, said: str) -> None:
    before, _, rest = TEXTS["locust-quick"].partition("[labels]")
    _, _, after = rest.partition("\n\n")
    with pytest.raises(BadInput) as refused:
        read_profile(f"{before}[labels]\n{labels}\n\n{after}", file="mine.toml")
    assert any(said in problem and "mine.toml" in problem for problem in refused.value.problems)
