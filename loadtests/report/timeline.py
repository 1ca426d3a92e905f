"""What happened when, and which recovery belongs to which fault?

Panels on one time axis: faults, throughput, unseen, latency, clients, memory, CPU.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from dataclasses import dataclass, field

from bokeh.models import (
    ColumnDataSource,
    DataRange1d,
    FactorRange,
    HBar,
    HoverTool,
    Model,
    Range1d,
    RangeTool,
    Text,
    VSpan,
)
from bokeh.plotting import figure

from loadtests.model.panels import FAULT, FONT, NOTE, OTHER, PANELS, RECOVERY, UNSAID
from loadtests.model.panels import Panel as Kind
from loadtests.model.results import FaultResult, RecoveryResult, Results
from loadtests.report.drawing import Key, canvas, column, crosshair, hover, lines, link, put, strips, tick_numbers
from loadtests.report.formats import plain

LANES_AT_MOST = 12
PHASES = frozenset({"warm-up", "baseline", "fault", "recovery", "drain"})
Pair = tuple[FaultResult | None, RecoveryResult | None, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnPanel:
    """One plot of the timeline and its legend."""

    name: str
    title: str
    plot: figure
    seen: str  # in words
    keys: list[Key] = field(default_factory=list)


def panels(results: Results) -> list[DrawnPanel]:
    """The panels from top to bottom, all with one x range; those without a series are left out."""
    line = results.timeline
    names = {kind.name: [n for n in line.series if n != "t" and _kind_of(n) is kind] for kind in (*PANELS, OTHER)}
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
    across = _across(results, last)
    found = [_lanes(results, span, first, last)]
    for kind in (*PANELS, OTHER):
        if not names[kind.name]:
            continue
        found.append(_panel(results, kind, names[kind.name], source, span, across))
        if kind.name == "latency":
            found.append(_panel(results, kind, names[kind.name], source, span, across, log=True))
    for panel in found:
        link(panel.plot, cross)
    if length:
        found.append(
            _overview(
                results, source, names["delivered"] or list(line.series), Range1d(start=first, end=last), span, across
            )
        )
    return found


def _kind_of(name: str) -> Kind:
    return next(kind for kind in (*PANELS, OTHER) if re.search(kind.pattern, name))


def label_of(name: str) -> str:
    """What the legend calls a series: the process where the panel says the rest."""
    return re.sub(UNSAID, "", name).replace("_", " ")


def _panel(
    results: Results,
    kind: Kind,
    names: list[str],
    source: ColumnDataSource,
    span: Range1d,
    across: Across,
    *,
    log: bool = False,
) -> DrawnPanel:
    name = f"{kind.name}-log" if log else kind.name
    y_range = DataRange1d() if log else DataRange1d(start=0)
    plot = canvas(
        height=kind.height, x="", x_range=span, y_range=y_range, y_axis_type="log" if log else "linear", name=name
    )
    tick_numbers(plot.yaxis[0])
    _strips(plot, across)
    labels = [(n, label_of(n)) for n in names]
    keys = lines(plot, source, name, labels, bridged=kind.sampled)
    hover(plot, source, [("at", "t", "s"), *((label, n, kind.unit) for n, label in labels)])
    return DrawnPanel(name=name, title=kind.title, plot=plot, seen=seen(results, kind, names), keys=keys)


SAID = 3
"""Of so many series, and so many holes, a panel's words tell; the others are in `results.json`."""


def seen(results: Results, kind: Kind, names: list[str]) -> str:
    """What a panel shows, in words: of each series its peak, its usual value and its holes, and in which fault."""
    said = [f"{label_of(name)} {_course(results, name, kind, holes=i == 0)}" for i, name in enumerate(names[:SAID])]
    if len(names) > SAID:
        said.append(f"{len(names) - SAID} more")
    return "; ".join(said) + "."


def _course(results: Results, name: str, kind: Kind, *, holes: bool) -> str:
    line, unit = results.timeline, kind.unit
    values = line.series[name]
    known = sorted(v for v in values if v is not None)
    if not known:
        return "has no value"
    usual, least, most = known[len(known) // 2], known[0], known[-1]
    if least == most:
        return f"is always {plain(usual, unit)}"
    said = [f"mostly {plain(usual, unit)}"]
    if most > usual:
        peak = values.index(most)
        said.append(f"at most {plain(most, unit)} {_when(results, peak, peak + 1)}")
    if usual and holes:
        inside = range(*_ends(values))
        empty = _stretches([i for i in inside if not values[i] and not (kind.sampled and values[i] is None)])
        for start, end in empty[:SAID]:
            none = "no value" if values[start] is None else "nothing"
            said.append(f"{none} {_when(results, start, end)}")
    return ", ".join(said)


def _ends(values: list[float | None]) -> tuple[int, int]:
    """Where a series has its first value that is not 0, and behind its last."""
    there = [i for i, v in enumerate(values) if v]
    return (there[0], there[-1] + 1) if there else (0, 0)


def _stretches(places: list[int]) -> list[tuple[int, int]]:
    """Neighbours as one stretch, the end behind the last."""
    found: list[tuple[int, int]] = []
    for place in places:
        if found and found[-1][1] == place:
            found[-1] = (found[-1][0], place + 1)
        else:
            found.append((place, place + 1))
    return found


def _when(results: Results, start: int, end: int) -> str:
    """`from 27.0 s to 30.0 s (redis-cut)`: a stretch of slices and the faults in force or just over."""
    line = results.timeline
    first, last = line.from_s + line.slice_s * start, line.from_s + line.slice_s * end
    during = [f.name for f in results.faults if f.injected_s is not None and f.injected_s < last and
              (f.healed_s is None or f.healed_s > first)]  # fmt: skip
    at = f"at {plain(first, 's')}" if end - start == 1 else f"from {plain(first, 's')} to {plain(last, 's')}"
    return f"{at} ({', '.join(dict.fromkeys(during))})" if during else at


def _seen_of_lanes(results: Results) -> str:
    said = [
        f"{f.name} ({f.kind} on {f.link}) from {plain(f.injected_s, 's')} to {plain(f.healed_s, 's')}"
        for f in results.faults
        if f.injected_s is not None
    ]
    more = [f"{len(said) - LANES_AT_MOST} more"] if len(said) > LANES_AT_MOST else []
    return "; ".join(said[:LANES_AT_MOST] + more) + "." if said else "No fault acted."


Across = dict[str, ColumnDataSource]


def _across(results: Results, last: float) -> Across:
    """What stands across every panel, under the names that the live page uses."""
    acted = [f for f in results.faults if f.injected_s is not None]
    edges = [p for p in results.phases if p.phase in ("warm-up", "drain")]
    recoveries = [
        (fault.healed_s, fault.healed_s + (back.limit_s if fresh is None else fresh))
        for fault, back, _ in pair(results)
        if fault is not None and fault.healed_s is not None and back is not None
        for fresh in [None if back.consumers.first_fresh.not_recovered else back.consumers.first_fresh.max]
    ]
    return {
        "faults": ColumnDataSource(
            {
                "from": [f.injected_s for f in acted],
                "to": [last if f.healed_s is None else f.healed_s for f in acted],
            },
            name="faults",
        ),
        "recoveries": ColumnDataSource(
            {"from": [start for start, _ in recoveries], "to": [min(end, last) for _, end in recoveries]},
            name="recoveries",
        ),
        "edges": ColumnDataSource(
            {"from": [p.from_s for p in edges], "to": [p.to_s for p in edges]},
            name="edges",
        ),
        "notes": ColumnDataSource({"at": [note.at_s for note in results.notes]}, name="notes"),
    }


def _strips(plot: figure, across: Across) -> None:
    for name, role in (("recoveries", RECOVERY), ("faults", FAULT), ("edges", "fill:edge")):
        strips(plot, across[name], role)
    if across["notes"].data["at"]:
        put(plot, across["notes"], VSpan(x="at", line_width=1.5, tags=[NOTE]), level="underlay")


def _lanes(results: Results, span: Range1d, first: float, last: float) -> DrawnPanel:
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
    shown = keys[: len(keys) - len(lanes)]
    title = "Phases (top row) and faults"
    return DrawnPanel(name="lanes", title=title, plot=plot, seen=_seen_of_lanes(results), keys=shown)


def _bars(plot: figure, bars: list[tuple[str, str, float, float]], name: str, role: str) -> Key:
    lane, what, left, right = (list(part) for part in zip(*bars, strict=True))
    source = ColumnDataSource({"lane": lane, "what": what, "left": left, "right": right})
    tags = [f"fill:{role}", "stroke:paper"]
    glyph = HBar(y="lane", left="left", right="right", height=0.76, line_width=1, tags=tags)
    drawn = put(plot, source, glyph, name=f"lanes:{name}")
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
    glyph = Text(
        x="t", y="lane", text="what", text_align="right" if before else "left", x_offset=-6 if before else 6,
        text_baseline="middle", text_font=FONT, text_font_size="11px", tags=["text:ink"],
    )  # fmt: skip
    put(plot, source, glyph, name=f"lanes:name:{lane}")


def _overview(
    results: Results, source: ColumnDataSource, names: list[str], whole: Range1d, span: Range1d, across: Across
) -> DrawnPanel:
    plot = canvas(height=84, x="time since T0 in seconds; drag the frame to select", x_range=whole, name="overview")
    plot.yaxis.visible = False
    plot.ygrid.visible = False
    _strips(plot, across)
    lines(plot, source, "overview", [(n, label_of(n)) for n in names[:2]])
    tool = RangeTool(x_range=span, start_gesture="pan")
    tool.overlay.tags = ["range"]
    plot.add_tools(tool)
    seen = "The whole run; the frame is what the panels above show."
    return DrawnPanel(name="overview", title="Range", plot=plot, seen=seen)


def roots(found: list[DrawnPanel]) -> dict[str, Model]:
    """Element of the page -> plot."""
    return {f"plot-{panel.name}": panel.plot for panel in found}


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
