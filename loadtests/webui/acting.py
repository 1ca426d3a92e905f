"""How does the page's user act on a run?  POST routes that change something, and who may not use them.

A request counts only when it comes from our own page: it names the token that the page was served with, says JSON,
asks for this machine by a name that is its own, and no browser says that another site made it.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import socket
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, Protocol
from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify, make_response, request

from loadtests.model.byhand import Refused

HEADER = "X-Tickstorm-Token"
WEB_HOSTS = "TICKSTORM_WEB_HOSTS"
"""Environment: more names, with commas between, under which browsers may reach the page, such as a proxy's."""

MOST_BYTES = 16_384
STATUS = {"bad": 400, "not allowed": 403, "conflict": 409}

Json = Any
Guard = Callable[[Callable[..., Response]], Callable[..., Response]]


class Hands(Protocol):
    """What the harness lets a user do. Methods raise `model.byhand.Refused` with a sentence for the user."""

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


def attach_acting(pages: Blueprint, guarded: Guard, hands: Hands, token: str) -> None:
    """Register POST `/fault`, `/heal` and `/note` below the blueprint; `guarded` asks for Locust's login."""

    def route(name: str, act: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        def answer() -> Response:
            if (refusal := _forged(token)) is not None:
                return refusal
            try:
                return make_response(jsonify({"ok": True, **act(_body())}), 200)
            except Refused as error:
                return _refused(STATUS[error.why], str(error))

        pages.add_url_rule(f"/{name}", endpoint=f"act_{name}", view_func=guarded(answer), methods=["POST"])

    def heal(asked: Mapping[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(asked) - {"fault", "place", "plan"}):
            raise Refused("bad", f"{unknown[0]}: not known here, known are fault, place, plan")
        fault, place, plan = asked.get("fault", ""), asked.get("place", ""), asked.get("plan", False)
        if not isinstance(fault, str) or not isinstance(place, str) or not isinstance(plan, bool):
            raise Refused("bad", "fault and place are names, plan is true or false")
        return {"faults": hands.end(fault) if fault else hands.end_all(place=place, plan=plan)}

    def note(asked: Mapping[str, Any]) -> dict[str, Any]:
        hands.note(asked.get("text"))
        return {}

    route("fault", lambda asked: {"fault": hands.begin(asked)})
    route("heal", heal)
    route("note", note)


def is_ours(asked: str, names: Collection[str]) -> bool:
    """Whether a request's Host means this machine: an address, or a name of it.

    A name of somebody else may lead here as well (DNS rebinding): his page would then pass for ours.
    """
    host = _host(asked)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost") or host in {name.lower() for name in names}
    return True


def own_names(bound: str) -> frozenset[str]:
    """Names under which the page may be asked for besides addresses: bound to, this machine's, and those configured."""
    said = os.environ.get(WEB_HOSTS, "").split(",")
    return frozenset(name for each in (bound, *_machine(), *said) if (name := each.strip().lower()))


@cache
def _machine() -> tuple[str, ...]:
    return (socket.gethostname(),)


def _host(asked: str) -> str:
    """The name or address without port and brackets; empty where it is none."""
    try:
        return (urlsplit(f"//{asked}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _forged(token: str) -> Response | None:
    """Why this request is not from our page, or None."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site != "same-origin":
        return _refused(403, "this request comes from another site")
    origin = request.headers.get("Origin")
    if site is None and origin is not None and urlsplit(origin).netloc != request.host:
        return _refused(403, "this request comes from another site")
    if not hmac.compare_digest(request.headers.get(HEADER, "").encode(), token.encode()):
        return _refused(403, "the page's token is missing or was made by another start of Locust: reload the page")
    if request.mimetype != "application/json":
        return _refused(415, "only JSON is understood here")
    return None


def _body() -> Mapping[str, Any]:
    if (request.content_length or 0) > MOST_BYTES:
        raise Refused("bad", f"found {request.content_length} bytes, allowed up to {MOST_BYTES}")
    found: Json = request.get_json(silent=True)
    if not isinstance(found, dict):
        raise Refused("bad", "found no JSON object")
    return found


def _refused(status: int, text: str) -> Response:
    return make_response(jsonify({"ok": False, "error": text}), status)
