"""What does a timeline show, and how does it look?  One definition for the live page and for the report; data only.

Both draw these panels with these strips in these roles; the style sheet and script beside the report colour the roles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One plot; a pattern says which series belong to it, the first that matches takes a series."""

    name: str
    title: str
    pattern: str  # the whole name; understood alike by Python and by a browser
    unit: str
    height: int = 150
    sampled: bool = False  # read less often than once a step: a line bridges the holes
    live: str = ""  # title on the live page, where what it knows in time is not quite what the report shows


PANELS = (
    Panel(
        name="delivered",
        title="Delivered per second, over all clients",
        unit="per_s",
        pattern=r"^(delivered|owed|offered|received|unique)(_per_s)?$",
        height=170,
    ),
    Panel(
        name="published",
        title="Published per second",
        unit="per_s",
        pattern=r"^(published|planned|failed|unknown)(_per_s)?$",
        height=120,
    ),
    Panel(
        name="unseen",
        title="Unseen: owed and not yet delivered; lost per second of due time",
        live="Unseen: owed and not yet delivered, until the delivery limit has passed",
        unit="count",
        pattern=r"^(unseen|lost.*)$",
    ),
    Panel(
        name="latency",
        title="Latency in ms",
        live="Latency in ms of what was received in each second; the report has it by due time",
        unit="ms",
        pattern=r"^(.*(latency|lag|blocked|service).*|p[0-9]+)$",
        height=190,
    ),
    Panel(
        name="links",
        title="Round trip of a ping through each link in ms; a line joins those that were answered",
        unit="ms",
        pattern=r"^link_delay_ms([:/. _].*)?$",
        sampled=True,
    ),
    Panel(
        name="connected",
        title="Connected clients",
        unit="count",
        pattern=r"^(connected|subscribed|clients|users)$",
        height=120,
        sampled=True,
    ),
    Panel(
        name="memory",
        title="Memory by process in MB",
        unit="mb",
        pattern=r"^(memory|rss|uss)([:/. _].*)?$",
        sampled=True,
    ),
    Panel(
        name="cpu",
        title="CPU by process in %; 100 % is one core",
        unit="percent",
        pattern=r"^cpu([:/. _].*)?$",
        sampled=True,
    ),
)
"""From top to bottom."""

OTHER = Panel(name="other", title="Deviations, counted per slice", unit="count", pattern=r"^.*$", height=110)
"""What belongs to no panel."""

UNSAID = r"^(memory|rss|uss|cpu|link_delay)(_mb|_percent|_ms)?[:/. ]+|^latency_|(_ms|_per_s)$"
"""What a panel's title says already, and the name of a series need not."""

FAULT, RECOVERY, NOTE = "fill:fault", "fill:recovery", "stroke:note"
"""Roles of what is drawn across every panel: a fault in force, a recovery, something that the user wrote down."""

FONT = "Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"
"""Of what is drawn: by name, since some canvases take `system-ui` for a serif."""
DASHES = ("solid", "dashed", "dotted", "dotdash")
COLOURS = 8

CANVAS: dict[str, Any] = {
    "sizing_mode": "stretch_width",
    "toolbar_location": None,
    "background_fill_color": None,
    "border_fill_color": None,
    "outline_line_color": None,
    "min_border_left": 56,
    "min_border_right": 14,
    "min_border_top": 8,
}
"""Properties of every plot."""

AXIS: dict[str, Any] = {
    "tags": ["axis"],
    "axis_label_text_font": FONT,
    "axis_label_text_font_size": "11px",
    "axis_label_text_font_style": "normal",
    "major_label_text_font": FONT,
    "major_label_text_font_size": "11px",
    "minor_tick_line_color": None,
    "axis_label_standoff": 4,
}
"""Properties of every axis."""

TICKS = "0.[00]a"
"""1.5k instead of 1500 and 0.1 instead of a power of ten, so that every panel's left edge is equally wide."""
