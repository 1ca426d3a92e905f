"""What does a capacity session look like on a page and on a terminal?  Its answer in, text out; computes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bokeh.models import (
    ColumnDataSource,
    CustomJSHover,
    DataRange1d,
    HoverTool,
    Line,
    Model,
    Range1d,
    Scatter,
    Segment,
    VArea,
)
from bokeh.plotting import figure

from loadtests.model.capacity import AtLoad, Capacity, Cost, Judged, Level, Scaling, Trial
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
    strips,
    tick_numbers,
)
from loadtests.report.formats import UNKNOWN, ms, plain
from loadtests.report.html import environment
from loadtests.report.timeline import DrawnPanel

_MARKS: dict[Judged, tuple[str, str, str]] = {
    "GOOD": ("circle", "3", "good"),
    "BAD": ("x", "limit", "bad"),
    "UNUSABLE": ("diamond", "muted", "unusable"),
}
"""Shape, role of the colour, word."""
_SIGNS: dict[Judged, str] = {"GOOD": "●", "BAD": "✕", "UNUSABLE": "◆"}
_KINDS = {
    "settle-in": "settle-in, thrown away",
    "search": "search",
    "long": "long hold",
    "control": "control hold",
    "planned": "planned",
}
_LATENCY_LIMIT = re.compile(r"^latency_(p\d+)_ms<=([\d.]+)")
_HOVER = 'return Number.isFinite(value) ? Tickstorm.show(value, format) : "–"'
PERCENTILES = ("p50", "p95", "p99")


# -- words


def figure_of(value: float | None) -> str:
    """Three figures; the dash for None: 9,120, 97.5, 0.25."""
    if value is None:
        return UNKNOWN
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:g}".replace("-", "−")


def span_of(low: float | None, high: float | None) -> str:
    """Both ends of an interval."""
    return figure_of(low) if low == high else f"{figure_of(low)} to {figure_of(high)}"


def limit_of(text: str) -> str:
    """A limit as people write it: `latency_p95_ms ≤ 100`."""
    return text.replace("<=", " ≤ ").replace(">=", " ≥ ")


def broke_of(trial: Trial) -> str:
    """What did not hold."""
    return ", ".join(limit_of(text) for text in trial.broke)


def summary_lines(capacity: Capacity) -> list[str]:
    """For the terminal; the last line is the answer."""
    found = [f"levels, {capacity.axis_unit}:"]
    for level in capacity.levels:
        word = _MARKS[level.verdict][2] if level.verdict else "undecided"
        broke = f"  {', '.join(map(limit_of, level.broke))}" if level.verdict != "GOOD" and level.broke else ""
        p95 = plain(level.latency_ms.get("p95"), "ms")
        found.append(f"  {figure_of(level.load):>9}  {word:9}  p95 {p95:>8}  {_votes(level)}{broke}")
    knee = capacity.knee
    if knee is not None:
        found.append(f"knee: {figure_of(knee.at)} ({span_of(knee.low, knee.high)})")
    if capacity.bottleneck_sentence:
        found.append(f"bottleneck: {capacity.bottleneck_sentence}")
    found += [f"cost: {cost_line(cost)}" for cost in capacity.cost]
    found += [f"expected at {it.what} {figure_of(it.load)}: {expected_line(it)}" for it in capacity.at_loads]
    if capacity.advised is not None:
        found.append(f"advised: {figure_of(capacity.advised)} {capacity.axis_unit} ({capacity.advised_because})")
    if capacity.usl is not None:
        found += scaling_lines(capacity.usl)
    if capacity.found.reasons and capacity.confidence != "unknown":
        found += [f"note: {reason}" for reason in capacity.found.reasons]
    found += [f"also: {reason}" for reason in capacity.found.reasons[1:] if capacity.confidence == "unknown"]
    found += [f"not excluded: {text}" for text in capacity.found.not_excluded]
    found.append(f"{capacity.verdict} {capacity.sentence}")
    return found


def _votes(level: Level) -> str:
    parts = [(level.good, "good"), (level.bad, "bad"), (level.unusable, "unusable")]
    text = ", ".join(f"{count} {word}" for count, word in parts if count)
    return f"{text}, held {level.held_s:.0f} s" if level.held_s is not None else text


def cost_line(cost: Cost) -> str:
    """A cost with its interval."""
    unit = f" {cost.unit}" if cost.unit else ""
    return f"{cost.what} {figure_of(cost.value)}{unit} ({span_of(cost.low, cost.high)})"


def expected_line(at: AtLoad) -> str:
    """What to expect at a load; the dash where it lies beyond the good levels."""
    parts = [f"{name} {plain(value, 'ms')}" for name, value in at.latency_ms.items()]
    parts += [f"{resource_of(name)} {_use(name, value)}" for name, value in at.resources.items()]
    return ", ".join(parts) or UNKNOWN


def resource_of(name: str) -> str:
    """`gateway CPU`."""
    return name.replace(" cpu", " CPU")


def _use(name: str, value: float | None) -> str:
    return plain(value, "mb" if name.endswith("memory") else "percent")


def scaling_lines(scaling: Scaling) -> list[str]:
    """The scaling law in words."""
    found = []
    for name, span in (("λ, what one carries", scaling.lambda_), ("σ, waits for what is shared", scaling.sigma),
                       ("κ, agrees with all others", scaling.kappa)):  # fmt: skip
        if span.at is not None:
            found.append(f"scaling: {name}: {figure_of(span.at)} ({span_of(span.low, span.high)})")
    found += [f"scaling: X({t.n:g}) {figure_of(t.x)} ({span_of(t.low, t.high)})" for t in scaling.told]
    if (peak := scaling.peak) is not None:
        found.append(f"scaling: turns at N = {peak.n:.1f} ({span_of(peak.low, peak.high)}), X {figure_of(peak.x)}")
    return found + [f"scaling: {text}" for text in scaling.why_not]


# -- page


def capacity_page(capacity: Capacity, *, title: str = "Capacity", sub: Sequence[str] = ()) -> str:
    """`index.html` of a session: one file that opens offline; equal answers give equal bytes."""
    panels = [*_over_load(capacity), *_resources(capacity), *_course(capacity)]
    scaling = list(_scaling(capacity.usl)) if capacity.usl is not None else []
    plots: dict[str, Model] = {f"plot-{panel.name}": panel.plot for panel in [*panels, *scaling]}
    return (
        environment()
        .get_template("capacity.html.j2")
        .render(
            c=capacity,
            title=title,
            sub=list(sub),
            panels=panels,
            scaling=scaling,
            tiles=_tiles(capacity),
            marks=_MARKS,
            percentiles=PERCENTILES,
            figure_of=figure_of,
            span_of=span_of,
            limit_of=limit_of,
            broke_of=broke_of,
            resource_of=resource_of,
            use=_use,
            votes=_votes,
            scaling_lines=scaling_lines,
            css=package_text("theme.css"),
            scripts=[package_text(name) for name in ("plots.js", "reading.js")],
            bokeh=bokeh_script() if plots else "",
            plots=document_json(plots) if plots else "",
        )
    )


def _tiles(c: Capacity) -> list[tuple[str, str, str]]:
    """What, its figure, a note."""
    found = []
    if c.low is not None:
        most = f"below {figure_of(c.high)}" if c.high is not None else "at least; the end was not reached"
        found.append((f"Held, {c.axis_unit}", figure_of(c.low), most))
    if c.found.held_s is not None:
        found.append(("For", f"{c.found.held_s:.0f} s", "the hold that confirms"))
    if c.under is not None and c.under.found.low is not None:
        found.append((f"Under {c.under.fault}", figure_of(c.under.found.low),
                      f"{c.under.ratio:.0%} of it" if c.under.ratio is not None else ""))  # fmt: skip
    if c.knee is not None:
        found.append(("Knee", figure_of(c.knee.at), span_of(c.knee.low, c.knee.high)))
    if c.headroom is not None:
        left = f"{c.headroom.low:.0%}".replace("-", "−")
        found.append((f"Left above the plan of {figure_of(c.headroom.plan)}", left, "of what was held"))
    if c.advised is not None:
        found.append(("Operating point", figure_of(c.advised), c.advised_because))
    if c.bottleneck:
        first = c.bottleneck[0]
        found.append(("Nearest to its end", f"{first.at:.0f} %", resource_of(first.resource)))
    if c.spent_s is not None:
        found.append(("Session", plain(c.spent_s, "s"), f"ended: {c.ended}"))
    return found


def _load_of(c: Capacity, trial: Trial) -> float:
    return float(trial.clients) if c.asked.axis == "clients" else trial.offered_per_s


def _tip(c: Capacity, trial: Trial, number: int) -> str:
    broke = f": {broke_of(trial)}" if trial.broke else ""
    return f"{number}: {_KINDS[trial.kind]}, {_MARKS[trial.verdict][2]}{broke}"


def _dots(
    c: Capacity, plot: figure, name: str, y_title: str, of: Sequence[tuple[Trial, float, float]], unit: str
) -> list[Key]:
    """Every trial as a dot: by shape and colour what was said of it, its tooltip says what broke."""
    numbers = {id(trial): number for number, trial in enumerate(c.trials, 1)}
    keys = []
    for verdict, (marker, role, word) in _MARKS.items():
        own = [(t, x, y) for t, x, y in of if t.verdict == verdict]
        if not own:
            continue
        source = ColumnDataSource(
            {
                "t": column(x for _, x, _ in own),
                "v": column(y for _, _, y in own),
                "load": column(_load_of(c, t) for t, _, _ in own),
                "said": [_tip(c, t, numbers[id(t)]) for t, _, _ in own],
                "size": column(6.0 if t.kind == "settle-in" else 13.0 if t.kind in ("long", "planned") else 9.0
                               for t, _, _ in own),
            }
        )  # fmt: skip
        glyph = Scatter(x="t", y="v", size="size", marker=marker, fill_alpha=0.55, line_width=2,
                        tags=[f"stroke:{role}", f"fill:{role}"])  # fmt: skip
        renderer = put(plot, source, glyph, name=f"{name}:{word}")
        plot.add_tools(
            HoverTool(
                renderers=[renderer],
                tooltips=[("trial", "@said"), (c.axis_unit, "@load{count}"), (y_title, f"@v{{{unit}}}")],
                formatters={"@v": CustomJSHover(code=_HOVER), "@load": CustomJSHover(code=_HOVER)},
            )
        )
        keys.append(Key(renderer=f"{name}:{word}", label=f"{_SIGNS[verdict]} {word} ({len(own)})", colour=role,
                        dash={"GOOD": "solid", "BAD": "dashed", "UNUSABLE": "dotted"}[verdict]))  # fmt: skip
    return keys


def _marks_of(c: Capacity) -> Iterator[tuple[str, float, str, str]]:
    """What is drawn upright over every load: word, where, role, dash."""
    if c.low is not None:
        yield "held", c.low, "3", "solid"
    if c.high is not None:
        yield "failed", c.high, "limit", "solid"
    if c.knee is not None and c.knee.at is not None:
        yield "knee", c.knee.at, "4", "dotted"
    if c.asked.plan is not None:
        yield "plan", c.asked.plan, "note", "dashed"
    if c.under is not None and c.under.found.low is not None:
        yield f"under {c.under.fault}", c.under.found.low, "2", "dotdash"


def _x_end(c: Capacity) -> float:
    """The widest load that is shown: all that was played, and the plan where it is not far beyond."""
    loads = [_load_of(c, t) for t in c.trials]
    most = max([1.0, *loads])
    plan = c.asked.plan
    return 1.04 * (max(most, plan) if plan is not None and plan < 2 * most else most)


def _uprights(c: Capacity, plot: figure, name: str) -> list[Key]:
    """Bracket, knee, plan: drawn as lines that the legend names and can hide."""
    if c.low is not None and c.high is not None:
        strips(plot, ColumnDataSource({"from": column([c.low]), "to": column([c.high])}), "fill:recovery")
    keys = []
    for word, at, role, dash in _marks_of(c):
        if at > _x_end(c):
            continue
        mark(plot, at, role, dash=dash)
        keys.append(Key(renderer=f"{name}:at-{word}", label=f"{word} {figure_of(at)}", colour=role, dash=dash))
        plot.center[-1].name = f"{name}:at-{word}"
    return keys


def _of_levels(c: Capacity, columns: dict[str, list[float | None]]) -> ColumnDataSource:
    return ColumnDataSource(
        {"t": column(level.load for level in c.levels), **{name: column(values) for name, values in columns.items()}}
    )


def _over_load(c: Capacity) -> Iterator[DrawnPanel]:
    """Delivered over offered, and the hockey stick of the latencies."""
    if not c.trials:
        return
    end = _x_end(c)
    x = c.axis_unit if c.asked.axis == "clients" else "offered, deliveries per second"
    name = "delivered"
    plot = canvas(height=280, x=x, x_range=Range1d(start=0, end=end), y_range=DataRange1d(start=0), name=name)
    tick_numbers(plot.xaxis[0])
    tick_numbers(plot.yaxis[0])
    keys: list[Key] = []
    if c.asked.axis != "clients":
        same = ColumnDataSource({"t": column([0.0, end]), "same": column([0.0, end])})
        put(
            plot,
            same,
            Line(x="t", y="same", line_width=1.5, line_dash="dashed", tags=["stroke:muted"]),
            name=f"{name}:same",
        )
        keys.append(Key(renderer=f"{name}:same", label="all that was offered", colour="muted", dash="dashed"))
    keys += lines(plot, _of_levels(c, {"delivered": [level.delivered_per_s for level in c.levels]}), name,
                  [("delivered", "delivered")])  # fmt: skip
    keys += _dots(c, plot, name, "delivered", [(t, _load_of(c, t), t.delivered_per_s) for t in c.trials], "per_s")
    keys += _uprights(c, plot, name)
    best = max(c.levels, key=lambda level: level.delivered_per_s, default=None)
    seen = (
        f"at most {figure_of(best.delivered_per_s)} /s, when {figure_of(best.load)} were offered"
        if best
        else "no level"
    )
    yield DrawnPanel(name=name, title="Delivered over offered", plot=plot, seen=seen, keys=keys)

    known = [p for p in PERCENTILES if any(level.latency_ms.get(p) for level in c.levels)]
    if not known:
        return
    name = "latency-over-load"
    plot = canvas(
        height=300, x=x, x_range=Range1d(start=0, end=end), y_axis_type="log", y_range=DataRange1d(), name=name
    )
    tick_numbers(plot.xaxis[0])
    tick_numbers(plot.yaxis[0])
    columns = {p: [v if (v := level.latency_ms.get(p)) else None for level in c.levels] for p in known}
    keys = lines(plot, _of_levels(c, columns), name, [(p, p) for p in known], bridged=True)
    limits = [(found[1], float(found[2])) for text in c.asked.limits if (found := _LATENCY_LIMIT.match(text))]
    shown = limits[0][0] if limits and limits[0][0] in known else "p95"
    dots = [(t, _load_of(c, t), v) for t in c.trials if (v := t.latency_ms.get(shown))]
    keys += _dots(c, plot, name, f"latency {shown}", dots, "ms")
    for percentile, limit in limits:
        mark(plot, limit, "limit", dimension="width")
        plot.center[-1].name = f"{name}:limit-{percentile}"
        keys.append(Key(renderer=f"{name}:limit-{percentile}", label=f"limit of {percentile}, {limit:g} ms",
                        colour="limit", dash="dashed"))  # fmt: skip
    keys += _uprights(c, plot, name)
    first = next((level for level in c.levels if level.latency_ms.get(shown)), None)
    last = next((level for level in reversed(c.levels) if level.latency_ms.get(shown)), None)
    seen = "; ".join(
        f"{shown} {ms(level.latency_ms[shown] or 0)} at {figure_of(level.load)}" for level in (first, last) if level
    )
    yield DrawnPanel(name=name, title="Latency over load, ms, log scale; lines join the levels, dots are trials",
                     plot=plot, seen=seen, keys=keys)  # fmt: skip


def _course(c: Capacity) -> Iterator[DrawnPanel]:
    """How the search went: trial after trial."""
    if not c.trials:
        return
    name = "course"
    many = len(c.trials)
    plot = canvas(
        height=230, x="trial", x_range=Range1d(start=0.4, end=many + 0.6), y_range=DataRange1d(start=0), name=name
    )
    tick_numbers(plot.yaxis[0])
    plot.xaxis[0].ticker = list(range(1, many + 1, max(1, -(-many // 12))))
    path = ColumnDataSource(
        {"t": column(float(i) for i in range(1, many + 1)), "load": column(_load_of(c, t) for t in c.trials)}
    )
    put(plot, path, Line(x="t", y="load", line_width=1, line_dash="dotted", tags=["stroke:muted"]), name=f"{name}:path")
    keys = _dots(
        c, plot, name, "delivered", [(t, float(i), _load_of(c, t)) for i, t in enumerate(c.trials, 1)], "count"
    )
    for end, role in ((c.low, "3"), (c.high, "limit")):
        if end is not None:
            mark(plot, end, role, dimension="width", dash="solid")
    counts = [f"{sum(t.verdict == v for t in c.trials)} {word}" for v, (_, _, word) in _MARKS.items()]
    yield DrawnPanel(name=name, title=f"The search: each trial's load, {c.axis_unit}; large: holds, small: settle-in",
                     plot=plot, seen=f"{many} trials: {', '.join(counts)}", keys=keys)  # fmt: skip


def _resources(c: Capacity) -> Iterator[DrawnPanel]:
    names = sorted({name for level in c.levels for name in level.resources})
    for kind, title, own in (
        (
            "use",
            "Use of resources over load, %; of a core, or of their own end",
            [n for n in names if not n.endswith("memory")],
        ),
        ("memory", "Memory over load, MB", [n for n in names if n.endswith("memory")]),
    ):
        if not own:
            continue
        panel = f"resources-{kind}"
        plot = canvas(height=220, x=c.axis_unit, x_range=Range1d(start=0, end=_x_end(c)),
                      y_range=DataRange1d(start=0), name=panel)  # fmt: skip
        tick_numbers(plot.xaxis[0])
        tick_numbers(plot.yaxis[0])
        source = _of_levels(c, {name: [level.resources.get(name) for level in c.levels] for name in own})
        keys = lines(plot, source, panel, [(name, resource_of(name)) for name in own], bridged=True)
        if kind == "use":
            mark(plot, 100, "limit", dimension="width")
        if c.low is not None:
            mark(plot, c.low, "3", dash="solid")
        if c.high is not None:
            mark(plot, c.high, "limit", dash="solid")
        peaks = []
        for name in own:
            most = max(level.resources[name] for level in c.levels if name in level.resources)
            peaks.append(f"{resource_of(name)} at most {_use(name, most)}")
        yield DrawnPanel(name=panel, title=title, plot=plot, seen="; ".join(peaks), keys=keys)


def _scaling(of: Scaling) -> Iterator[DrawnPanel]:
    """Points, the law with its band, dashed beyond them."""
    if not of.points:
        return
    name = "scaling"
    plot = canvas(
        height=280, x="N, gateways or workers", x_range=DataRange1d(start=0), y_range=DataRange1d(start=0), name=name
    )
    tick_numbers(plot.yaxis[0])
    keys: list[Key] = []
    largest = max(n for n, _ in of.points)
    if of.curve:
        band = ColumnDataSource({"t": column(t.n for t in of.curve), "low": column(t.low for t in of.curve),
                                 "high": column(t.high for t in of.curve)})  # fmt: skip
        put(
            plot, band, VArea(x="t", y1="low", y2="high", tags=["fill:recovery"]), name=f"{name}:band", level="underlay"
        )
        within = [t for t in of.curve if t.n <= largest]
        for part, dash, label in (
            (within, "solid", "the law"),
            (of.curve[max(len(within) - 1, 0) :], "dashed", "beyond the points"),
        ):
            source = ColumnDataSource({"t": column(t.n for t in part), "x": column(t.x for t in part)})
            key = f"{name}:{label.replace(' ', '-')}"
            put(plot, source, Line(x="t", y="x", line_width=2, line_dash=dash, tags=["stroke:1"]), name=key)
            keys.append(Key(renderer=key, label=label, colour="1", dash=dash))
        keys.append(Key(renderer=f"{name}:band", label="90 % band", colour="recovery", dash="bar"))
    for told in of.told:
        source = ColumnDataSource({"t": column([told.n]), "low": column([told.low]), "high": column([told.high])})
        put(
            plot,
            source,
            Segment(x0="t", y0="low", x1="t", y1="high", line_width=3, tags=["stroke:2"]),
            name=f"{name}:told-{told.n:g}",
        )
    points = ColumnDataSource({"t": column(n for n, _ in of.points), "x": column(x for _, x in of.points)})
    dots = put(plot, points, Scatter(x="t", y="x", size=9, tags=["fill:1", "stroke:1"]), name=f"{name}:points")
    tooltips = [("N", "@t{count}"), ("X", "@x{count}")]
    shown = CustomJSHover(code=_HOVER)
    plot.add_tools(HoverTool(renderers=[dots], tooltips=tooltips, formatters={"@t": shown, "@x": shown}))
    told_text = "; ".join(f"X({t.n:g}) {figure_of(t.x)}, between {span_of(t.low, t.high)}" for t in of.told)
    yield DrawnPanel(name=name, title="Scaling: the Universal Scalability Law", plot=plot,
                     seen=told_text or "nothing is told beyond the points", keys=keys)  # fmt: skip
