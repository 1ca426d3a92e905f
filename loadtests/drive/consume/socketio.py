"""How does a consumer speak Socket.IO?  Engine.IO 4 and Socket.IO 5 as prefixes of WebSocket text frames.

Only the websocket transport and the default namespace; packets of others are counted as what has no identity. Of a
packet with binary attachments the JSON is read, and the attachments are passed over.
"""

from __future__ import annotations

import copy
import math
import re
from typing import Any, Final

import msgspec

from loadtests.drive.consume.chunks import Control, FrameReading, begins_json, strange
from loadtests.drive.consume.frames import TEXT, encode
from loadtests.drive.consume.transport import Call
from loadtests.drive.consume.websocket import ANSWERS, WebSocket, lacking
from loadtests.model.ids import NS_PER_MS, NS_PER_S
from loadtests.model.registry import SOCKETIO
from loadtests.tally.identity import Form, decoder

QUERY: Final = "?EIO=4&transport=websocket"
_PACKET: Final = re.compile(rb"(4[0-4])(?:/,)?(\d{0,100})([\[{\"].*)?", re.DOTALL)
_BINARY: Final = re.compile(rb"4([56])(\d{1,4})-(?:/,)?(\d{0,100})(\[.*)", re.DOTALL)
_ELSEWHERE: Final = re.compile(rb"4(?:[0-4]|[56]\d{1,4}-)/[^,]+(?:,\d{0,100}([\[{\"].*)?)?", re.DOTALL)
"""A packet of another namespace than the default one."""
_PREFIX: Final = re.compile(rb"\A\d+-?(?:/[^,]*,)?\d*")
_LEAST_NS: Final = NS_PER_S
_MOST_NS: Final = 24 * 3600 * NS_PER_S


def patience_ns(session: dict[str, Any]) -> int | None:
    """How long a client waits for a ping, by the server's open packet: from one second to a day.

    None where the packet does not say, though it must.
    """
    told = (_ms(session.get("pingInterval")), _ms(session.get("pingTimeout")))
    if None in told or (total := sum(ms for ms in told if ms is not None)) <= 0:
        return None
    return min(max(round(min(total, 1e12) * NS_PER_MS), _LEAST_NS), _MOST_NS)


def _ms(told: Any) -> float | None:
    """Milliseconds of an open packet; a number in a string is one, as for python-engineio."""
    if isinstance(told, bool) or not isinstance(told, int | float | str):
        return None
    try:
        ms = float(told)
    except (ValueError, OverflowError):
        return None
    return ms if math.isfinite(ms) and ms >= 0 else None


class SocketIoDialect(WebSocket):
    """Packets in text frames: `42["event", {...}]` from the target, `42<id>["subscribe", {...}]` to it."""

    ready: bool = False

    def __init__(self, path: str, form: Form) -> None:
        self._identity = decoder(form, path, SOCKETIO.envelope)
        self._path = path.split(".")
        self._connect = b"40"

    def open(self, sock: Any, call: Call) -> tuple[Any, bytes]:
        """Upgrade; the session shows its token later."""
        return self.upgraded(sock, call, call.target.socketio_path + QUERY, None)

    def with_token(self, token: str | None) -> SocketIoDialect:
        """The same, for a session that shows a token when it connects."""
        if token is None:
            return self
        shows = copy.copy(self)
        shows._connect = b"40" + msgspec.json.encode({"token": token})
        return shows

    def read(self, opcode: int, payload: bytes) -> FrameReading:
        """Open one data frame."""
        if payload[:3] == b"42[" and opcode == TEXT:
            body = payload[2:]
            identity = self._identity(body)
            if identity is not None:
                return FrameReading(identity, body=body)
            return self._event(payload, body, None)
        if opcode != TEXT:
            return strange(payload, "no identity")
        kind = payload[:1]
        if kind == b"2":
            return FrameReading(control=Control("ping", payload[1:]))
        if kind == b"0":
            session = msgspec.json.decode(payload[1:])
            if not isinstance(session, dict) or not isinstance(session.get("sid"), str):
                return strange(payload)
            patience = patience_ns(session)
            odd = strange(payload).odd if patience is None else None
            return FrameReading(odd=odd, control=Control("open", patience or 0))
        if payload == b"1":
            return FrameReading(control=Control("disconnected", "closed by the server's Engine.IO"))
        if payload == b"6":
            return FrameReading()
        packet = _PACKET.fullmatch(payload)
        if packet is not None:
            return self._packet(payload, packet[1], int(packet[2]) if packet[2] else None, packet[3] or b"")
        packet = _BINARY.fullmatch(payload)
        if packet is None:
            other = _ELSEWHERE.fullmatch(payload)
            if other is None:
                return strange(payload)
            if other[1] is not None:
                msgspec.json.decode(other[1])
            return strange(payload, "no identity")
        kind = b"42" if packet[1] == b"5" else b"43"
        read = self._packet(payload, kind, int(packet[3]) if packet[3] else None, packet[4])
        return read._replace(attachments=int(packet[2]))

    def parts(self, opcode: int, payload: bytes) -> list[bytes]:
        """One packet for each message that an event carries beyond the first, or in a list."""
        if opcode != TEXT or payload[:3] != b"42[":
            return []
        name, *arguments = msgspec.json.decode(payload[2:], type=list[msgspec.Raw])
        found: list[bytes] = []
        for argument in map(bytes, arguments):
            listed = argument[:1] == b"["
            found += map(bytes, msgspec.json.decode(argument, type=list[msgspec.Raw])) if listed else [argument]
        if len(arguments) == len(found) == 1:
            return []
        return [b"42[%b,%b]" % (bytes(name), one) for one in found if one[:1] == b"{"]

    def _packet(self, payload: bytes, kind: bytes, number: int | None, body: bytes) -> FrameReading:
        if kind == b"40":
            return FrameReading(control=Control("connected", msgspec.json.decode(body) if body else None))
        if kind == b"41" and not body and number is None:
            return FrameReading(control=Control("disconnected", "disconnected by the server"))
        if kind == b"44":
            return FrameReading(control=Control("error", msgspec.json.decode(body) if body else None))
        if kind == b"43" and number is not None:
            answers = msgspec.json.decode(body)
            if not isinstance(answers, list):
                return strange(payload)
            return FrameReading(control=Control("ack", answers[0] if answers else None, number))
        if kind == b"42" and body:
            return self._event(payload, body, number)
        return strange(payload)

    def _event(self, payload: bytes, body: bytes, number: int | None) -> FrameReading:
        """An event that wants an acknowledgement, or one without identity."""
        wants = None if number is None else Control("ack wanted", None, number)
        identity = self._identity(body)
        if identity is not None:
            return FrameReading(identity, None, wants, body=body)
        whole = msgspec.json.decode(body)
        event = whole[0] if isinstance(whole, list) and whole else None
        if not isinstance(event, str) or event not in ANSWERS:
            return FrameReading(None, strange(payload, "no identity").odd, wants)
        return FrameReading(control=Control(event, whole[1] if len(whole) > 1 else None))

    def lacks(self, payload: bytes) -> bool:
        """Whether nothing stands where an event should have its identity."""
        event = msgspec.json.decode(payload[payload.index(b"[") :]) if b"[" in payload else None
        return lacking(event[1] if isinstance(event, list) and len(event) > 1 else None, self._path)

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
        return super().greeting(control)
