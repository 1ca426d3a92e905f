"""What does a series look like on a terminal, to a CI server, in a job's summary and on a page? Series in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from xml.etree import ElementTree

from bokeh.models import ColumnDataSource, CustomJSHover, DataRange1d, HoverTool, Line, Model, Range1d, Scatter, VArea
from bokeh.plotting import figure

from loadtests.model.results import Results, Verdict
from loadtests.model.series import MeasureResult, SeriesResult, Trend, TrendMeasure
from loadtests.report.drawing import (
    Key,
    bokeh_script,
    canvas,
    column,
    document_json,
    lines,
    mark,
    package_text,
    put,
    tick_numbers,
)
from loadtests.report.formats import markdown_cell, plain
from loadtests.report.html import environment
from loadtests.report.junit import add_case, condition, document, suite_element
from loadtests.report.text import Style, TextLine
from loadtests.report.timeline import DrawnPanel

_STYLE: Mapping[Verdict, Style] = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail",
    Verdict.UNKNOWN: "unknown",
    Verdict.ABORTED: "aborted",
}
_ROLE = {Verdict.PASS: "3", Verdict.FAIL: "limit", Verdict.UNKNOWN: "muted", Verdict.ABORTED: "4"}


def figure_text(value: float | None, unit: str) -> str:
    """A value as everywhere."""
    return plain(value, unit)


def answer(series: SeriesResult) -> str:
    """The whole series in a sentence."""
    runs = f"{len(series.runs)} run{'s' if len(series.runs) != 1 else ''}"
    return f"{series.series.profile}: {runs}; {series.reasons[0] if series.reasons else 'no reason'}"


def ratio_text(measure: MeasureResult) -> str:
    """`+12 % (−3 to +29)`, against the rolling reference."""
    if measure.rolling is None:
        return "–"
    r = measure.rolling
    return f"{r.ratio - 1:+.0%} ({r.low - 1:+.0%} to {r.high - 1:+.0%})"


def series_lines(series: SeriesResult, folder: str) -> list[TextLine]:
    """For the terminal; the last line is the answer."""
    found = [TextLine(text=f"{series.verdict.value} {series.series.id}", style=_STYLE[series.verdict])]
    for measure in series.measures:
        found.append(
            TextLine(
                text=f"  {measure.verdict.value:8} {measure.name} {figure_text(measure.value, measure.unit)}: "
                f"{measure.sentence}",
                style=_STYLE[measure.verdict],
            )
        )
    found += [TextLine(text=f"  drift: {text}") for text in drift_lines(series)]
    found += [TextLine(text=f"  store: {text}", style="unknown") for text in series.told]
    if series.family_false_a_year is not None:
        most = f"{series.family_false_a_year:.1f} false FAILs a year"
        found.append(TextLine(text=f"  without a change at most {most}, before any confirmation", style="dim"))
    found += [TextLine(text=f"  {reason}") for reason in series.reasons[:6]]
    if folder:
        found.append(TextLine(text=f"files: {folder}"))
    found.append(TextLine(text=f"{series.verdict.value} {answer(series)}", style=_STYLE[series.verdict]))
    return found


def drift_lines(series: SeriesResult) -> list[str]:
    """Changes of level, each as a sentence."""
    return [
        f"{d.measure} {d.ratio - 1:+.0%} since {d.label} (p {d.p:.3f})"
        + (f"; explained by {d.explained_by}" if d.explained_by else "")
        for d in series.drift
    ]


def markdown(series: SeriesResult, trend: str = "") -> str:
    """For the page of a job, or a pull request."""
    info = series.series
    mark_of = {Verdict.PASS: "✅", Verdict.FAIL: "❌", Verdict.UNKNOWN: "⚠️", Verdict.ABORTED: "⏹️"}
    rows = [
        f"## {mark_of[series.verdict]} {series.verdict.value}: {markdown_cell(info.profile)}",
        "",
        markdown_cell(answer(series)),
        "",
    ]
    if series.measures:
        rows += [
            "| measure | verdict | this week | against the weeks before | what was found |",
            "|---|---|---|---|---|",
        ]
        rows += [
            f"| {markdown_cell(m.name)} | {mark_of[m.verdict]} {m.verdict.value} | {figure_text(m.value, m.unit)} "
            f"| {ratio_text(m)} | {markdown_cell(m.sentence)} |"
            for m in series.measures
        ]
        rows.append("")
    rows += [f"- {markdown_cell(reason)}" for reason in series.reasons]
    rows += [f"- drift: {markdown_cell(text)}" for text in drift_lines(series)]
    rows += [f"- store: {markdown_cell(text)}" for text in series.told]
    rows += [
        "",
        f"{len(series.runs)} runs, target {markdown_cell(info.target_version) or 'without a version'}, `{info.id}`",
    ]
    return "\n".join([*rows, ""])


def series_junit(series: SeriesResult) -> str:
    """One testcase per measure, one per run, and one of the whole; UNKNOWN is an error, never a pass."""
    judged = series.compared or series.verdict is not Verdict.PASS  # a first week may be in order uncompared
    cases = [(f"gate.{m.name}", m.verdict, m.sentence) for m in series.measures if judged]
    cases += [
        (f"run.{index + 1}", run.verdict, "; ".join([*run.checks, *run.why_not]) or run.run)
        for index, run in enumerate(series.runs)
    ]
    cases.append(("verdict", series.verdict, "; ".join(series.reasons)))
    top = ElementTree.Element("testsuites", {"name": "tickstorm"})
    info = series.series
    properties = {"series": info.id, "lineage": info.lineage, "target_version": info.target_version}
    suite = suite_element(top, 0, f"weekly {info.profile}", info.started_at, properties)
    for name, verdict, text in cases:
        add_case(suite, f"weekly.{info.profile}", condition(name, verdict, text))
    ElementTree.SubElement(suite, "system-out").text = "\n".join(drift_lines(series))
    ElementTree.SubElement(suite, "system-err").text = "\n".join(series.told)
    return document(top)


# -- pages


def series_page(series: SeriesResult, trend: str = "") -> str:
    """`index.html` of a series."""
    return _page(
        title=f"{series.series.profile}: one week",
        sub=[series.series.id, f"started {series.series.started_at}", f"target {series.series.target_version or '–'}"],
        verdict=series.verdict,
        answer=answer(series),
        reasons=[*series.reasons, *(f"drift: {text}" for text in drift_lines(series)), *series.told],
        series=series,
        links=[("series.json", "series.json"), ("junit.xml", "junit.xml"), *([(trend, "all weeks")] if trend else [])],
    )


def trend_page(trend: Trend) -> str:
    """`trend-<profile>.html`: every gated measure over all weeks, from rows alone."""
    drawn = [_measure_panel(trend, index, measure) for index, measure in enumerate(trend.measures)]
    drawn += _speed_panels(trend)
    last = trend.last
    return _page(
        title=f"{trend.profile}: {len(trend.weeks)} weeks",
        sub=[f"{trend.weeks[0].label} to {trend.weeks[-1].label}" if trend.weeks else "no week"],
        verdict=last.verdict if last else Verdict.UNKNOWN,
        answer=answer(last) if last else "The store holds no week.",
        reasons=[*(f"drift: {text}" for text in (drift_lines(last) if last else [])),
                 *(f"{trend.weeks[at].label}: {text}" for at, text in trend.breaks.items())],
        series=last,
        panels=drawn,
        weeks=trend,
    )  # fmt: skip


def compare_page(series: SeriesResult, runs: Sequence[tuple[str, Results]]) -> str:
    """Two runs or series: their figures, and their timelines over each other."""
    return _page(
        title=f"{series.series.profile}: {' and '.join(label for label, _ in runs) or 'compared'}",
        sub=["two sides, the second against the first"],
        verdict=series.verdict,
        answer=answer(series),
        reasons=series.reasons,
        series=series,
        panels=_overlaid(runs),
    )


def _page(**shown: object) -> str:
    panels: Sequence[DrawnPanel] = shown.pop("panels", [])  # type: ignore[assignment]
    plots: dict[str, Model] = {f"plot-{panel.name}": panel.plot for panel in panels}
    filled = {"series": None, "weeks": None, "links": [], "panels": panels, **shown}
    return (
        environment()
        .get_template("series.html.j2")
        .render(
            **filled,
            figure_text=figure_text,
            css=package_text("theme.css"),
            scripts=[package_text(name) for name in ("plots.js", "reading.js")],
            bokeh=bokeh_script() if plots else "",
            plots=document_json(plots) if plots else "",
        )
    )


_HOVER = 'return Number.isFinite(value) ? Tickstorm.show(value, format) : "–"'


def _measure_panel(trend: Trend, number: int, measure: TrendMeasure) -> DrawnPanel:
    """Weeks on x: a dot per run, a line for the weeks' medians, the reference with what would not be seen above it."""
    name = f"measure-{number}"
    many = len(trend.weeks)
    plot = canvas(height=230, x="", x_range=Range1d(start=-0.7, end=many - 0.3), y_range=DataRange1d(), name=name)
    tick_numbers(plot.yaxis[0])
    _week_axis(plot, trend)
    pairs = zip(measure.reference, measure.seen_from, strict=True)
    band = [(index, was, seen) for index, (was, seen) in enumerate(pairs) if was and seen]
    for at, part in enumerate(_stretches(band, trend)):
        source = ColumnDataSource(
            {
                "t": column(float(index) for index, _, _ in part),
                "low": column(was for _, was, _ in part),
                "high": column(seen for _, _, seen in part),
            }
        )
        unseen = VArea(x="t", y1="low", y2="high", tags=["fill:recovery"])
        put(plot, source, unseen, name=f"{name}:band-{at}", level="underlay")
        was = Line(x="t", y="low", line_width=1.5, line_dash="dashed", tags=["stroke:muted"])
        put(plot, source, was, name=f"{name}:reference-{at}")
    if measure.anchor is not None:
        mark(plot, measure.anchor, "2", dimension="width", dash="dotted")
    for index in trend.breaks:
        mark(plot, index - 0.5, "note")
    for change in trend.drift:
        if change.measure == measure.name:
            at = next(i for i, week in enumerate(trend.weeks) if week.series == change.at)
            mark(plot, at - 0.5, "5", dash="solid")
    dots = [(float(index), value) for index, runs in enumerate(measure.runs) for value in runs]
    put(
        plot,
        ColumnDataSource({"t": column(at for at, _ in dots), "v": column(value for _, value in dots)}),
        Scatter(x="t", y="v", size=4, fill_alpha=0.5, line_color=None, tags=["fill:1"]),
        name=f"{name}:runs",
    )
    said = list(zip(measure.value, measure.verdict, strict=True))
    left_out = {index for index, week in enumerate(trend.weeks) if week.excluded}
    grey = [(float(index), value) for index, (value, _) in enumerate(said) if index in left_out and value is not None]
    put(
        plot,
        ColumnDataSource({"t": column(at for at, _ in grey), "v": column(value for _, value in grey)}),
        Scatter(x="t", y="v", size=10, line_color=None, fill_alpha=0.6, tags=["fill:muted"]),
        name=f"{name}:excluded",
    )
    known = [
        (index, value, one) for index, (value, one) in enumerate(said) if value is not None and index not in left_out
    ]
    for verdict, role in _ROLE.items():
        of_it = [(index, value) for index, value, one in known if one is verdict]
        if not of_it:
            continue
        hollow = verdict is Verdict.UNKNOWN
        source = ColumnDataSource(
            {
                "t": column(float(i) for i, _ in of_it),
                "v": column(v for _, v in of_it),
                "week": [trend.weeks[i].label for i, _ in of_it],
                "said": [f"{verdict.value}: {measure.sentence[i]}" for i, _ in of_it],
            }
        )
        glyph = Scatter(
            x="t",
            y="v",
            size=10,
            fill_alpha=0.0 if hollow else 1.0,
            line_width=2,
            tags=[f"stroke:{role}", f"fill:{role}"],
        )
        renderer = put(plot, source, glyph, name=f"{name}:{verdict.value}")
        plot.add_tools(
            HoverTool(
                renderers=[renderer],
                tooltips=[("week", "@week"), (measure.name, f"@v{{{measure.unit}}}"), ("", "@said")],
                formatters={"@v": CustomJSHover(code=_HOVER)},
            )
        )
    figures = [value for value in measure.value if value is not None]
    seen = f"{len(figures)} weeks, last {figure_text(figures[-1] if figures else None, measure.unit)}"
    fails = [trend.weeks[i].label for i, verdict in enumerate(measure.verdict) if verdict is Verdict.FAIL]
    seen += f"; FAIL in {', '.join(fails[:6])}" if fails else "; no FAIL"
    return DrawnPanel(name=name, title=f"{measure.name}, {measure.unit}", plot=plot, seen=seen)


def _stretches(band: Sequence[tuple[int, float, float]], trend: Trend) -> Iterator[list[tuple[int, float, float]]]:
    """Neighbouring weeks without a break between them."""
    part: list[tuple[int, float, float]] = []
    for point in band:
        if part and (point[0] != part[-1][0] + 1 or point[0] in trend.breaks):
            yield part
            part = []
        part.append(point)
    if part:
        yield part


def _week_axis(plot: figure, trend: Trend) -> None:
    many = len(trend.weeks)
    every = max(1, many // 7)
    ticks = list(range(0, many, every))
    plot.xaxis[0].ticker = ticks
    plot.xaxis[0].major_label_overrides = {i: trend.weeks[i].label.rpartition("-")[2] for i in ticks}


def _speed_panels(trend: Trend) -> Iterator[DrawnPanel]:
    """Is it us?  The speed prints of the machine itself."""
    for name, title, unit, values in (
        ("speed-cpu", "This machine: a fixed loop on the slowest core, ms", "ms", [w.cpu_ms for w in trend.weeks]),
        ("speed-loopback", "This machine: a byte there and back, µs", "count", [w.loopback_us for w in trend.weeks]),
    ):
        known = [value for value in values if value is not None]
        if not known:
            continue
        span = Range1d(start=-0.7, end=len(values) - 0.3)
        plot = canvas(height=120, x="", x_range=span, y_range=DataRange1d(start=0), name=name)
        tick_numbers(plot.yaxis[0])
        _week_axis(plot, trend)
        source = ColumnDataSource({"t": column(float(index) for index in range(len(values))), "v": column(values)})
        lines(plot, source, name, [("v", title)])
        put(plot, source, Scatter(x="t", y="v", size=4, line_color=None, tags=["fill:1"]), name=f"{name}:dots")
        seen = f"from {plain(min(known), unit)} to {plain(max(known), unit)}"
        yield DrawnPanel(name=name, title=title, plot=plot, seen=seen)


OVERLAID = (
    ("delivered_per_s", "Delivered per second", "per_s"),
    ("latency_p95_ms", "Latency p95, ms", "ms"),
    ("unseen", "Published and not yet received", "count"),
    ("connected", "Connected clients", "count"),
)


def _overlaid(runs: Sequence[tuple[str, Results]]) -> list[DrawnPanel]:
    found = []
    ends = [
        r.timeline.from_s + r.timeline.slice_s * max(map(len, r.timeline.series.values()), default=0) for _, r in runs
    ]
    span = Range1d(start=min((r.timeline.from_s for _, r in runs), default=0.0), end=max(ends, default=1.0))
    for name, title, unit in OVERLAID:
        if not any(name in results.timeline.series for _, results in runs):
            continue
        panel = f"over-{name}"
        plot = canvas(height=220, x_range=span, y_range=DataRange1d(start=0), name=panel)
        tick_numbers(plot.yaxis[0])
        keys: list[Key] = []
        for place, (label, results) in enumerate(runs):
            line = results.timeline
            values = line.series.get(name, [])
            source = ColumnDataSource(
                {"t": column(line.from_s + line.slice_s * i for i in range(len(values))), f"v{place}": column(values)}
            )
            keys += lines(plot, source, panel, [(f"v{place}", label)], first=place)
            if place == 0:
                for fault in results.faults:
                    for at in (fault.injected_s, fault.healed_s):
                        if at is not None:
                            mark(plot, at, "limit", dash="dotted")
        peaks = []
        for label, results in runs:
            known = [value for value in results.timeline.series.get(name, []) if value is not None]
            peaks.append(f"{label} at most {plain(max(known, default=None), unit)}")
        found.append(DrawnPanel(name=panel, title=title, plot=plot, seen="; ".join(peaks), keys=keys))
    return found
