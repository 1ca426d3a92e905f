"""How does any plot of ours look and behave? One place for size, tools, the roles that the page colours, and the way
in.

A model's tag says its role ("axis", "grid", "stroke:2", "fill:fault"); `plots.js` gives each role the colour of the
theme that the reader has, so dark and light need no second document.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from bokeh.core.json_encoder import serialize_json
from bokeh.document import Document
from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    CrosshairTool,
    CustomJSHover,
    DataRange1d,
    HoverTool,
    Line,
    Model,
    NumeralTickFormatter,
    PanTool,
    Step,
    VStrip,
    WheelZoomTool,
)
from bokeh.models.annotations import Span
from bokeh.models.glyph import Glyph
from bokeh.models.renderers.glyph_renderer import GlyphRenderer
from bokeh.plotting import figure
from bokeh.resources import Resources
from markupsafe import Markup

from loadtests.model.panels import AXIS, CANVAS, COLOURS, DASHES, TICKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One entry of a plot's legend: which renderer it shows or hides, and how that is drawn."""

    renderer: str
    label: str
    colour: str
    dash: str


def column(values: Iterable[float | None]) -> array[float]:
    """Values for a data source; None is a hole in the line."""
    return array("d", [float("nan") if v is None else v for v in values])


def canvas(*, height: int, x: str = "time since T0 in seconds", **more: Any) -> figure:
    """An empty plot that fills its element's width; the wheel zooms only after the reader has asked for it."""
    plot = figure(height=height, tools="", title=None, output_backend="canvas", **CANVAS, **more)
    plot.add_tools(
        BoxZoomTool(dimensions="width", tags=["drag-zoom"]),
        PanTool(dimensions="width", tags=["drag-pan"]),
        WheelZoomTool(dimensions="width", tags=["wheel"]),
    )
    plot.toolbar.active_drag = None
    plot.toolbar.active_scroll = None
    plot.xaxis.axis_label = x
    for axis in plot.axis:
        axis.update(**AXIS)
    for grid in plot.grid:
        grid.tags = ["grid"]
    return plot


def put(plot: figure, source: ColumnDataSource, glyph: Glyph, **more: Any) -> GlyphRenderer[Glyph]:
    """Draw a glyph over a source's columns.

    Nothing here is ever selected or muted; `figure.line` and its kin would add two glyphs for that, and the number of
    models is what a page costs.
    """
    return plot.add_glyph(source, glyph, nonselection_glyph=None, muted_glyph=None, **more)


def tick_numbers(axis: Any) -> None:
    """Ticks whose width is the same in every panel."""
    axis.formatter = NumeralTickFormatter(format=TICKS)


def lines(
    plot: figure,
    source: ColumnDataSource,
    panel: str,
    names: Sequence[tuple[str, str]],
    *,
    stepped: bool = False,
    bridged: bool = False,
    first: int = 0,
) -> list[Key]:
    """Draw columns (name, label) of a source over its column `t`, told apart by colour and dash; returns the legend.

    A hole breaks the line, unless `bridged`: what is sampled less often than once a slice would be all holes.
    """
    keys = []
    for number, (name, label) in enumerate(names, first):
        colour, dash = str(number % COLOURS + 1), DASHES[number % len(DASHES)]
        renderer = f"{panel}:{name}"
        points = _without_holes(source, name) if bridged else source
        style: dict[str, Any] = {"line_width": 2, "line_dash": dash, "tags": [f"stroke:{colour}"]}
        glyph = Step(x="t", y=name, mode="after", **style) if stepped else Line(x="t", y=name, **style)
        put(plot, points, glyph, name=renderer)
        keys.append(Key(renderer=renderer, label=label, colour=colour, dash=dash))
    return keys


_FORMAT = 'return Number.isFinite(value) ? Tickstorm.show(value, format) : "–"'


def _without_holes(source: ColumnDataSource, name: str) -> ColumnDataSource:
    known = [(t, v) for t, v in zip(source.data["t"], source.data[name], strict=True) if v == v]
    return ColumnDataSource({"t": array("d", [t for t, _ in known]), name: array("d", [v for _, v in known])})


def hover(plot: figure, source: ColumnDataSource, rows: Sequence[tuple[str, str, str]], *, over: str = "t") -> None:
    """Show all values of a slice (label, column, unit) when the pointer is over or under them."""
    shown = CustomJSHover(code=_FORMAT)
    columns = [name for _, name, _ in rows if name != over]
    whole = next((n for n in columns if all(v == v for v in source.data[n])), columns[0])  # NaN has no place for a tip
    probe = put(plot, source, Line(x=over, y=whole, line_alpha=0), name=f"probe:{id_of(rows)}")
    if isinstance(plot.y_range, DataRange1d):
        plot.y_range.renderers = [r for r in plot.renderers if r is not probe]
    plot.add_tools(
        HoverTool(
            renderers=[probe],
            mode="vline",
            line_policy="prev",
            point_policy="follow_mouse",
            tooltips=[(label, f"@{{{name}}}{{{unit}}}") for label, name, unit in rows],
            formatters={f"@{{{name}}}": shown for _, name, _ in rows},
        )
    )


def id_of(rows: Sequence[tuple[str, str, str]]) -> str:
    """A name that is the same for the same rows."""
    return "+".join(name for _, name, _ in rows)


def strips(plot: figure, source: ColumnDataSource, role: str) -> None:
    """Shaded intervals between a source's columns `from` and `to`; a source without rows costs nothing."""
    if source.data["from"]:
        put(plot, source, VStrip(x0="from", x1="to", line_color=None, fill_alpha=1, tags=[role]), level="underlay")


def mark(
    plot: figure, at: float, role: str, *, dimension: Literal["width", "height"] = "height", dash: str = "dashed"
) -> None:
    """A line across the plot, upright (`height`) or level (`width`)."""
    plot.add_layout(
        Span(
            location=at, dimension=dimension, line_dash=dash, line_width=1.5, level="underlay", tags=[f"stroke:{role}"]
        )
    )


def crosshair() -> Span:
    """One upright line for all panels that share it."""
    return Span(dimension="height", line_width=1, line_dash="dotted", tags=["stroke:ink"])


def link(plot: figure, span: Span) -> None:
    """Let the shared line follow the pointer over this panel."""
    plot.add_tools(CrosshairTool(overlay=span))


Json = Any


def document_json(roots: Mapping[str, Model]) -> Markup:
    """A document of these roots with the element that each goes to, for a `<script type="application/json">`.

    Bokeh numbers its models through the life of the process; here they are numbered in the order of the document, so
    that the same plots give the same bytes.
    """
    document = Document(title="Tickstorm")
    with document.models.freeze():  # else every root walks the models of all others
        for root in roots.values():
            document.add_root(root)
    ids = {root.id: element for element, root in roots.items()}
    found = json.loads(serialize_json(document.to_json(deferred=False)))
    numbers: dict[str, str] = {}
    for name in _ids(found):
        numbers.setdefault(name, f"m{len(numbers) + 1}")
    _renumber(found, numbers)
    item = {"document": found, "roots": {numbers[name]: element for name, element in ids.items()}}
    return script_json(item)


def script_json(value: Json) -> Markup:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _ids(node: Json) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("id"), str):
            yield node["id"]
        for value in node.values():
            yield from _ids(value)
    elif isinstance(node, list):
        for value in node:
            yield from _ids(value)


def _renumber(node: Json, numbers: Mapping[str, str]) -> None:
    if isinstance(node, dict):
        if isinstance(node.get("id"), str):
            node["id"] = numbers[node["id"]]
        for value in node.values():
            _renumber(value, numbers)
    elif isinstance(node, list):
        for value in node:
            _renumber(value, numbers)


def bokeh_script() -> Markup:
    """Bokeh's core bundle, without widgets, tables, WebGL or MathJax."""
    texts = Resources(mode="inline", components=["bokeh"], log_level="error").js_raw
    return Markup("\n".join(texts).replace("</script", "<\\/script"))


def package_text(name: str) -> Markup:
    """A style sheet or script that lies beside this module."""
    return Markup(resources.files("loadtests.report").joinpath(name).read_text("utf-8"))
