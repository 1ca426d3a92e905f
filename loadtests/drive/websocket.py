"""How does a consumer speak plain WebSocket?  The target's JSON requests and answers."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from loadtests.drive.chunks import Control, Reading, begins_json, strange
from loadtests.drive.frames import TEXT, encode
from loadtests.tally.identity import Form, decoder

ANSWERS: Final = frozenset({"subscribed", "unsubscribed", "error", "pong", "health"})
"""Events by which the target talks to one client; anything else without an identity is a strange message."""


class PlainDialect:
    """JSON objects in frames: `{"event": ..., "data": {...}}` from the target, `{"action": ...}` to it."""

    name: Final = "websocket"

    def __init__(self, path: str, form: Form) -> None:
        self._identity = decoder(form, path, "websocket")

    def with_token(self, token: str | None) -> PlainDialect:
        """The same: the upgrade has shown it already."""
        del token
        return self

    def read(self, opcode: int, payload: bytes) -> Reading:
        """Open one data frame."""
        identity = self._identity(payload)
        if identity is not None:
            return Reading(identity, body=payload)
        whole = msgspec.json.decode(payload)
        event = whole.get("event") if isinstance(whole, dict) else None
        if not isinstance(event, str) or event not in ANSWERS:
            return strange(payload, "no identity")
        data = whole.get("data")
        number = data.get("id") if isinstance(data, dict) else None
        return Reading(control=Control(event, data, number if isinstance(number, int) else None))

    def unreadable(self, opcode: int, payload: bytes) -> str:
        """Kind of the record of a data frame that `read` could not open."""
        return "undecodable" if opcode == TEXT and begins_json(payload) else "no identity"

    def request(self, action: str, number: int, body: dict[str, Any]) -> bytes:
        """Frame of a request."""
        return encode(TEXT, msgspec.json.encode({"action": action, "id": number} | body))

    def greeting(self, control: Control) -> bytes | None:
        """Frame with which to answer a control message by itself; None where none is due."""
        del control
        return None
