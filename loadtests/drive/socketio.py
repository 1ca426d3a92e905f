"""How does a consumer speak Socket.IO?  Engine.IO 4 and Socket.IO 5 as prefixes of WebSocket text frames.

Only the websocket transport and the default namespace; other namespaces, and packets with binary attachments and these
attachments, are counted as what has no identity.
"""

from __future__ import annotations

import copy
import re
from typing import Any, Final

import msgspec

from loadtests.drive.chunks import Control, Reading, begins_json, strange
from loadtests.drive.frames import TEXT, encode
from loadtests.drive.websocket import ANSWERS
from loadtests.tally.identity import Form, decoder

QUERY: Final = "?EIO=4&transport=websocket"
_PACKET: Final = re.compile(rb"(4[0-4])(?:/,)?(\d{0,15})([\[{\"].*)?", re.DOTALL)
_ELSEWHERE: Final = re.compile(rb"4(?:[0-4](?=/[^,])|[56]\d{1,9}-)(?:/[^,]*,?)?\d{0,15}([\[{\"].*)?", re.DOTALL)
"""A packet of another namespace, or one whose attachments follow as binary frames."""
_PREFIX: Final = re.compile(rb"\A\d+-?(?:/[^,]*,)?\d*")


class SocketIoDialect:
    """Packets in text frames: `42["event", {...}]` from the target, `42<id>["subscribe", {...}]` to it."""

    name: Final = "socketio"

    def __init__(self, path: str, form: Form) -> None:
        self._identity = decoder(form, path, "socketio")
        self._connect = b"40"

    def with_token(self, token: str | None) -> SocketIoDialect:
        """The same, for a session that shows a token when it connects."""
        if token is None:
            return self
        shows = copy.copy(self)
        shows._connect = b"40" + msgspec.json.encode({"token": token})
        return shows

    def read(self, opcode: int, payload: bytes) -> Reading:
        """Open one data frame."""
        if payload[:3] == b"42[" and opcode == TEXT:
            body = payload[2:]
            identity = self._identity(body)
            if identity is not None:
                return Reading(identity, body=body)
            return self._event(payload, body, None)
        if opcode != TEXT:
            return strange(payload, "no identity")
        kind = payload[:1]
        if kind == b"2":
            return Reading(control=Control("ping", payload[1:]))
        if kind == b"0":
            session = msgspec.json.decode(payload[1:])
            if not isinstance(session, dict) or not isinstance(session.get("sid"), str):
                return strange(payload)
            return Reading(control=Control("open", session))
        if payload == b"1":
            return Reading(control=Control("disconnected", "closed by the server's Engine.IO"))
        if payload == b"6":
            return Reading()
        packet = _PACKET.fullmatch(payload)
        if packet is None:
            other = _ELSEWHERE.fullmatch(payload)
            if other is None:
                return strange(payload)
            if other[1] is not None:
                msgspec.json.decode(other[1])
            return strange(payload, "no identity")
        return self._packet(payload, packet[1], int(packet[2]) if packet[2] else None, packet[3] or b"")

    def _packet(self, payload: bytes, kind: bytes, number: int | None, body: bytes) -> Reading:
        if kind == b"40":
            return Reading(control=Control("connected", msgspec.json.decode(body) if body else None))
        if kind == b"41" and not body and number is None:
            return Reading(control=Control("disconnected", "disconnected by the server"))
        if kind == b"44":
            return Reading(control=Control("error", msgspec.json.decode(body) if body else None))
        if kind == b"43" and number is not None:
            answers = msgspec.json.decode(body)
            if not isinstance(answers, list):
                return strange(payload)
            return Reading(control=Control("ack", answers[0] if answers else None, number))
        if kind == b"42" and body:
            return self._event(payload, body, number)
        return strange(payload)

    def _event(self, payload: bytes, body: bytes, number: int | None) -> Reading:
        """An event that wants an acknowledgement, or one without identity."""
        wants = None if number is None else Control("ack wanted", None, number)
        identity = self._identity(body)
        if identity is not None:
            return Reading(identity, None, wants, body)
        whole = msgspec.json.decode(body)
        event = whole[0] if isinstance(whole, list) and whole else None
        if not isinstance(event, str) or event not in ANSWERS:
            return Reading(None, strange(payload, "no identity").odd, wants)
        return Reading(control=Control(event, whole[1] if len(whole) > 1 else None))

    def unreadable(self, opcode: int, payload: bytes) -> str:
        """Kind of the record of a data frame that `read` could not open."""
        del opcode  # only texts are opened
        return "undecodable" if begins_json(_PREFIX.sub(b"", payload, count=1)) else "protocol"

    def request(self, action: str, number: int, body: dict[str, Any]) -> bytes:
        """Frame of an event that asks for an acknowledgement."""
        return encode(TEXT, b"42%d%b" % (number, msgspec.json.encode([action, body])))

    def greeting(self, control: Control) -> bytes | None:
        """Frame with which to answer a control message by itself; None where none is due."""
        if control.event == "open":
            return encode(TEXT, self._connect)
        if control.event == "ping":
            return encode(TEXT, b"3" + control.data)
        if control.event == "ack wanted":
            return encode(TEXT, b"43%d[]" % (control.number or 0))
        return None
