"""Does the report work in a browser: asks for nothing, complains of nothing, draws every plot?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.planted_weeks import planted

pytestmark = pytest.mark.browser
DRAWN = "() => document.documentElement.dataset.drawn === 'true'"
UNFOLD = "() => { for (const fold of document.querySelectorAll('details')) fold.open = true; }"
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
            page.evaluate(UNFOLD)
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


def test_the_address_keeps_zoom_and_hidden_lines_and_leads_there_again(tab: Tab, report: Path) -> None:
    tab.page.click("tr:has-text('redis-cut') button[data-action=zoom]")
    key = tab.page.locator("button[data-renderer='latency:latency_p99_ms']")
    key.click()
    wanted = "#timeline&t=25.00-50.02&off=latency%3Alatency_p99_ms"
    tab.page.wait_for_function("wanted => location.hash === wanted", arg=wanted)
    again = tab.page.context.new_page()
    again.goto(report.as_uri() + wanted)
    again.wait_for_function(DRAWN, timeout=30_000)
    again.wait_for_function("Tickstorm.shown() !== null")
    assert again.evaluate("Tickstorm.shown()") == pytest.approx([25, 50.02])
    assert again.evaluate("Tickstorm.named('latency:latency_p99_ms').visible") is False
    again.evaluate("location.hash = '#check-1'")  # a check that passed: in a fold
    again.wait_for_function("document.getElementById('check-1').closest('details').open")
    assert again.locator("#check-1").is_visible()
    assert "t=25.00-50.02" in again.evaluate("location.hash") or again.wait_for_function("location.hash.includes('t=')")
    again.close()
    key.click()
    tab.page.click("button[data-action=all]")
    tab.page.wait_for_function("location.hash === '#timeline'")


def test_a_long_table_is_searched_and_sorted(tab: Tab) -> None:
    rows = tab.page.locator("#growth .scroll", has_text="Around each fault").locator("tbody tr")
    search = tab.page.get_by_label("Search: Effective configuration")
    search.fill("REDIS local")
    shown = tab.page.locator("#configuration tbody tr:visible")
    assert shown.count() == 1
    assert "target.redis" in shown.inner_text()
    search.fill("")
    assert shown.count() == 3
    assert rows.count() == 3
    head = tab.page.locator("#latency .scroll").first.locator("thead th").nth(3)
    first = tab.page.locator("#latency .scroll").first.locator("tbody th").first
    head.locator("button").click()
    assert (head.get_attribute("aria-sort"), first.inner_text()) == ("ascending", "blocked")
    head.locator("button").click()
    assert (head.get_attribute("aria-sort"), first.inner_text()) == ("descending", "latency, whole run")


@pytest.mark.parametrize("tab", [(390, "dark")], indirect=True)
def test_no_figure_of_a_table_is_cut_on_a_small_screen(tab: Tab) -> None:
    cut = tab.page.evaluate(
        "() => [...document.querySelectorAll('.scroll td, .scroll tbody th, .numbers dd, .answer')].filter(e => "
        "e.offsetWidth && (e.getBoundingClientRect().right > innerWidth || e.scrollWidth > e.clientWidth + 1))"
        ".map(e => e.textContent)"
    )
    assert cut == []


@pytest.mark.parametrize("width", [1440, 390])
def test_a_year_of_weeks_fits_its_page(chromium: Any, tmp_path: Path, width: int) -> None:
    from loadtests.measure.series import trend_of
    from loadtests.report.series import trend_page

    place = tmp_path / "trend.html"
    place.write_text(trend_page(trend_of(planted(52, lambda w: {"factor": 1.3} if w >= 40 else {}))), encoding="utf-8")
    page = chromium.new_page(viewport={"width": width, "height": 900})
    made = Tab(page=page)
    page.on("request", lambda r: made.requests.append(r.url))
    page.on("console", lambda m: made.complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: made.complaints.append(str(e)))
    page.goto(place.as_uri())
    page.wait_for_function(DRAWN, timeout=30_000)
    plots = page.evaluate(SHOWN)
    assert [name for name, *_ in plots] == [
        f"plot-{n}" for n in ("measure-0", "measure-1", "speed-cpu", "speed-loopback")
    ]
    assert all(across > 200 and inside > 3 for _, across, inside in plots)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (made.requests, made.complaints) == ([place.as_uri()], [])
    page.close()
