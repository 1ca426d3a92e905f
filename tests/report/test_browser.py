"""Does the report work in a browser: asks for nothing, complains of nothing, draws every plot?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser
DRAWN = "() => document.documentElement.dataset.drawn === 'true'"
SHOWN = """() => [...document.querySelectorAll('.plot')].map(plot => {
  const view = plot.firstElementChild;
  const canvas = view && view.shadowRoot && [...view.shadowRoot.querySelectorAll('*')].length;
  return [plot.id, plot.getBoundingClientRect().width, canvas || 0];
})"""


@dataclass
class Tab:
    """A page and all that it asked for or complained about."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def report(html: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tabs(chromium: Any, report: Path) -> Iterator[Callable[[int, str], Tab]]:
    """A tab for each width and scheme, opened once: a page takes seconds to draw. A test leaves its tab as it was."""
    opened: dict[tuple[int, str], Tab] = {}

    def tab(width: int, scheme: str) -> Tab:
        if (width, scheme) not in opened:
            context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page = context.new_page()
            made = opened[width, scheme] = Tab(page=page)
            page.on("request", lambda r: made.requests.append(r.url))
            page.on("console", lambda m: made.complaints.append(m.text) if m.type in ("error", "warning") else None)
            page.on("pageerror", lambda e: made.complaints.append(str(e)))
            page.goto(report.as_uri())
            page.wait_for_function(DRAWN, timeout=30_000)
        return opened[width, scheme]

    yield tab
    for made in opened.values():
        made.page.context.close()


@pytest.fixture
def tab(tabs: Callable[[int, str], Tab], report: Path, request: pytest.FixtureRequest) -> Iterator[Tab]:
    used = tabs(*getattr(request, "param", (1280, "light")))
    yield used
    assert used.complaints == []
    assert used.requests == [report.as_uri()]


def span(tab: Tab) -> list[float]:
    return tab.page.evaluate("() => { const t = Tickstorm.named('time'); return [t.start, t.end]; }")  # type: ignore[no-any-return]


@pytest.mark.parametrize("tab", [(1280, "light"), (390, "dark")], indirect=True)
def test_it_asks_for_nothing_complains_of_nothing_and_draws_every_plot(tab: Tab, report: Path) -> None:
    assert tab.requests == [report.as_uri()]
    assert tab.complaints == []
    plots = tab.page.evaluate(SHOWN)
    assert len(plots) > 12
    for name, width, inside in plots:
        assert name == "plot-latency-log" or (width > 200 and inside > 3), name
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= tab.page.viewport_size["width"]


def test_the_theme_can_be_switched_and_the_plots_follow(tab: Tab) -> None:
    colour = "() => JSON.stringify(Tickstorm.named('latency:latency_p50_ms').glyph.line_color)"
    before = tab.page.evaluate(colour)
    tab.page.focus("#theme")
    tab.page.keyboard.press("Enter")
    assert tab.page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert tab.page.evaluate(colour) != before
    tab.page.keyboard.press("Enter")
    assert tab.page.evaluate(colour) == before


def test_buttons_zoom_move_and_restore_the_common_range(tab: Tab) -> None:
    whole = span(tab)
    tab.page.click("button[data-action=in]")
    inside = span(tab)
    assert whole[0] < inside[0] < inside[1] < whole[1]
    tab.page.click("button[data-action=later]")
    assert span(tab)[0] > inside[0]
    tab.page.click("button[data-action=all]")
    assert span(tab) == whole
    tab.page.click("tr:has-text('redis-cut') button[data-action=zoom]")
    assert span(tab) == pytest.approx([25, 50.02])
    tab.page.click("button[data-action=all]")


def test_a_legend_entry_hides_its_line_and_log_latency_changes_the_panel(tab: Tab) -> None:
    key = tab.page.locator("button[data-renderer='latency:latency_p99_ms']")
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    assert tab.page.evaluate("Tickstorm.named('latency:latency_p99_ms').visible") is False
    tab.page.click("button[data-action=log]")
    assert not tab.page.is_visible("#panel-latency")
    assert tab.page.is_visible("#panel-latency-log")
    tab.page.click("button[data-action=log]")
    assert tab.page.is_visible("#panel-latency")
    key.click()
    assert tab.page.evaluate("Tickstorm.named('latency:latency_p99_ms').visible") is True


def test_the_wheel_scrolls_the_page_until_the_reader_wants_it_to_zoom(tab: Tab) -> None:
    panel = tab.page.locator("#plot-delivered")
    panel.scroll_into_view_if_needed()
    whole = span(tab)
    box = panel.bounding_box()
    tab.page.mouse.move(box["x"] + 400, box["y"] + 60)
    tab.page.mouse.wheel(0, -200)
    assert span(tab) == whole
    tab.page.click("button[data-action=wheel]")
    panel.scroll_into_view_if_needed()
    box = panel.bounding_box()
    tab.page.mouse.move(box["x"] + 400, box["y"] + 60)
    tab.page.mouse.wheel(0, -200)
    tab.page.wait_for_function(
        "([a, b]) => Tickstorm.named('time').end - Tickstorm.named('time').start < b - a", arg=whole
    )
    tab.page.click("button[data-action=wheel]")
    tab.page.click("button[data-action=all]")
    assert span(tab) == whole


def test_pointing_at_a_panel_shows_values_with_units(tab: Tab) -> None:
    panel = tab.page.locator("#plot-latency")
    panel.scroll_into_view_if_needed()
    box = panel.bounding_box()
    tab.page.mouse.move(box["x"] + 300, box["y"] + 80)
    tab.page.mouse.move(box["x"] + 310, box["y"] + 82)
    tip = tab.page.locator(".bk-Tooltip", has_text="p95")
    tip.wait_for(timeout=10_000)
    text = tip.evaluate("tip => (tip.shadowRoot ?? tip).textContent")
    assert re.search(r"p95:\s*[0-9.]+ (µs|ms)", text), text
    assert "???" not in text


def test_it_prints_in_light_whatever_the_theme(tab: Tab, tmp_path: Path) -> None:
    tab.page.click("#theme")
    pdf = tab.page.pdf(path=str(tmp_path / "report.pdf"))
    assert pdf.startswith(b"%PDF")
    assert tab.page.evaluate("document.documentElement.dataset.theme") == "dark"
    tab.page.click("#theme")
    assert tab.page.evaluate("document.documentElement.dataset.theme") == "light"
