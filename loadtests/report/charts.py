"""How were the values spread?  Recovery over the clients, latency histograms, growth against its limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

from bokeh.models import ColumnDataSource, DataRange1d, FactorRange, Quad, Range1d, Scatter, Segment
from bokeh.plotting import figure

from loadtests.model.results import Bars, ConsumerSpread, Growth, RecoveryResult, Results
from loadtests.report.drawing import Key, canvas, column, hover, lines, mark, put, tick_numbers
from loadtests.report.formats import came_plain, measure_of, ms, plain, seconds, slope, words_of


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
    for limit in sorted({x for g in known if (x := growth_limit(results, g)) is not None}):
        mark(plot, limit, "limit")
    slopes = [
        f"{row} {slope(g.slope_mb_per_h)}" for row, g in zip(rows, known, strict=True) if g.slope_mb_per_h is not None
    ]
    caption = "Slope with its 95 % interval; dashed upright line: limit"
    return Chart(name="growth", caption=caption, seen="; ".join(slopes) + ".", plot=plot, keys=[])
