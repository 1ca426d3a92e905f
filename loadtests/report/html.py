"""What broke, whose fault was it, how fast did it come back?  One self-contained page that computes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from bokeh.models import Model
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from loadtests.model.kinds import added, part
from loadtests.model.results import Check, FaultResult, Results, Verdict, to_json
from loadtests.model.runconfig import sha256_of
from loadtests.report.charts import growth_chart, growth_limit, histogram_charts, recovery_chart
from loadtests.report.embed import bokeh_script, document_json, package_text
from loadtests.report.formats import anything, bound, came, contents, limit, number, unit_of
from loadtests.report.text import NOT_KNOWN
from loadtests.report.timeline import pair, panels, roots

SECTIONS = (
    ("verdict", "Verdict"),
    ("numbers", "Numbers"),
    ("faults", "Faults"),
    ("effect", "Effect"),
    ("interference", "Interference"),
    ("timeline", "Timeline"),
    ("delivery", "Delivery"),
    ("recovery", "Recovery"),
    ("latency", "Latency"),
    ("growth", "Growth"),
    ("checks", "Checks"),
    ("queries", "Queries"),
    ("harness", "Harness"),
    ("configuration", "Configuration"),
    ("log", "Log"),
)

Reason = tuple[str, int | None, Check | None]


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
    made.filters["any"] = anything
    made.filters["came"] = came
    made.filters["contents"] = contents
    return made


@cache
def columns(table: str) -> list[tuple[str, Callable[[Any], str]]]:
    """Title and cell of the columns that extensions add to a table."""
    return [(column.title, part(column.by)) for column in added("columns") if column.table == table]


def render_html(results: Results) -> str:
    """`report.html` of a run: opens offline, asks for nothing; equal Results give equal bytes."""
    timeline = panels(results)
    matched = pair(results)
    recoveries = {n: c for _, back, n in matched if back is not None and (c := recovery_chart(n, back)) is not None}
    histograms = histogram_charts(results)
    growth = growth_chart(results)
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
            reasons=reasons(results),
            pairs=matched,
            effect=effect,
            panels=timeline,
            has_latency=any(p.name == "latency" for p in timeline),
            recovery_charts=recoveries,
            histogram_charts=histograms,
            growth_chart=growth,
            growth_limit=growth_limit,
            processes=sorted(results.harness.cpu_percent.keys() | results.harness.rss_mb.keys()),
            columns=columns,
            unit_of=unit_of,
            bound=bound,
            not_known=NOT_KNOWN,
            none=number(None, "count"),
            none_at=Markup('<span class="none" title="not recovered within the limit, or not known">–</span>'),
            css=package_text("theme.css"),
            script=package_text("plots.js"),
            bokeh=bokeh_script(),
            plots=document_json(plots),
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a fault did, the three figures that most have apart from the rest."""

    p50: float | None  # added delay, ms
    p99: float | None
    hit: float | None  # connections
    asked: dict[str, float | int | str]
    rest: dict[str, float | int | str | None]


_FIGURES = (
    ("added_p50_ms", "p50_ms", "added_rtt_ms"),
    ("added_p99_ms", "p99_ms"),
    ("connections_hit", "connections_closed"),
)
"""Effective keys that say the three; the first that a kind has."""


def effect(fault: FaultResult) -> Effect:
    """The effective values of a fault for its row."""
    said = [next((key for key in keys if isinstance(fault.effective.get(key), int | float)), None) for keys in _FIGURES]
    rest = {key: value for key, value in fault.effective.items() if key not in said and not key.endswith("pid")}
    asked = {key: value for key, value in fault.asked.items() if (key, value) != ("direction", "both")}

    def figure(key: str | None) -> float | None:
        value = None if key is None else fault.effective[key]
        return value if isinstance(value, int | float) else None

    p50, p99, hit = (figure(key) for key in said)
    return Effect(p50=p50, p99=p99, hit=hit, asked=asked, rest=rest)


def reasons(results: Results) -> list[Reason]:
    """The verdict's reasons, each with the check that it quotes, then the open checks that no reason quotes."""
    quoted = {f"{c.name}: {c.summary}": (i, c) for i, c in reversed(list(enumerate(results.checks)))}
    found: list[Reason] = [(text, *quoted.get(text, (None, None))) for text in results.reasons]
    return found + [
        ("", i, c)
        for i, c in enumerate(results.checks)
        if c.verdict is not Verdict.PASS and f"{c.name}: {c.summary}" not in results.reasons
    ]
