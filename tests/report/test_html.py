"""Does the page show what `results.json` says, nothing else, and the same bytes each time?"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sample

from loadtests.model.results import Results, Verdict, to_json
from loadtests.report.html import SECTIONS, pair, recovery_chart, render_html
from loadtests.report.text import MOST, answer, summary_lines, told

HERE = Path(__file__).parent
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements in order, with their attributes and texts; complains about a wrong nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.numbers: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "data":
            self.numbers.append((dict(attrs)["value"] or "", ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.open)

    def handle_data(self, data: str) -> None:
        if "data" in self.open:
            value, text = self.numbers.pop()
            self.numbers.append((value, text + data))
        if not {"script", "style"} & set(self.open):
            self.text.append(data)


def numbers_in(value: Any) -> set[float]:
    match value:
        case bool():
            return set()
        case int() | float():
            return {float(value)}
        case dict():
            return set().union(*(numbers_in(v) for v in value.values())) if value else set()
        case list():
            return set().union(*(numbers_in(v) for v in value)) if value else set()
    return set()


@pytest.fixture(scope="module")
def bare() -> str:
    """The page of a run of which nothing is known."""
    return render_html(sample.nothing_known())


def without_plots(results: Results) -> Results:
    """The same run with nothing to draw: drawing is most of what a page costs."""
    timeline = msgspec.structs.replace(results.timeline, series={})
    return msgspec.structs.replace(results, timeline=timeline, phases=[], histograms={}, growth=[], recovery=[])


@pytest.mark.parametrize(("make", "page"), [(sample.sample, "html"), (sample.nothing_known, "bare")])
def test_every_number_shown_is_in_the_results_and_reads_like_it(
    make: Any, page: str, request: pytest.FixtureRequest
) -> None:
    results = make()
    known = numbers_in(json.loads(to_json(results)))
    shown = Page(request.getfixturevalue(page)).numbers
    assert shown
    for value, text in shown:
        assert float(value) in known, (value, text)
        digits = re.sub(r"[^0-9]", "", text).strip("0")
        first = re.sub(r"[^0-9]", "", f"{abs(float(value)):.12g}").strip("0")
        assert digits[:1] == first[:1] or "min" in text or abs(float(digits[:1] or 0) - float(first[:1] or 0)) in (1, 8)


def test_every_check_fault_route_and_note_is_on_the_page(html: str) -> None:
    results = sample.sample()
    text = "".join(Page(html).text)
    for wanted in (
        [c.name for c in results.checks]
        + [c.summary for c in results.checks]
        + [line for c in results.checks for line in c.evidence]
        + [f.name for f in results.faults]
        + [line for r in results.recovery for line in r.consumers.slowest]
        + [r.group for r in results.routes]
        + [f"{i.what} {i.name}" for i in results.interference]
        + [i.summary for i in results.interference if i.touched]
        + [e.key for e in results.effective]
        + results.reasons
        + results.log
        + results.harness.trouble
        + list(results.run.versions.values())
    ):
        assert wanted in text


def test_slow_readers_who_are_expected_to_be_have_a_line_of_their_own_and_a_row_of_the_route_table(
    html: str, bare: str
) -> None:
    first, table = (
        "".join(Page(html.split(f'id="{name}"')[1].split("</section>")[0]).text) for name in ("numbers", "delivery")
    )
    aside = first.split("Expected to be slow")[1]
    assert "15,901 lost, 77 late, 2 repeated and 0 reordered are by slow readers" in aside
    assert "browsers" in aside
    assert "without slow readers latency p99" in aside
    assert "of these, slow readers" in table
    assert "slow readers" not in "".join(Page(bare.split('id="numbers"')[1].split("</section>")[0]).text)


def test_sections_stand_in_the_order_of_a_morning_after(html: str) -> None:
    ids = [a["id"] for tag, a in Page(html).elements if tag == "section"]
    assert ids == [name for name, _ in SECTIONS]
    assert all(f"#{name}" in html for name in ids)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_verdict_is_a_word_and_not_only_a_colour(verdict: Verdict) -> None:
    banner = (
        render_html(without_plots(sample.sample(verdict))).split('id="verdict"')[1].split("</span></span>")[0][:400]
    )
    assert verdict.value in banner


def test_what_is_unknown_is_a_dash_with_the_reason_and_never_zero(bare: str) -> None:
    delivered = bare.split("<dt>delivered</dt>")[1].split("</div>")[0]
    assert 'title="the data cannot carry this number">–</span>' in delivered
    assert 'class="n"' not in delivered


def row_of(page: str, fault: str) -> str:
    """A fault's row on the first screen, as text."""
    cell = page.split('id="faults"')[1].split(f">{fault}</a>")[1].split("</tr>")[0]
    return " ".join(re.sub(r"<[^>]+>", " ", cell).split())


def test_who_did_not_come_back_is_beyond_the_limit_and_never_left_out(html: str) -> None:
    """160 of 200 never came: no percentile of those who did may stand for all."""
    results = sample.sample()
    back = results.recovery[1]
    row = row_of(html, "slow-clients")
    assert row.count("&gt; 10 s") == 3
    assert "160 of 200" in row
    line = next(x.text for x in summary_lines(results) if x.text[11:].startswith("slow-clients"))
    assert "p50 > 10 s, p95 > 10 s, max > 10 s, not back 160 of 200" in line
    chart = recovery_chart(1, back)
    assert chart is not None
    drawn = chart.plot.renderers[0].data_source.data  # type: ignore[attr-defined]
    assert drawn["first_fresh"][-1] == pytest.approx(0.2)
    assert drawn["t"][-1] == back.limit_s
    whole = recovery_chart(0, results.recovery[0])
    assert whole is not None
    assert whole.plot.renderers[0].data_source.data["first_fresh"][-1] == 1  # type: ignore[attr-defined]


def test_of_many_recoveries_each_shows_fewer_steps_and_ends_where_it_ended() -> None:
    back = sample.sample().recovery[0]
    values = [n / 100 for n in range(1, 201)]
    consumers = msgspec.structs.replace(back.consumers, distribution={"first_fresh": values})
    many = msgspec.structs.replace(back, consumers=consumers)
    drawn = []
    for of in (1, 200):
        chart = recovery_chart(0, many, of)
        assert chart is not None
        drawn.append(chart.plot.renderers[0].data_source.data)  # type: ignore[attr-defined]
    assert [len(data["t"]) for data in drawn] == [202, 42]
    assert drawn[0]["t"][-2] == drawn[1]["t"][-2] == values[-1]
    assert drawn[0]["first_fresh"][-1] == drawn[1]["first_fresh"][-1]


def test_a_fault_shows_the_limits_that_judge_it_and_the_worst_of_all_verdicts(html: str) -> None:
    results = sample.sample()
    assert results.recovery[0].verdict is Verdict.PASS
    row = row_of(html, "redis-cut")
    assert row.index("FAIL") < row.index("recovery_s")
    assert "✖ FAIL recovery_s ≤ 1.5 s" in row
    assert "✔ PASS clients_not_back ≤ 0 default" in row
    assert "not recovered beyond 10 s" in row
    line = next(x for x in summary_lines(results) if x.text[11:].startswith("redis-cut"))
    assert line.text.startswith("  FAIL")
    assert line.style == "fail"
    assert "recovery_s ≤ 1.5 s FAIL, clients_not_back ≤ 0 PASS, not recovered beyond 10 s" in line.text
    heading = html.split('id="recovery-0"')[1].split("</summary>")[0]
    assert "FAIL" in heading


def test_the_first_screen_shows_both_sums_and_both_rates(html: str, bare: str) -> None:
    delivery = sample.sample().delivery
    assert delivery.away is not None
    account = html.split('class="account"')[1].split("</section>")[0]
    sums = [
        [int(n) for n in re.findall(r'value="(\d+)"', part.split("</dl>")[0])] for part in account.split('"sum"')[1:]
    ]
    assert [part[0] for part in sums] == [delivery.offered, delivery.owed]
    assert [sum(part[1:]) for part in sums] == [delivery.offered, delivery.owed]
    for rate in (delivery.rate, delivery.delivered_of_owed):
        assert f'value="{rate!r}"' in account
    nothing = bare.split('class="account"')[1].split("</section>")[0]
    assert nothing.count('class="none"') == 12
    assert "<data" not in nothing


def test_texts_of_a_target_cannot_become_markup(html: str) -> None:
    assert "&lt;/script&gt;&lt;b&gt;x&lt;/b&gt;" in html
    assert "<b>x</b>" not in html
    assert html.count("</script>") == 4


def test_the_page_names_no_other_resource(html: str) -> None:
    for tag, attributes in Page(html).elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            target = attributes.get(name)
            beside = target in ("results.json", "junit.xml", "locust.log")
            assert target is None or target.startswith("#") or target == "data:," or beside, (tag, target)
    outside = re.sub(r"<script>.*?</script>", "", html, flags=re.S)
    assert not re.search(r"""https?://|["'(]//""", outside)
    assert "@import" not in html.split("</style>")[0]
    assert "url(" not in html.split("</style>")[0]
    assert "default-src 'none'" in html


def test_the_page_stays_small_even_for_a_long_run(html: str, long_run: str) -> None:
    assert len(html.encode()) < 2_000_000
    assert len(html.encode()) < len(long_run.encode()) < 3_000_000


@pytest.mark.prove_all
def test_equal_results_give_equal_bytes_also_in_another_process(html: str) -> None:
    """Ours is not the first page of its process, the other one is: Bokeh has counted on in between."""
    script = (
        "import hashlib, sample; from loadtests.report.html import render_html;"
        "print(hashlib.sha256(render_html(sample.sample()).encode()).hexdigest())"
    )
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    other = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": f"{HERE}:{HERE.parents[1]}", "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert other.stdout.strip() == hashlib.sha256(html.encode()).hexdigest()


def test_other_results_give_other_bytes() -> None:
    results = without_plots(sample.sample())
    assert render_html(msgspec.structs.replace(results, reasons=["something else"])) != render_html(results)


def test_the_answer_comes_first_then_the_verdict_then_three_reasons(html: str) -> None:
    results = sample.sample()
    banner = html.split('id="verdict"')[1].split("</section>")[0]
    said = "".join(Page(f"<div>{banner.split('>', 1)[1]}</div>").text).replace("\xa0", " ")
    assert said.index(answer(results)) < said.index("FAIL") < said.index("evidence")
    shown, more = banner.split("<details>")
    assert shown.count("<li>") == MOST
    assert more.count("<li>") == len(told(results)) - MOST
    assert 'href="#check-0">evidence' in shown


def test_tiles_and_rows_that_broke_a_limit_are_marked(html: str) -> None:
    tile = html.split("<dt>lost</dt>")[0].rsplit("<div", 1)[1]
    assert 'class="bad"' in tile
    assert 'class="judged fail" href="#check-0"' in html.split("<dt>lost</dt>")[1].split("</div>")[0]
    assert 'class="bad"' not in html.split("<dt>late</dt>")[0].rsplit("<div", 1)[1]
    faults = html.split('id="faults"')[1].split("</section>")[0]
    assert faults.count('<tr class="broke">') == 2
    assert html.count('<tr id="check-0" class="broke">') == 1


def test_a_dump_of_keys_and_machine_words_are_nowhere(html: str) -> None:
    text = "".join(Page(html).text)
    assert not re.search(r"clean = 1|probe = answer|\w = \d", text.split("Log")[0])
    assert "2026-01-05T09" not in text
    assert "5 January 2026, 09:30:12 UTC" in text
    told_of = render_html(receiving("hub-epoll, greenlet"))
    assert "by one wait of the kernel" in told_of
    assert "a green thread for each connection" in told_of


def receiving(how: str) -> Results:
    results = without_plots(sample.sample())
    return msgspec.structs.replace(results, harness=msgspec.structs.replace(results.harness, receive=how))


def test_where_no_slope_was_asked_there_is_no_verdict_on_growth() -> None:
    results = sample.sample()
    nothing = msgspec.structs.replace(without_plots(results), growth=results.growth[:3], checks=[])
    section = render_html(nothing).split('id="growth"')[1].split("</section>")[0]
    assert 'class="verdict' not in section
    assert section.count("not asked") == 3


def test_what_says_nothing_is_a_sentence_and_no_row_of_dashes(html: str) -> None:
    section = html.split('id="interference"')[1].split("</section>")[0]
    assert "in 1 of 3: query symbols (redis-cut)" in section
    for row in re.findall(r"<tr[ >].*?</tr>", re.sub(r"<thead>.*?</thead>", "", html, flags=re.S), flags=re.S):
        cells = re.findall(r"<td.*?</td>", row, flags=re.S)
        assert not cells or not all('class="none"' in c and "<data" not in c for c in cells), row


def test_each_figure_says_in_words_what_is_seen(html: str) -> None:
    figures = re.findall(r"<figure.*?</figure>", html, flags=re.S)
    assert len(figures) == html.count('class="plot"')
    for figure in figures:
        name = figure.split('id="plot-')[1].split('"')[0]
        assert f'<figcaption id="seen-{name}">' in figure
        assert f'aria-labelledby="seen-{name}"' in figure
        assert len(figure.split("<small>")[1].split("</small>")[0]) > 8
    seen = html.split('id="seen-delivered"')[1].split("</figcaption>")[0]
    assert "nothing from 30.0 s to 35.0 s (redis-cut)" in seen
    lanes = html.split('id="seen-lanes"')[1].split("</figcaption>")[0]
    assert "slow-clients (latency on client-gateway) from 60.0 s to 70.0 s" in lanes


def test_what_this_verdict_does_not_need_is_folded_and_what_it_needs_is_open(html: str) -> None:
    def is_open(name: str) -> bool:
        return html.split(f'<section class="card" id="{name}"')[1].split("<summary>")[0].endswith("<details open>")

    assert [is_open(n) for n in ("delivery", "checks", "harness", "configuration", "log", "queries")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_each_reason_stands_once_with_the_check_that_it_quotes(html: str) -> None:
    results = sample.sample()
    banner = html.split('id="verdict"')[1].split("</section>")[0]
    assert banner.count("with every link free of faults") == 1
    assert banner.count("two workers were lost at 90 s") == 1
    for index, check in enumerate(results.checks):
        assert (f'href="#check-{index}"' in banner) == (check.verdict is not Verdict.PASS)


def test_the_nth_recovery_of_a_name_belongs_to_its_nth_fault() -> None:
    results = sample.sample()
    cut, back = results.faults[0], results.recovery[0]
    again = msgspec.structs.replace(cut, injected_s=50.0)
    later = msgspec.structs.replace(back, recovery_s=4.5)
    alone = msgspec.structs.replace(back, fault="of no fault")
    repeated: Results = msgspec.structs.replace(
        without_plots(results), faults=[cut, again], recovery=[back, later, alone]
    )
    assert pair(repeated) == [(cut, back, 0), (again, later, 1), (None, alone, 2)]
    assert "of no fault" in render_html(repeated)
