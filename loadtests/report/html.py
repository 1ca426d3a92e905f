"""What broke, whose fault was it, how fast did it come back?  One self-contained page that computes nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from bokeh.models import Model
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from loadtests.model.kinds import added, part
from loadtests.model.results import Check, Interference, Results, RouteResult, Spread, Verdict, to_json
from loadtests.model.runconfig import sha256_of
from loadtests.report.charts import growth_chart, growth_limit, histogram_charts, recovery_chart
from loadtests.report.drawing import bokeh_script, document_json, package_text
from loadtests.report.formats import (
    bound,
    came,
    contents,
    in_words,
    label_of,
    limit,
    measure_of,
    number,
    plain,
    receiving,
    unbroken,
    unit_of,
    when,
    where_of,
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
