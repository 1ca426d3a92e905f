"""A transport: Server-Sent Events. One GET opens and subscribes; the answer's body is the stream of events.

The cutter hands on each event as the text `{"event": NAME, "data": DATA}`, which is how plain WebSocket words a
message, so that all of reading is that transport's.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec

from loadtests.drive.consume.chunks import Control
from loadtests.drive.consume.frames import TEXT, Frame, ProtocolError, TooLongError
from loadtests.drive.consume.handshake import RefusedError, UnauthorizedError, read_head
from loadtests.drive.consume.transport import Call
from loadtests.drive.consume.websocket import PlainDialect
from loadtests.model.address import written


class EventCutter:
    """Where events begin and end: each ends with an empty line."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = b""
        self.attachments = 0
        self.broken: ProtocolError | None = None

    @property
    def clean(self) -> bool:
        """Whether the next byte begins an event."""
        return not self._held and self.broken is None

    between = clean

    def give_back(self) -> bytes:
        """Nothing: an event's bytes are not compared with those of others."""
        return b""

    def cut(self, chunk: bytes) -> list[Frame]:
        """The events that are complete with this chunk."""
        if self.broken is not None:
            return []
        *whole, self._held = (self._held + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        if len(self._held) > self._most:
            self.broken, self._held = TooLongError(), b""
        return [(TEXT, told) for text in whole if (told := _told(text)) is not None]


def _told(text: bytes) -> bytes | None:
    """An event as plain WebSocket words it; None for a comment, with which a server keeps a connection open."""
    name, data = b"message", []
    for line in text.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"event":
            name = value.removeprefix(b" ")
        elif field == b"data":
            data.append(value.removeprefix(b" "))
    return b'{"event":%b,"data":%b}' % (msgspec.json.encode(name.decode()), b"\n".join(data)) if data else None


class ServerSentEvents(PlainDialect):
    """Opening subscribes, so that nothing is asked later, and a close says enough."""

    asks = False

    def open(self, sock: Any, call: Call) -> tuple[Any, bytes]:
        """Ask for the events of the consumer's channels; to HTTP/1.0 a server answers without chunks."""
        path = f"{call.target.websocket_path}?{urlencode({'channels': ','.join(call.plan.channels)})}"
        bearer = f"Authorization: Bearer {call.token}\r\n" if call.token is not None else ""
        sock.sendall(
            f"GET {path} HTTP/1.0\r\nHost: {written(call.host, call.port)}\r\nUser-Agent: {call.agent}\r\n{bearer}"
            "Accept: text/event-stream\r\n\r\n".encode()
        )
        head, behind = read_head(sock)
        status, *headers = head.decode("latin-1").lower().split("\r\n")
        if status.split(" ")[1:2] in (["401"], ["403"]):
            raise UnauthorizedError(status)
        if status.split(" ")[1:2] != ["200"] or not any("text/event-stream" in line for line in headers):
            raise RefusedError(f"no stream of events: {status}")
        if any(line.startswith("transfer-encoding:") for line in headers):
            raise RefusedError("a stream of events in chunks, which was not asked for")
        return sock, behind

    def cutter(self, most_bytes: int) -> Any:
        """Of one connection."""
        return EventCutter(most_bytes)

    def request(self, action: str, number: int, body: dict[str, Any]) -> bytes:
        """There is no way back to the server."""
        return b""

    def greeting(self, control: Control) -> bytes | None:
        """Nothing is answered."""
        return None

    def goodbye(self, code: int = 1000, reason: str = "") -> bytes:
        """A close says enough."""
        return b""
