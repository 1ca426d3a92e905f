"""What does the live page draw on?  Empty panels on one time axis; the page's script fills them from `live.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bokeh.core.json_encoder import serialize_json
from bokeh.document import Document
from bokeh.models import ColumnDataSource, CrosshairTool, DataRange1d, Model, NumeralTickFormatter, Range1d
from bokeh.models.annotations import Span
from bokeh.plotting import figure

SLOTS = 8
"""Lines that a panel can show; the script gives them to series in the order in which these appear."""
DASHES = ("solid", "dashed", "dotted", "dotdash")
FONT = "system-ui, sans-serif"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One plot; a pattern says which series belong to it."""

    name: str
    title: str
    pattern: str
    unit: str
    height: int = 120


PANELS = (
    Panel(
        name="delivered",
        title="Delivered per second, over all clients",
        unit="per_s",
        pattern="^(delivered|owed|offered|received|unique)(_per_s)?$",
        height=150,
    ),
    Panel(
        name="published",
        title="Published per second",
        unit="per_s",
        pattern="^(published|planned|failed|unknown)(_per_s)?$",
    ),
    Panel(
        name="unseen",
        title="Unseen: owed, not yet delivered; lost so far",
        unit="count",
        pattern="^(unseen|lost.*)$",
    ),
    Panel(
        name="latency",
        title="Latency in ms",
        unit="ms",
        pattern="latency|lag|blocked|service|^p[0-9]+$",
        height=150,
    ),
    Panel(name="connected", title="Connected clients", unit="count", pattern="^(connected|subscribed|clients|users)$"),
    Panel(name="memory", title="Memory by process in MB", unit="mb", pattern="^(memory|rss|uss)([:/. _]|$)"),
    Panel(name="cpu", title="CPU by process in %; 100 % is one core", unit="percent", pattern="^cpu([:/. _]|$)"),
)


def panels_json() -> str:
    """All panels as one Bokeh document with the element that each goes to; safe inside a script element."""
    span = Range1d(start=0, end=60, name="time")
    faults = ColumnDataSource({"from": [], "to": []}, name="faults")
    cross = Span(dimension="height", line_width=1, line_dash="dotted", tags=["stroke:ink"])
    document = Document(title="Tickstorm")
    roots = {}
    with document.models.freeze():
        for panel in PANELS:
            plot = _plot(panel, span, faults, cross)
            document.add_root(plot)
            roots[plot.id] = f"plot-{panel.name}"
    found = json.loads(serialize_json(document.to_json(deferred=False)))
    return json.dumps({"document": found, "roots": roots}, separators=(",", ":")).replace("<", "\\u003c")


def _plot(panel: Panel, span: Range1d, faults: ColumnDataSource, cross: Span) -> Any:
    visible = DataRange1d(start=0)
    plot = figure(
        height=panel.height,
        sizing_mode="stretch_width",
        tools=[CrosshairTool(overlay=cross)],
        toolbar_location=None,
        x_range=span,
        y_range=visible,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border_left=56,
        min_border_right=14,
        min_border_top=8,
    )
    plot.yaxis.formatter = NumeralTickFormatter(format="0.[00]a")
    for axis in plot.axis:
        axis.tags = ["axis"]
        axis.major_label_text_font = FONT
        axis.major_label_text_font_size = "11px"
        axis.minor_tick_line_color = None
    for grid in plot.grid:
        grid.tags = ["grid"]
    strips = plot.vstrip(x0="from", x1="to", source=faults, level="underlay", line_color=None, fill_alpha=1)
    strips.glyph.tags = ["fill:fault"]
    lines: list[Model] = []
    for slot in range(SLOTS):
        source = ColumnDataSource({"t": [], "y": []}, name=f"data:{panel.name}:{slot}")
        drawn = plot.line(
            "t", "y", source=source, line_width=2, line_dash=DASHES[slot % len(DASHES)], name=f"{panel.name}:{slot}"
        )
        drawn.glyph.tags = [f"stroke:{slot + 1}"]
        lines.append(drawn)
    visible.renderers = lines
    return plot
