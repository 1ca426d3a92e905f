"""What broke, whose fault was it, how fast did it come back?  One self-contained page that computes nothing.

At the end its charts of how values were spread: recovery over the clients, latency histograms, growth against its
limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import pi
from typing import Any

from bokeh.models import ColumnDataSource, DataRange1d, FactorRange, Model, Quad, Range1d, Scatter, Segment
from bokeh.plotting import figure
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from loadtests.model.kinds import added, part
from loadtests.model.results import (
    Bars,
    Check,
    ConsumerSpread,
    Growth,
    Interference,
    RecoveryResult,
    Results,
    RouteResult,
    Spread,
    Verdict,
    to_json,
)
from loadtests.model.runconfig import sha256_of
from loadtests.report.drawing import (
    Key,
    bokeh_script,
    canvas,
    column,
    document_json,
    hover,
    lines,
    mark,
    package_text,
    put,
    tick_numbers,
)
from loadtests.report.formats import (
    bound,
    came,
    came_plain,
    contents,
    in_words,
    label_of,
    limit,
    measure_of,
    ms,
    number,
    plain,
    receiving,
    seconds,
    slope,
    unbroken,
    unit_of,
    when,
    where_of,
    words_of,
)
from loadtests.report.text import MOST, NOT_KNOWN, answer, faults_of, told
from loadtests.report.timeline import pair, panels, roots

BESIDE = {
    "published": "published per second",
    "links": "round trips through the links",
    "memory": "memory",
    "cpu": "CPU",
    "other": "deviations",
}
"""Panels of the timeline that few verdicts need."""
SECTIONS = (
    ("verdict", "Verdict"),
    ("numbers", "Numbers"),
    ("faults", "Faults"),
    ("timeline", "Timeline"),
    ("recovery", "Each fault"),
    ("interference", "Interference"),
    ("delivery", "Delivery"),
    ("latency", "Latency"),
    ("growth", "Growth"),
    ("checks", "Checks"),
    ("queries", "Queries"),
    ("harness", "Harness"),
    ("configuration", "Configuration"),
    ("log", "Log"),
)


@cache
def environment() -> Environment:
    """Templates with our formats as filters; a name that Results lacks is an error, not an empty string.

    Read and compiled once in a process.
    """
    made = Environment(
        loader=PackageLoader("loadtests.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["num"] = number
    made.filters["limit"] = limit
    made.filters["came"] = came
    made.filters["plain"] = plain
    made.filters["contents"] = contents
    for said in (when, receiving, in_words, label_of, where_of, unbroken):
        made.filters[said.__name__] = said
    return made


@cache
def columns(table: str) -> list[tuple[str, Callable[[Any], str]]]:
    """Title and cell of the columns that extensions add to a table."""
    return [(column.title, part(column.by)) for column in added("columns") if column.table == table]


def render_html(results: Results) -> str:
    """`report.html` of a run: opens offline, asks for nothing; equal Results give equal bytes."""
    timeline = panels(results)
    matched = pair(results)
    recoveries = {
        n: c for _, back, n in matched if back is not None and (c := recovery_chart(n, back, len(matched))) is not None
    }
    histograms = histogram_charts(results)
    growth = growth_chart(results)
    cpu, memory = results.harness.cpu_percent, results.harness.rss_mb
    processes = sorted(cpu.keys() | memory.keys())

    def measured(process: str) -> bool:
        return (cpu.get(process), memory.get(process)) != (None, None)

    plots: dict[str, Model] = roots(timeline)
    for chart in [*recoveries.values(), *histograms, *([growth] if growth else [])]:
        plots[f"plot-{chart.name}"] = chart.plot
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            r=results,
            shown=sha256_of(to_json(results).decode()),
            sections=SECTIONS,
            answer=answer(results),
            reasons=told(results),
            most=MOST,
            opened=opened(results),
            judging=partial(judging, results),
            faults_of=partial(faults_of, results),
            passed=[(i, c) for i, c in enumerate(results.checks) if c.verdict is Verdict.PASS],
            not_passed=[(i, c) for i, c in enumerate(results.checks) if c.verdict is not Verdict.PASS],
            says_nothing=says_nothing,
            silent=silent(results),
            by_route=[
                row
                for x in results.routes
                for row in ((x.group, x.latency_ms), (f"{x.group}, calm", x.calm_latency_ms))
            ],
            parts_of=parts_of,
            beside={p.name: BESIDE[p.name] for p in timeline if p.name in BESIDE},
            growth_gist=growth_gist(results),
            unknown=unknown,
            pairs=matched,
            panels=timeline,
            has_latency=any(p.name == "latency" for p in timeline),
            recovery_charts=recoveries,
            histogram_charts=histograms,
            growth_chart=growth,
            growth_limit=growth_limit,
            processes=[p for p in processes if measured(p)],
            unmeasured=[p for p in processes if not measured(p)],
            columns=columns,
            unit_of=unit_of,
            bound=bound,
            not_known=NOT_KNOWN,
            none=number(None, "count"),
            none_at=Markup('<span class="none" title="not recovered within the limit, or not known">–</span>'),
            css=package_text("theme.css"),
            scripts=[package_text(name) for name in ("plots.js", "reading.js")],
            bokeh=bokeh_script(),
            plots=document_json(plots),
        )
    )


SECTION_OF = (
    (
        ("lost", "late", "repeated", "missing", "reordered", "foreign", "unasked", "delivery", "deliver", "stray"),
        "delivery",
    ),
    (("undecodable", "protocol", "altered", "restamped", "received"), "delivery"),
    (("latency", "service", "slowest"), "latency"),
    (("growth", "cpu"), "growth"),
    (("query",), "queries"),
    (("own", "clean", "load"), "harness"),
)
"""How the names of checks begin -> the section that has more of what they are about."""


def opened(results: Results) -> frozenset[str]:
    """The sections that a reader of this verdict needs: those of its first reasons, and what went wrong beside them."""
    first = [reason.check.name for reason in told(results)[:MOST] if reason.check is not None]
    found = {section for begins, section in SECTION_OF if any(name.startswith(begins) for name in first)}
    if results.harness.trouble:
        found.add("harness")
    if any(i.touched and not i.on_path for i in results.interference):
        found.add("interference")
    return frozenset(found)


def judging(results: Results, *names: str) -> list[tuple[int, Check]]:
    """The checks that judge a number, with their places: those that it broke, or else all."""
    all_ = [(i, c) for i, c in enumerate(results.checks) if {c.name, measure_of(c.name)} & set(names)]
    return [(i, c) for i, c in all_ if c.verdict is Verdict.FAIL] or all_


def says_nothing(what: Interference) -> bool:
    """Whether a comparison has neither a finding nor a figure of the time in which the fault was in force."""
    return what.touched is None and not what.lost and what.during.p50 is None


def silent(results: Results) -> dict[str, list[str]]:
    """What was compared in vain -> around which faults."""
    found: dict[str, list[str]] = {}
    for it in results.interference:
        if says_nothing(it):
            found.setdefault(f"{it.what} {it.name}", []).append(it.fault)
    return found


def parts_of(spreads: dict[str, dict[str, Spread]]) -> list[tuple[str, Spread]]:
    """Rows of a table of two steps: what was asked, and which part of it."""
    return [(f"{name}, {part}", spread) for name, parts in spreads.items() for part, spread in parts.items()]


def growth_gist(results: Results) -> str:
    """What the section on growth says, in a line."""
    if not results.growth:
        return "no memory of the target was sampled"
    asked = [g for g in results.growth if growth_limit(results, g) is not None]
    if not asked:
        return "no limit of the slope was asked for"
    return ", ".join(f"{g.process} {g.verdict}" for g in asked)


def unknown(route: RouteResult) -> bool:
    """Whether nothing is known of a route group."""
    return route.owed is None and route.unique is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One plot with its caption and legend."""

    name: str
    caption: str
    seen: str  # in words
    plot: figure
    keys: list[Key]


MOST_STEPS = 8_000
"""Of all recoveries together: a page of 200 faults stays below five megabytes."""


def recovery_chart(number: int, recovery: RecoveryResult, of: int = 1) -> Chart | None:
    """Share of the clients that were back by a time after healing; None where no client's times are known.

    `of` is how many such charts the page has: the more, the fewer steps each shows, the last always.
    """
    every = max(1, 200 * of // MOST_STEPS)
    known = {k: v for k, v in recovery.consumers.distribution.items() if v}
    if not known:
        return None
    name = f"recovery-{number}"
    plot = canvas(
        height=200,
        x="seconds after healed",
        x_range=DataRange1d(start=0),
        y_range=Range1d(start=0, end=1.05),
        name=name,
    )
    mark(plot, recovery.limit_s, "limit")
    keys: list[Key] = []
    for place, (what, values) in enumerate(known.items()):
        spread: ConsumerSpread = getattr(recovery.consumers, what)
        clients = spread.clients or len(values) + (spread.not_recovered or 0)
        share = (spread.back or len(values)) / clients  # clients that did not come back are missing at the top
        steps = [share * (i + 1) / len(values) for i in range(len(values))]
        end = max(recovery.limit_s, values[-1])
        shown = slice((len(values) - 1) % every, None, every)
        source = ColumnDataSource(
            {"t": column([values[0], *values[shown], end]), what: column([0.0, *steps[shown], share])}
        )
        keys += lines(plot, source, name, [(what, what.replace("_", " "))], stepped=True, first=place)
    caption = f"Share of all clients that were back; dashed: not back beyond {seconds(recovery.limit_s)}"
    seen = "; ".join(_came(what, getattr(recovery.consumers, what)) for what in known) + "."
    return Chart(name=name, caption=caption, seen=seen, plot=plot, keys=keys)


def _came(what: str, spread: ConsumerSpread) -> str:
    back = f"{plain(spread.back, 'count')} of {plain(spread.clients, 'count')} clients came"
    half, last = came_plain(spread, "p50"), came_plain(spread, "max")
    return f"{what.replace('_', ' ')}: {back}, half of all by {half}, the last by {last}"


def histogram_charts(results: Results) -> list[Chart]:
    """Latency calm against all in one plot, every other histogram in its own."""
    bars = {k: v for k, v in results.histograms.items() if v.count}
    latency = {k: v for k, v in bars.items() if "latency" in k}
    groups: list[tuple[str, dict[str, Bars]]] = (
        [("Latency, count per bar: calm phases against the whole run", latency)] if latency else []
    )
    groups += [(f"{name_of(k).capitalize()}, count per bar", {k: v}) for k, v in bars.items() if k not in latency]
    return [_histogram(i, caption, group) for i, (caption, group) in enumerate(groups)]


def name_of(histogram: str) -> str:
    """What a reader calls it."""
    return histogram.removesuffix("_ms").replace("_", " ")


def _histogram(number: int, caption: str, group: dict[str, Bars]) -> Chart:
    name = f"histogram-{number}"
    plot = canvas(height=210, x="milliseconds", x_axis_type="log", y_range=DataRange1d(start=0), name=name)
    tick_numbers(plot.xaxis[0])
    tick_numbers(plot.yaxis[0])
    keys = []
    for place, (what, bars) in enumerate(group.items()):
        source = ColumnDataSource(
            {"low": column(_lows(bars.upper_ms)), "t": column(bars.upper_ms), "count": column(bars.count)}
        )
        tags = [f"fill:{place + 1}", f"stroke:{place + 1}"]
        glyph = Quad(left="low", right="t", bottom=0, top="count", line_width=1, fill_alpha=0.45, tags=tags)
        put(plot, source, glyph, name=f"{name}:{what}")
        keys.append(Key(renderer=f"{name}:{what}", label=name_of(what), colour=str(place + 1), dash="solid"))
        if place == 0:
            hover(plot, source, [("up to", "t", "ms"), (keys[0].label, "count", "count")])
    seen = "; ".join(_peak(what, bars) for what, bars in group.items()) + "."
    return Chart(name=name, caption=caption, seen=seen, plot=plot, keys=keys)


def _peak(what: str, bars: Bars) -> str:
    there = [i for i, n in enumerate(bars.count) if n]
    if not there:
        return f"{name_of(what)}: no sample"
    low, most, high = there[0], max(there, key=bars.count.__getitem__), there[-1]
    up_to = [ms(bars.upper_ms[i]) for i in (most, low, high)]
    return f"{name_of(what)}: highest bar up to {up_to[0]}, the first up to {up_to[1]}, the last up to {up_to[2]}"


def _lows(upper: Sequence[float]) -> list[float]:
    """Where each bar begins: at the end of the one before; the first as wide, on the log axis, as the second."""
    if len(upper) < 2:
        return [u / 2 for u in upper]
    return [upper[0] * upper[0] / upper[1], *upper[:-1]]


def growth_limit(results: Results, growth: Growth) -> float | None:
    """The limit in MB/h that a check held this process to, None where none did."""
    checks = [c for c in results.checks if measure_of(c.name) == "growth_mb_per_h" and c.limit is not None]
    processes = {g.process for g in results.growth}
    own = [c for c in checks if growth.process in words_of(c.name)]
    general = [c for c in checks if not processes & set(words_of(c.name))]
    return next((c.limit for c in own + general), None)


def growth_chart(results: Results) -> Chart | None:
    """Slope of each process with its 95 % interval, against the limit."""
    known = [g for g in results.growth if None not in (g.slope_mb_per_h, g.low, g.high)]
    if not known:
        return None
    rows = [f"{g.process} {g.metric}" for g in known]
    plot = canvas(
        height=64 + 30 * len(rows), x="MB per hour", y_range=FactorRange(factors=list(reversed(rows))), name="growth"
    )
    plot.min_border_left = 130
    source = ColumnDataSource(
        {
            "row": rows,
            "low": column(g.low for g in known),
            "high": column(g.high for g in known),
            "t": column(g.slope_mb_per_h for g in known),
        }
    )
    put(
        plot,
        source,
        Segment(x0="low", y0="row", x1="high", y1="row", line_width=2, tags=["stroke:1"]),
        name="growth:interval",
    )
    for end in ("low", "high"):
        bar = Scatter(x=end, y="row", marker="dash", angle=pi / 2, size=12, line_width=2, tags=["stroke:1"])
        put(plot, source, bar, name=f"growth:{end}")
    put(plot, source, Scatter(x="t", y="row", size=9, tags=["fill:1", "stroke:1"]), name="growth:slope")
    mark(plot, 0, "ink", dash="solid")
    for at in sorted({x for g in known if (x := growth_limit(results, g)) is not None}):
        mark(plot, at, "limit")
    slopes = [
        f"{row} {slope(g.slope_mb_per_h)}" for row, g in zip(rows, known, strict=True) if g.slope_mb_per_h is not None
    ]
    caption = "Slope with its 95 % interval; dashed upright line: limit"
    return Chart(name="growth", caption=caption, seen="; ".join(slopes) + ".", plot=plot, keys=[])
