"""What does one see in Locust's web UI while a run goes on?  A live page, its data, a link to it, and the reports.

Nothing here judges: the harness hands in the value, and the report is a file that `analyze` wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import msgspec
from bokeh.core.json_encoder import serialize_json
from bokeh.document import Document
from bokeh.models import BasicTicker, ColumnDataSource, CrosshairTool, DataRange1d, Model, NumeralTickFormatter, Range1d
from bokeh.models.annotations import Span
from bokeh.plotting import figure
from bokeh.resources import Resources
from flask import Blueprint, Response, jsonify, make_response, request, send_file
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from loadtests.model.live import Between, Live
from loadtests.model.panels import AXIS, CANVAS, COLOURS, DASHES, FAULT, NOTE, PANELS, RECOVERY, TICKS, UNSAID, Panel
from loadtests.model.profile.manual_fault import MAX_NOTE, ManualFaultRefused, forms
from loadtests.webui.access_guard import refused

View = Callable[..., Response]
STYLES = ("live.css", "manual_faults.css")
SCRIPTS = ("live.js", "pipeline.js", "manual_faults.js")
SLOTS = COLOURS
"""Lines that a panel can show; the script gives them to series in the order in which these appear."""
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NUMBERS = (
    ("now_s", "time since T0", "s"),
    ("connected", "connected clients", "count"),
    ("published", "published", "count"),
    ("owed", "owed deliveries", "count"),
    ("delivered", "delivered", "count"),
    ("lost_so_far", "lost", "count"),
    ("overdue", "overdue: late, lost or missed", "count"),
    ("unseen", "unseen, and may come in time", "count"),
    ("repeated", "repeated", "count"),
    ("not_offered", "not offered", "count"),
    ("latency_ms.p50", "latency p50", "ms"),
    ("latency_ms.p95", "latency p95", "ms"),
    ("latency_ms.p99", "latency p99", "ms"),
)


def attach_page(
    environment: Any,
    live: Callable[[float | None], Live],
    report: Callable[[str], Path | None],
    manual: ManualActions,
    between: Callable[[], Between],
) -> None:
    """Register `/tickstorm`, what it asks for, `/reports/<run>/report.html` and `manual`'s routes in Locust's web UI.

    Call it before the web UI starts, for example from Locust's `init`. `live` is called about once a second for each
    browser, with the time up to which that browser has the series; `report` gives the file of a run's report or None;
    `between` tells what there is while no run goes on, and is called where a browser sees that none does.
    All of it asks for the login where `--web-login` does; `access_guard` stands before it.
    """
    web_ui = environment.web_ui
    base = web_ui.app.blueprints["locust"].url_prefix or ""
    pages = Blueprint("tickstorm", __name__, url_prefix=f"{base}/tickstorm")
    guarded: Callable[[View], View] = web_ui.auth_required_if_enabled
    # Rendered before any run: in the middle of one it would stop the load generator's hub for a second or two.
    text = _page().encode()

    @pages.route("")
    @guarded
    def live_page() -> Response:
        return _no_store(Response(text, mimetype="text/html"))

    @pages.route("/live.json")
    @guarded
    def live_json() -> Response:
        since = request.args.get("since", type=float)
        known = since if since is not None and isfinite(since) else None
        return _no_store(Response(msgspec.json.encode(live(known)), mimetype="application/json"))

    @pages.route("/between.json")
    @guarded
    def between_json() -> Response:
        return _no_store(Response(msgspec.json.encode(between()), mimetype="application/json"))

    @pages.route("/reports/<run>/report.html")
    @guarded
    def report_page(run: str) -> Response:
        path = report(run) if RUN_ID.fullmatch(run) else None
        if path is None:
            return make_response("There is no report of such a run.", 404)
        return _no_store(send_file(path.resolve(), mimetype="text/html"))

    attach_manual_routes(pages, guarded, manual)
    web_ui.app.register_blueprint(pages)


def _no_store(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response


@cache
def _page() -> str:
    """The page; it holds nothing of any run, no token, and no address but relative ones."""
    shared = resources.files("loadtests.report")  # the look that the report has: data, not code
    own = resources.files("loadtests.webui")
    made = Environment(loader=PackageLoader("loadtests.webui", "."), autoescape=True, undefined=StrictUndefined)
    bokeh = "\n".join(Resources(mode="inline", components=["bokeh"], log_level="error").js_raw)
    text: str = made.get_template("live.html.j2").render(
        numbers=NUMBERS,
        panels=PANELS,
        unsaid=UNSAID,
        max_note=MAX_NOTE,
        forms=Markup(msgspec.json.encode(forms()).decode().replace("<", "\\u003c")),
        css=Markup("".join(f.read_text("utf-8") for f in (shared / "theme.css", *(own / name for name in STYLES)))),
        shared=Markup((shared / "plots.js").read_text("utf-8")),
        scripts=[Markup((own / name).read_text("utf-8")) for name in SCRIPTS],
        bokeh=Markup(bokeh.replace("</script", "<\\/script")),
        plots=Markup(_panels_json()),
    )
    return text


# -- what the page draws on: empty panels on one time axis, which its script fills from `live.json`


def _panels_json() -> str:
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


# -- faults by hand


MOST_BYTES = 16_384
STATUS = {"bad": 400, "not allowed": 403, "conflict": 409}

Json = Any
Guard = Callable[[Callable[..., Response]], Callable[..., Response]]


class ManualActions(Protocol):
    """What the harness lets a user do. Methods raise ManualFaultRefused with a sentence for the user."""

    def begin(self, asked: Mapping[str, Any]) -> str:
        """Play a fault now; its name."""
        ...

    def end(self, fault: str) -> list[str]:
        """Lift one fault, or drop it from the plan."""
        ...

    def end_all(self, *, place: str = "", plan: bool = False) -> list[str]:
        """Lift all that is in force, at one place or everywhere; `plan`: drop what is planned as well."""
        ...

    def note(self, text: object) -> None:
        """Write something down."""
        ...


def attach_manual_routes(pages: Blueprint, guarded: Guard, manual: ManualActions) -> None:
    """Register POST `/fault`, `/heal` and `/note` below the blueprint; `guarded` asks for Locust's login."""

    def route(name: str, act: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        def answer() -> Response:
            if (refusal := _no_json()) is not None:
                return refusal
            try:
                return make_response(jsonify({"ok": True, **act(_body())}), 200)
            except ManualFaultRefused as error:
                return refused(STATUS[error.why], str(error))

        pages.add_url_rule(f"/{name}", endpoint=f"act_{name}", view_func=guarded(answer), methods=["POST"])

    def heal(asked: Mapping[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(asked) - {"fault", "place", "plan"}):
            raise ManualFaultRefused("bad", f"{unknown[0]}: not known here, known are fault, place, plan")
        fault, place, plan = asked.get("fault", ""), asked.get("place", ""), asked.get("plan", False)
        if not isinstance(fault, str) or not isinstance(place, str) or not isinstance(plan, bool):
            raise ManualFaultRefused("bad", "fault and place are names, plan is true or false")
        return {"faults": manual.end(fault) if fault else manual.end_all(place=place, plan=plan)}

    def note(asked: Mapping[str, Any]) -> dict[str, Any]:
        manual.note(asked.get("text"))
        return {}

    route("fault", lambda asked: {"fault": manual.begin(asked)})
    route("heal", heal)
    route("note", note)


def _no_json() -> Response | None:
    """Forms of foreign pages cannot say JSON; the access guard has looked at everything else."""
    return None if request.mimetype == "application/json" else refused(415, "only JSON is understood here")


def _body() -> Mapping[str, Any]:
    if (request.content_length or 0) > MOST_BYTES:
        raise ManualFaultRefused("bad", f"found {request.content_length} bytes, allowed up to {MOST_BYTES}")
    found: Json = request.get_json(silent=True)
    if not isinstance(found, dict):
        raise ManualFaultRefused("bad", "found no JSON object")
    return found
