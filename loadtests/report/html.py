"""What broke, whose fault was it, how fast did it come back?  One self-contained page that computes nothing."""

from __future__ import annotations

from collections import defaultdict, deque

from bokeh.models import Model
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from loadtests.model.results import Check, FaultResult, RecoveryResult, Results, Verdict
from loadtests.report.charts import growth_chart, growth_limit, histogram_charts, recovery_chart
from loadtests.report.embed import bokeh_script, document_json, package_text
from loadtests.report.formats import anything, bound, limit, number, unit_of
from loadtests.report.timeline import panels, roots

SECTIONS = (
    ("verdict", "Verdict"),
    ("numbers", "Numbers"),
    ("faults", "Faults"),
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
Pair = tuple[FaultResult | None, RecoveryResult | None, int]


def environment() -> Environment:
    """Templates with our formats as filters; a name that Results lacks is an error, not an empty string."""
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
    return made


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
            sections=SECTIONS,
            reasons=reasons(results),
            pairs=matched,
            panels=timeline,
            has_latency=any(p.name == "latency" for p in timeline),
            recovery_charts=recoveries,
            histogram_charts=histograms,
            growth_chart=growth,
            growth_limit=growth_limit,
            processes=sorted(results.harness.cpu_percent.keys() | results.harness.rss_mb.keys()),
            unit_of=unit_of,
            bound=bound,
            none=number(None, "count"),
            none_at=Markup('<span class="none" title="not recovered within the limit, or not known">–</span>'),
            css=package_text("theme.css"),
            script=package_text("plots.js"),
            bokeh=bokeh_script(),
            plots=document_json(plots),
        )
    )


def reasons(results: Results) -> list[Reason]:
    """The verdict's reasons, each with the check that it quotes, then the open checks that no reason quotes."""
    quoted = {f"{c.name}: {c.summary}": (i, c) for i, c in reversed(list(enumerate(results.checks)))}
    found: list[Reason] = [(text, *quoted.get(text, (None, None))) for text in results.reasons]
    return found + [
        ("", i, c)
        for i, c in enumerate(results.checks)
        if c.verdict is not Verdict.PASS and f"{c.name}: {c.summary}" not in results.reasons
    ]


def pair(results: Results) -> list[Pair]:
    """Each fault with its recovery, in the faults' order; the n-th recovery of a name belongs to its n-th fault."""
    left: defaultdict[str, deque[RecoveryResult]] = defaultdict(deque)
    for back in results.recovery:
        left[back.fault].append(back)
    found: list[Pair] = []
    for fault in results.faults:
        back_or_none = left[fault.name].popleft() if left[fault.name] else None
        found.append((fault, back_or_none, len(found)))
    for alone in (back for rest in left.values() for back in rest):
        found.append((None, alone, len(found)))
    return found
