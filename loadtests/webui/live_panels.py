"""What does the live page draw on?  Empty panels on one time axis; the page's script fills them from `live.json`."""

from __future__ import annotations

import json
from typing import Any

from bokeh.core.json_encoder import serialize_json
from bokeh.document import Document
from bokeh.models import BasicTicker, ColumnDataSource, CrosshairTool, DataRange1d, Model, NumeralTickFormatter, Range1d
from bokeh.models.annotations import Span
from bokeh.plotting import figure

from loadtests.model.panels import AXIS, CANVAS, COLOURS, DASHES, FAULT, NOTE, PANELS, RECOVERY, TICKS, Panel

SLOTS = COLOURS
"""Lines that a panel can show; the script gives them to series in the order in which these appear."""


def panels_json() -> str:
    """All panels as one Bokeh document with the element that each goes to; safe inside a script element."""
    span = Range1d(start=0, end=60, name="time")
    across = {
        "faults": ColumnDataSource({"from": [], "to": []}, name="faults"),
        "recoveries": ColumnDataSource({"from": [], "to": []}, name="recoveries"),
        "notes": ColumnDataSource({"at": []}, name="notes"),
    }
    cross = Span(dimension="height", line_width=1, line_dash="dotted", tags=["stroke:ink"])
    document = Document(title="Tickstorm")
    roots = {}
    with document.models.freeze():
        for panel in PANELS:
            plot = _plot(panel, span, across, cross)
            document.add_root(plot)
            roots[plot.id] = f"plot-{panel.name}"
    found = json.loads(serialize_json(document.to_json(deferred=False)))
    return json.dumps({"document": found, "roots": roots}, separators=(",", ":")).replace("<", "\\u003c")


def _plot(panel: Panel, span: Range1d, across: dict[str, ColumnDataSource], cross: Span) -> Any:
    visible = DataRange1d(start=0)
    plot = figure(height=panel.height, tools=[CrosshairTool(overlay=cross)], x_range=span, y_range=visible, **CANVAS)
    plot.yaxis.formatter = NumeralTickFormatter(format=TICKS)
    plot.yaxis.ticker = BasicTicker(desired_num_ticks=4)
    for axis in plot.axis:
        axis.update(**AXIS)
    for grid in plot.grid:
        grid.tags = ["grid"]
    for name, role in (("recoveries", RECOVERY), ("faults", FAULT)):
        strips = plot.vstrip(x0="from", x1="to", source=across[name], level="underlay", line_color=None, fill_alpha=1)
        strips.glyph.tags = [role]
    marks = plot.vspan(x="at", source=across["notes"], level="underlay", line_width=1.5)
    marks.glyph.tags = [NOTE]
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
