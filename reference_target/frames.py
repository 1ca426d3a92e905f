"""Which bytes does an event have on each transport?  Pure: no socket, no client."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from reference_target.events import Event

_encode = msgspec.json.Encoder().encode
_pack_short = struct.Struct("!BBH").pack
_pack_long = struct.Struct("!BBQ").pack
TEXT = 0x81


def text_frame(text: bytes) -> bytes:
    """One unmasked, unfragmented, uncompressed WebSocket text frame (RFC 6455, 5.2)."""
    length = len(text)
    if length < 126:
        return bytes((TEXT, length)) + text
    if length < 65536:
        return _pack_short(TEXT, 126, length) + text
    return _pack_long(TEXT, 127, length) + text


def plain(event: Event) -> bytes:
    """The event as a frame for plain WebSocket clients; made once."""
    frame = event.plain
    if frame is None:
        # event type and channel are known constants without a character that JSON would escape
        head = f'{{"event":"{event.event_type}","channel":"{event.channel}","data":'.encode()
        frame = event.plain = text_frame(head + event.payload + b"}")
    return frame


def socketio(event: Event) -> bytes:
    """The event as a frame for Socket.IO clients on the WebSocket transport; made once."""
    frame = event.socketio
    if frame is None:
        frame = event.socketio = text_frame(b'42["%b",%b]' % (event.event_type.encode(), event.payload))
    return frame


def socketio_text(event: Event) -> str:
    """The event as the data of an Engine.IO message packet, for polling clients."""
    return f'2["{event.event_type}",{event.payload.decode()}]'


def joined_plain(events: Sequence[Event]) -> bytes:
    """The frames of several events in their order; of one event its own bytes object."""
    return plain(events[0]) if len(events) == 1 else b"".join([plain(event) for event in events])


def joined_socketio(events: Sequence[Event]) -> bytes:
    """The same for Socket.IO clients."""
    return socketio(events[0]) if len(events) == 1 else b"".join([socketio(event) for event in events])


def answer(event: str, data: object) -> bytes:
    """A frame with an answer to one plain client."""
    return text_frame(_encode({"event": event, "data": data}))


def answer_text(event: str, data: object) -> str:
    """The data of an Engine.IO message packet with an answer to one Socket.IO client."""
    return "2" + _encode([event, data]).decode()
