"""What happened when?  Panels on one time axis: faults, throughput, unseen, latency, clients, memory, CPU."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bokeh.models import ColumnDataSource, DataRange1d, FactorRange, HoverTool, Model, Range1d, RangeTool
from bokeh.plotting import figure

from loadtests.model.results import Results
from loadtests.report.drawing import FONT, Key, canvas, column, crosshair, hover, lines, link, shade, tick_numbers

LANES_AT_MOST = 12
PHASES = frozenset({"warm-up", "baseline", "fault", "recovery", "drain"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One plot of the timeline and its legend."""

    name: str
    title: str
    plot: figure
    keys: list[Key] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    name: str
    title: str
    pattern: str
    unit: str
    height: int = 150


KINDS = (
    _Kind(
        name="delivered",
        title="Delivered per second, over all clients",
        unit="per_s",
        pattern=r"(delivered|owed|offered|received|unique)(_per_s)?",
        height=170,
    ),
    _Kind(
        name="published",
        title="Published per second",
        unit="per_s",
        pattern=r"(published|planned|failed|unknown)(_per_s)?",
        height=120,
    ),
    _Kind(
        name="unseen",
        title="Unseen: acknowledged, not yet delivered; lost per second of due time",
        unit="count",
        pattern=r"unseen|lost.*",
    ),
    _Kind(
        name="latency",
        title="Latency in ms",
        unit="ms",
        pattern=r".*(latency|lag|blocked|service).*|p[0-9]+",
        height=190,
    ),
    _Kind(
        name="connected",
        title="Connected clients",
        unit="count",
        pattern=r"connected|subscribed|clients|users",
        height=120,
    ),
    _Kind(name="memory", title="Memory by process in MB", unit="mb", pattern=r"(memory|rss|uss)([:/. _].*)?"),
    _Kind(name="cpu", title="CPU by process in %; 100 % is one core", unit="percent", pattern=r"cpu([:/. _].*)?"),
    _Kind(name="other", title="Deviations, counted per slice", unit="count", pattern=r".*", height=110),
)  # fmt: skip
SAMPLED = frozenset({"connected", "memory", "cpu"})
_UNSAID = re.compile(r"^(memory|rss|uss|cpu)(_mb|_percent)?[:/. ]+|^latency_|(_ms|_per_s)$")
"""What the panel's title says already."""


def panels(results: Results) -> list[Panel]:
    """The panels from top to bottom, all with one x range; those without a series are left out."""
    line = results.timeline
    names = {kind.name: [n for n in line.series if n != "t" and _kind_of(n) is kind] for kind in KINDS}
    ends = [p.to_s for p in results.phases] + [line.from_s + line.slice_s * len(v) for v in line.series.values()]
    starts = [p.from_s for p in results.phases] + ([line.from_s] if line.series else [])
    if not ends:
        return []
    first, last = min(starts), max(ends)
    span = Range1d(start=first, end=last, name="time")
    length = max((len(v) for v in line.series.values()), default=0)
    whole = {name: [*values, *[None] * (length - len(values))] for name, values in line.series.items()}
    columns = {name: column(values) for name, values in whole.items()}
    source = ColumnDataSource({**columns, "t": column(line.from_s + line.slice_s * i for i in range(length))})
    cross = crosshair()
    found = [_lanes(results, span, first, last)]
    for kind in KINDS:
        if not names[kind.name]:
            continue
        found.append(_panel(results, kind, names[kind.name], source, span))
        if kind.name == "latency":
            found.append(_panel(results, kind, names[kind.name], source, span, log=True))
    for panel in found:
        link(panel.plot, cross)
    if length:
        found.append(
            _overview(results, source, names["delivered"] or list(line.series), Range1d(start=first, end=last), span)
        )
    return found


def _kind_of(name: str) -> _Kind:
    return next(kind for kind in KINDS if re.fullmatch(kind.pattern, name))


def label_of(name: str) -> str:
    """What the legend calls a series: the process where the panel says the rest."""
    return _UNSAID.sub("", name).replace("_", " ")


def _panel(
    results: Results, kind: _Kind, names: list[str], source: ColumnDataSource, span: Range1d, *, log: bool = False
) -> Panel:
    name = f"{kind.name}-log" if log else kind.name
    y_range = DataRange1d() if log else DataRange1d(start=0)
    plot = canvas(
        height=kind.height, x="", x_range=span, y_range=y_range, y_axis_type="log" if log else "linear", name=name
    )
    tick_numbers(plot.yaxis[0])
    _shade_faults(results, plot)
    labels = [(n, label_of(n)) for n in names]
    keys = lines(plot, source, name, labels, bridged=kind.name in SAMPLED)
    hover(plot, source, [("at", "t", "s"), *((label, n, kind.unit) for n, label in labels)])
    return Panel(name=name, title=kind.title, plot=plot, keys=keys)


def _shade_faults(results: Results, plot: figure) -> None:
    for fault in results.faults:
        if fault.injected_s is not None:
            shade(plot, fault.injected_s, fault.healed_s, "fault")
    for phase in results.phases:
        if phase.phase in ("warm-up", "drain"):
            shade(plot, phase.from_s, phase.to_s, "edge")


def _lanes(results: Results, span: Range1d, first: float, last: float) -> Panel:
    acted = [(f, f.injected_s, f.healed_s) for f in results.faults if f.injected_s is not None]
    by_name = len({f.name for f, _, _ in acted}) <= LANES_AT_MOST
    lanes: dict[str, list[tuple[str, float, float]]] = {}
    for f, injected, healed in acted:
        what = f"{f.name}: {f.kind} on {f.link}"
        lanes.setdefault(f.name if by_name else f.link, []).append((what, injected, last if healed is None else healed))
    factors = FactorRange(factors=list(reversed(["", *lanes])))
    plot = canvas(height=52 + 24 * (len(lanes) + 1), x="", x_range=span, y_range=factors, name="lanes")
    plot.ygrid.visible = False
    plot.yaxis.visible = False
    keys = []
    for phase in dict.fromkeys(p.phase for p in results.phases):
        bars = [("", phase, p.from_s, p.to_s) for p in results.phases if p.phase == phase]
        keys.append(_bars(plot, bars, phase, f"phase-{phase}" if phase in PHASES else "phase"))
    for lane, spans in lanes.items():
        keys.append(_bars(plot, [(lane, *bar) for bar in spans], lane, "fault-solid"))
        _name_lane(plot, lane, spans, before=spans[0][1] > (first + last) / 2)
    return Panel(name="lanes", title="Phases (top row) and faults", plot=plot, keys=keys[: len(keys) - len(lanes)])


def _bars(plot: figure, bars: list[tuple[str, str, float, float]], name: str, role: str) -> Key:
    lane, what, left, right = (list(part) for part in zip(*bars, strict=True))
    source = ColumnDataSource({"lane": lane, "what": what, "left": left, "right": right})
    drawn = plot.hbar(
        y="lane", left="left", right="right", height=0.76, source=source, line_width=1, name=f"lanes:{name}"
    )
    drawn.glyph.tags = [f"fill:{role}", "stroke:paper"]
    plot.add_tools(
        HoverTool(
            renderers=[drawn],
            point_policy="follow_mouse",
            tooltips=[("what", "@what"), ("from", "@left{0.00} s"), ("to", "@right{0.00} s")],
        )
    )
    return Key(renderer=f"lanes:{name}", label=name, colour=role, dash="bar")


def _name_lane(plot: figure, lane: str, spans: list[tuple[str, float, float]], *, before: bool) -> None:
    """Write a fault's name where its bars leave room: before the first, else behind the last."""
    at = spans[0][1] if before else spans[-1][2]
    source = ColumnDataSource({"t": [at], "lane": [lane], "what": [lane]})
    plot.text(
        "t", "lane", "what", source=source, text_align="right" if before else "left", x_offset=-6 if before else 6,
        text_baseline="middle", text_font=FONT, text_font_size="11px", name=f"lanes:name:{lane}",
    ).glyph.tags = ["text:ink"]  # fmt: skip


def _overview(results: Results, source: ColumnDataSource, names: list[str], whole: Range1d, span: Range1d) -> Panel:
    plot = canvas(height=84, x="time since T0 in seconds; drag the frame to select", x_range=whole, name="overview")
    plot.yaxis.visible = False
    plot.ygrid.visible = False
    _shade_faults(results, plot)
    lines(plot, source, "overview", [(n, label_of(n)) for n in names[:2]])
    tool = RangeTool(x_range=span, start_gesture="pan")
    tool.overlay.tags = ["range"]
    plot.add_tools(tool)
    return Panel(name="overview", title="Range", plot=plot)


def roots(found: list[Panel]) -> dict[str, Model]:
    """Element of the page -> plot."""
    return {f"plot-{panel.name}": panel.plot for panel in found}
