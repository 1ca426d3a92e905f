"""How does the page's user act on a run?  POST routes that change something; `access_guard` says who may use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flask import Blueprint, Response, jsonify, make_response, request

from loadtests.model.profile.manual_fault import ManualFaultRefused
from loadtests.webui.access_guard import refused

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
