"""What does a client say, and how is it answered?  JSON objects, or Engine.IO and Socket.IO packets; no socket."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from lying_gateway.event import Transport
from lying_gateway.frames import frame
from lying_gateway.rooms import Filter

_OPEN: Final = {"upgrades": [], "maxPayload": 1_000_000}
_EVENT: Final = re.compile(r"42(\d*)(\[.*)", re.DOTALL)
_EVERYTHING: Final = Filter()
_ACTIONS: Final = ("subscribe", "unsubscribe", "ping")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRequest:
    """One request."""

    action: str  # subscribe, unsubscribe, ping; connect and disconnect of Socket.IO; "" for a bad one
    id: Any = None
    ack: int | None = None  # Socket.IO: the number that its acknowledgement has
    filter: Filter = _EVERYTHING
    health: bool = False
    reason: str = ""  # why it is bad


def open_packet(connection: int, ping_interval_ms: int, ping_timeout_ms: int) -> bytes:
    """What a Socket.IO server says first."""
    pings = {"pingInterval": ping_interval_ms, "pingTimeout": ping_timeout_ms}
    return frame(b"0" + json.dumps({"sid": f"engine-{connection}"} | pings | _OPEN).encode())


def connected_packet(connection: int) -> bytes:
    """The answer to a connect in the default namespace."""
    return frame(b"40" + json.dumps({"sid": f"socket-{connection}"}).encode())


def ping_packet() -> bytes:
    """Engine.IO's heartbeat."""
    return frame(b"2")


def read(transport: Transport, text: str) -> ClientRequest | None:
    """The request in a text message; None where it wants no answer."""
    return _plain(text) if transport == "websocket" else _socketio(text)


def reply(transport: Transport, asked: ClientRequest, event: str, data: dict[str, Any]) -> bytes:
    """The answer as a frame."""
    if transport == "websocket":
        return told(transport, event, data)
    if asked.ack is not None:
        return frame(b"43%d%b" % (asked.ack, json.dumps([data]).encode()))
    return told(transport, event, data)


def told(transport: Transport, event: str, data: dict[str, Any]) -> bytes:
    """An event that is no message of the load, as a frame."""
    if transport == "websocket":
        return frame(json.dumps({"event": event, "data": data}).encode())
    return frame(b"42" + json.dumps([event, data]).encode())


def _plain(text: str) -> ClientRequest:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        return ClientRequest(action="", reason=f"not JSON: {error}")
    if not isinstance(body, dict):
        return ClientRequest(action="", reason="a request is an object")
    return _asked(body.get("action"), body, None)


def _socketio(text: str) -> ClientRequest | None:
    if text.startswith("40"):
        return ClientRequest(action="connect")
    if text.startswith(("41", "1")):
        return ClientRequest(action="disconnect")
    found = _EVENT.fullmatch(text)
    if found is None:
        return None  # a pong, or a packet that no client awaits
    ack = int(found[1]) if found[1] else None
    try:
        name, *rest = json.loads(found[2])
    except (ValueError, RecursionError) as error:
        return ClientRequest(action="", ack=ack, reason=f"not JSON: {error}")
    return _asked(name, rest[0] if rest else {}, ack)


def _asked(action: Any, body: Any, ack: int | None) -> ClientRequest:
    if not isinstance(body, dict):
        return ClientRequest(action="", ack=ack, reason="a request is an object")
    number = body.get("id")
    if action not in _ACTIONS:
        return ClientRequest(action="", id=number, ack=ack, reason=f"unknown action {action!r}")
    lists = [body.get(key) or [] for key in ("channels", "patterns", "symbols")]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        return ClientRequest(action="", id=number, ack=ack, reason="channels, patterns and symbols are lists of names")
    return ClientRequest(
        action=action,
        id=number,
        ack=ack,
        filter=Filter(*(tuple(sorted(set(names))) for names in lists)),
        health=body.get("health") is True,
    )
