"""Does the page of a capacity session show all that the answer has, offline; and does the terminal too?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from loadtests.measure.capacity import conclude
from loadtests.measure.usl import fit
from loadtests.model.capacity import Capacity, CapacityAsked
from loadtests.report.capacity import capacity_page, summary_lines
from tests.plan.capacity_simulation import LATENCY, LOSS, Target, session

HOSTILE = '<script>alert("1")</script>'
ASKED = CapacityAsked(limits=[LATENCY, LOSS], plan=6000.0, growth=30.0, price=0.12)
PANELS = ["delivered", "latency-over-load", "resources-use", "resources-memory", "course"]


def answered(target: Target, asked: CapacityAsked = ASKED, **more: Any) -> Capacity:
    search, trials = session(target, asked)
    return conclude(trials, asked, ended=search.ended, spent_s=target.now_s, **more)


@pytest.fixture(scope="module")
def whole() -> Capacity:
    """With everything that a page may show."""
    under = answered(Target(per_s=5900, seed=5), replace(ASKED, under="redis-cut"))
    c = answered(Target(per_s=9500, seed=4, cpu_us=98.0), faulted=under, outage_s=3.0, recovery_s=5.0)
    return replace(c, usl=fit([(1, 9100), (2, 17400), (4, 31000), (6, 41000)], [0.03] * 4))


@pytest.fixture(scope="module")
def page(whole: Capacity) -> str:
    return capacity_page(whole, title="Capacity of first-run", sub=["a series"])


def words(page: str) -> str:
    """What a reader sees."""
    visible = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", visible)).replace("\u00a0", " ")


def panels(page: str) -> list[str]:
    return re.findall(r'<div class="plot" id="plot-([\w-]+)"', page)


def tags(page: str, name: str) -> list[dict[str, Any]]:
    """The models of the plots whose name begins so."""
    found: list[dict[str, Any]] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if str(node.get("attributes", {}).get("name", "")).startswith(name):
                found.append(node)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    (data,) = re.findall(r'<script id="plots" type="application/json">(.*?)</script>', page, re.DOTALL)
    walk(json.loads(data))
    return found


def test_the_sentence_stands_on_top_with_what_was_not_excluded(page: str, whole: Capacity) -> None:
    text = words(page)
    assert text.index(whole.sentence) < text.index("Not excluded: no stall in") < text.index("Numbers")


def test_every_curve_is_there(page: str) -> None:
    assert panels(page) == [*PANELS, "scaling"]
    for name in ("delivered:same", "latency-over-load:limit-p95", "delivered:at-plan", "delivered:at-knee",
                 "delivered:at-held", "delivered:at-failed", "delivered:at-under redis-cut", "scaling:band",
                 "scaling:beyond-the-points"):  # fmt: skip
        assert len(tags(page, name)) == 1, name


def test_every_trial_is_a_dot_and_a_row(page: str, whole: Capacity) -> None:
    for panel in ("delivered", "course"):
        dots = [tags(page, f"{panel}:{word}") for word in ("good", "bad")]
        assert all(len(one) == 1 for one in dots)
    (row_count,) = re.findall(r'id="trials">.*?</section>', page, re.DOTALL)
    assert row_count.count('<th class="r" scope="row">') == len(whole.trials)
    for count, word in ((sum(t.verdict == "GOOD" for t in whole.trials), "● good"),
                        (sum(t.verdict == "BAD" for t in whole.trials), "✕ bad")):  # fmt: skip
        assert f"{word} ({count})" in words(page)


def test_an_unusable_trial_has_its_own_shape() -> None:
    c = answered(Target(per_s=60_000, seed=1, generator_per_s=3000.0))
    found = capacity_page(c)
    assert "◆ unusable (2)" in words(found)
    assert "the load generator's end" in words(found).replace("&#39;", "'")
    assert "diamond" in found


def test_cost_levels_and_expectations_are_tables(page: str, whole: Capacity) -> None:
    text = words(page)
    for cost in whole.cost:
        assert cost.what in text
    assert "plan 6,000" in text
    assert "X(12) is not told" in text
    assert "What was asked" in text


def test_without_a_trial_there_is_a_page_that_says_so() -> None:
    c = conclude([], CapacityAsked(), ended="budget")
    assert panels(capacity_page(c)) == []
    assert "Unknown how much" in words(capacity_page(c))


def test_without_scaling_there_is_no_such_section(whole: Capacity) -> None:
    assert 'id="scaling-law"' not in capacity_page(replace(whole, usl=None))


def test_a_law_that_says_nothing_says_why(whole: Capacity) -> None:
    found = capacity_page(replace(whole, usl=fit([(1, 9100)])))
    assert "one point says nothing of scaling" in words(found)


def test_equal_answers_give_equal_bytes_and_ask_for_nothing(page: str, whole: Capacity) -> None:
    assert capacity_page(whole, title="Capacity of first-run", sub=["a series"]) == page
    without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', without_scripts)


def test_a_stored_answer_gives_the_same_page(page: str, whole: Capacity) -> None:
    stored = msgspec.json.decode(msgspec.json.encode(whole), type=Capacity)
    assert stored == whole
    assert capacity_page(stored, title="Capacity of first-run", sub=["a series"]) == page


def test_text_of_others_is_no_markup(whole: Capacity) -> None:
    trials = [replace(t, broke=[HOSTILE], run=HOSTILE) if t.verdict == "BAD" else t for t in whole.trials]
    c = conclude(trials, ASKED)
    found = capacity_page(replace(c, usl=whole.usl), title=HOSTILE, sub=[HOSTILE])
    assert HOSTILE not in found
    assert "<script>alert" not in found


def test_the_terminal_says_the_answer_last(whole: Capacity) -> None:
    said = summary_lines(whole)
    assert said[-1] == f"PASS {whole.sentence}"
    text = "\n".join(said)
    for word in ("knee: ", "bottleneck: ", "cost: gateway", "expected at plan 6,000", "advised: ", "scaling: X(7)",
                 "not excluded: "):  # fmt: skip
        assert word in text
    assert sum(line.startswith("  ") for line in said) == len(whole.levels)


def test_the_terminal_of_an_unknown_answer(whole: Capacity) -> None:
    c = conclude(whole.trials[:4], ASKED, ended="budget")
    assert summary_lines(c)[-1].startswith("UNKNOWN Unknown how much")


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_it_is_drawn_in_a_browser(chromium: Any, page: str, tmp_path: Path, width: int, scheme: str) -> None:
    place = tmp_path / "index.html"
    place.write_text(page, encoding="utf-8")
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    tab.on("request", lambda r: asked.append(r.url))
    tab.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda e: complaints.append(str(e)))
    tab.goto(place.as_uri())
    tab.wait_for_function("() => document.documentElement.dataset.drawn === 'true'", timeout=30_000)
    wide = tab.evaluate("() => [...document.querySelectorAll('.plot')].map(p => p.getBoundingClientRect().width)")
    assert len(wide) == len(PANELS) + 1
    assert all(across > 200 for across in wide)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    shown = "() => Tickstorm.named('delivered:at-plan').visible"
    assert tab.evaluate(shown) is True
    tab.locator("button[data-renderer='delivered:at-plan']").click()
    assert tab.evaluate(shown) is False
    cut = tab.evaluate(
        "() => [...document.querySelectorAll('.scroll td, .scroll tbody th, .numbers dd, .answer')].filter(e => "
        "e.offsetWidth && innerWidth < 640 && e.getBoundingClientRect().right > innerWidth).map(e => e.textContent)"
    )
    assert cut == []
    assert (asked, complaints) == ([place.as_uri()], [])
    context.close()
