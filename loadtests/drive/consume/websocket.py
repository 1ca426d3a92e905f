"""How does a consumer speak plain WebSocket?  The target's JSON requests and answers.

Several messages may come in one text frame: in lines (or behind record separators), or as a list.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, Final

import msgspec

from loadtests.drive.consume.chunks import JOINED_MAX, Control, FrameReading, begins_json, strange
from loadtests.drive.consume.frames import PONG, TEXT, Cutter, close_answer, encode, encode_close
from loadtests.drive.consume.handshake import upgrade
from loadtests.drive.consume.transport import Call
from loadtests.model.registry import WEBSOCKET
from loadtests.tally.identity import Form, decoder

ANSWERS: Final = frozenset({"subscribed", "unsubscribed", "error", "pong", "health"})
"""Events by which the target talks to one client; anything else without an identity is a strange message."""


_LINE: Final = re.compile(rb"[^\n\x1e]+")


def lacking(whole: Any, path: list[str]) -> bool:
    """Whether nothing stands at the end of a path through objects."""
    for step in path:
        whole = whole.get(step) if isinstance(whole, dict) else None
    return whole is None


class WebSocket:
    """What every transport on WebSocket shares: the upgrade, the frames, and the answers to control frames."""

    ready: bool = True
    asks: bool = True

    def upgraded(self, sock: Any, call: Call, path: str, bearer: str | None) -> tuple[Any, bytes]:
        """A WebSocket on a connected socket, and the bytes behind the answer. Raises as `handshake.upgrade` does."""
        if call.target.compression:
            from loadtests.drive.consume import deflate  # its library takes longer to import than all else here

            return deflate.upgrade(sock, call.host, call.port, path, call.agent, bearer, call.message_bytes)
        return sock, upgrade(sock, call.host, call.port, path, call.agent, bearer)

    def cutter(self, most_bytes: int) -> Cutter:
        """Of one connection."""
        return Cutter(most_bytes)

    def greeting(self, control: Control) -> bytes | None:
        """Frame with which to answer a control message by itself; None where none is due."""
        if control.event == "ws-ping":
            return encode(PONG, control.data)
        return close_answer(control.data) if control.event == "ws-close" else None

    def goodbye(self, code: int = 1000, reason: str = "") -> bytes:
        """A close frame."""
        return encode_close(code, reason)


class PlainDialect(WebSocket):
    """JSON objects in frames: `{"event": ..., "data": {...}}` from the target, `{"action": ...}` to it."""

    def __init__(self, path: str, form: Form) -> None:
        self._identity = decoder(form, path, WEBSOCKET.envelope)
        self._path = [*map(str, WEBSOCKET.envelope), *path.split(".")]

    def open(self, sock: Any, call: Call) -> tuple[Any, bytes]:
        """Upgrade, with the token in a header."""
        return self.upgraded(sock, call, call.target.websocket_path, call.token)

    def with_token(self, token: str | None) -> PlainDialect:
        """The same: the upgrade has shown it already."""
        del token
        return self

    def read(self, opcode: int, payload: bytes) -> FrameReading:
        """Open one data frame."""
        identity = self._identity(payload)
        if identity is not None:
            return FrameReading(identity, body=payload)
        whole = msgspec.json.decode(payload)
        event = whole.get("event") if isinstance(whole, dict) else None
        if not isinstance(event, str) or event not in ANSWERS:
            return strange(payload, "no identity")
        data = whole.get("data")
        number = data.get("id") if isinstance(data, dict) else None
        return FrameReading(control=Control(event, data, number if isinstance(number, int) else None))

    def parts(self, opcode: int, payload: bytes) -> list[bytes]:
        """The messages that one frame joins; empty where it joins none."""
        if payload.lstrip()[:1] == b"[":
            listed = msgspec.json.decode(payload, type=list[msgspec.Raw])
            found = [bytes(one) for one in listed]
            return found if all(one[:1] == b"{" for one in found) else []
        if opcode != TEXT:
            return []
        lines = [line for m in islice(_LINE.finditer(payload), JOINED_MAX + 1) if (line := m[0].strip())]
        return lines if len(lines) > 1 and any(line[:1] == b"{" for line in lines) else []

    def lacks(self, payload: bytes) -> bool:
        """Whether nothing stands where a frame that is JSON should have its identity."""
        return lacking(msgspec.json.decode(payload), self._path)

    def unreadable(self, opcode: int, payload: bytes) -> str:
        """Kind of the record of a data frame that `read` could not open."""
        return "undecodable" if opcode == TEXT and begins_json(payload) else "no identity"

    def request(self, action: str, number: int, body: dict[str, Any]) -> bytes:
        """Frame of a request."""
        return encode(TEXT, msgspec.json.encode({"action": action, "id": number} | body))
