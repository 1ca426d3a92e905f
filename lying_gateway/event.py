"""Which message did Redis publish, and which bytes is it on each transport?  Pure; each encoding is made once.

The identity of a message is the object under `tickstorm` in its payload: `{"r": run, "s": stream, "q": seq, "d": due
ns, "t": sent ns}`.  A stream's lowest 20 bits are its route.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final, Literal

from lying_gateway.frames import frame

Transport = Literal["websocket", "socketio"]
IDENTITY: Final = "tickstorm"
ROUTE_MASK: Final = (1 << 20) - 1
_PROBE: Final = "~probe"
_NO_EVENTS: Final = "tickstock.health."  # what services say of themselves


@lru_cache(maxsize=1024)
def quoted(text: str) -> bytes:
    """A string as JSON."""
    return json.dumps(text).encode()


class Event:
    """One message of Redis; `n` is its number since the start, -1 for one that was made up."""

    __slots__ = (
        "channel", "due_ns", "event_type", "forwarded", "got_ns", "matches", "n", "pattern", "payload", "plain", "run",
        "sent_ns", "seq", "since_ns", "socketio", "stream", "symbol",
    )  # fmt: skip

    def __init__(self, n: int, channel: str, payload: bytes, got_ns: int) -> None:
        self.n = n
        self.channel = channel
        self.payload = payload
        self.got_ns = got_ns
        self.event_type = ""
        self.pattern: str | None = None
        self.symbol: str | None = None
        self.run: str | None = None  # None: no identity; the four below are 0 then
        self.stream = self.seq = self.due_ns = self.sent_ns = 0
        self.since_ns = 0  # due, counted from the first due of its run
        self.forwarded = False
        self.matches: dict[int, bool] = {}  # rule -> whether it concerns this event, for whatever consumer
        self.plain = b""
        self.socketio = b""
        self._read()

    def _read(self) -> None:
        try:
            body = json.loads(self.payload.decode())
        except (ValueError, RecursionError):
            return
        if not isinstance(body, dict) or not isinstance(body.get("event_type"), str):
            return
        self.event_type = body["event_type"]
        self.forwarded = not self.channel.startswith(_NO_EVENTS)
        pattern, symbol, who = body.get("pattern"), body.get("symbol"), body.get(IDENTITY)
        self.pattern = pattern if isinstance(pattern, str) else None
        self.symbol = symbol if isinstance(symbol, str) else None
        if not isinstance(who, dict):
            return
        run, numbers = who.get("r"), [who.get(key) for key in "sqdt"]
        if isinstance(run, str) and all(type(number) is int for number in numbers):
            self.run = run
            self.stream, self.seq, self.due_ns, self.sent_ns = numbers  # type: ignore[assignment]

    @property
    def may_be_spoilt(self) -> bool:
        """Lies concern messages with an identity; a run's probe messages are spared, or it could not begin."""
        return self.run is not None and not self.run.endswith(_PROBE)

    def frame(self, transport: Transport) -> bytes:
        """The whole frame; the same bytes object at each call."""
        if transport == "websocket":
            if not self.plain:
                self.plain = frame(envelope(transport, self.event_type, self.channel, self.payload))
            return self.plain
        if not self.socketio:
            self.socketio = frame(envelope(transport, self.event_type, self.channel, self.payload))
        return self.socketio

    def bare(self) -> bytes:
        """The payload without anything but its type and its identity."""
        body = json.loads(self.payload)
        kept = {key: body[key] for key in ("event_type", IDENTITY)}
        return json.dumps(kept, separators=(",", ":")).encode()

    def changed(self, **identity: Any) -> bytes:
        """The payload with parts of its identity changed; without its identity where none is given."""
        body = json.loads(self.payload)
        if identity:
            body[IDENTITY] = body[IDENTITY] | identity
        else:
            del body[IDENTITY]
        return json.dumps(body, separators=(",", ":")).encode()


def envelope(transport: Transport, event_type: str, channel: str, payload: bytes) -> bytes:
    """The text that carries a payload to a client."""
    if transport == "websocket":
        return b'{"event":%b,"channel":%b,"data":%b}' % (quoted(event_type), quoted(channel), payload)
    return b"42[%b,%b]" % (quoted(event_type), payload)
