"""Which frames look like messages of the load and are none?  Made from a real message; remembers what was published."""

from __future__ import annotations

from typing import Any, Final

from lying_gateway.client import Client
from lying_gateway.event import ROUTE_MASK, Event, Transport, envelope
from lying_gateway.frames import frame
from lying_gateway.plan import Rule

_KEPT: Final = 1000
_OTHER_RUN: Final = "~lie"


class Spurious:
    """Makes the frames; those that are the same for all clients once per message."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str | None, str | None], Event] = {}  # by what filters look at, newest last
        self._made: dict[tuple[str, Transport], tuple[bytes, dict[str, Any]]] = {}
        self._made_of: Event | None = None

    @staticmethod
    def changed(rule: Rule, client: Client, event: Event) -> bytes:
        """A message that keeps its place and is not what was published."""
        if rule.kind == "altered":
            payload = event.bare()
        elif rule.kind == "restamped":
            payload = event.changed(d=event.due_ns + rule.wait_ns, t=event.sent_ns + rule.wait_ns)
        else:
            assert rule.kind == "oversize", rule.kind
            payload = event.payload + b" " * (rule.size - len(event.payload))
        return frame(envelope(client.transport, event.event_type, event.channel, payload))

    def seen(self, event: Event) -> None:
        """A message that may be sent to a client to which it is not owed."""
        key = (event.channel, event.pattern, event.symbol)
        self._newest.pop(key, None)
        self._newest[key] = event
        if len(self._newest) > _KEPT:
            del self._newest[next(iter(self._newest))]

    def make(self, kind: str, client: Client, event: Event) -> tuple[bytes, dict[str, Any]]:
        """A frame of a kind for one client, and what the book says of it beyond the kind."""
        if kind == "foreign-route":
            return self._foreign_route(client, event)
        if self._made_of is not event:
            self._made_of = event
            self._made.clear()
        made = self._made.get((kind, client.transport))
        if made is None:
            made = self._made[kind, client.transport] = _made(kind, client.transport, event)
        return made

    def _foreign_route(self, client: Client, event: Event) -> tuple[bytes, dict[str, Any]]:
        wanted = client.room.filter if client.room is not None else None
        for key, other in reversed(self._newest.items()):
            if wanted is not None and other.run == event.run and not wanted.passes(*key):
                told = {"sent_n": other.n, "sent_stream": other.stream, "sent_seq": other.seq}
                return other.frame(client.transport), told
        stream = event.stream | ROUTE_MASK
        text = envelope(client.transport, event.event_type, event.channel, event.changed(s=stream))
        return frame(text), {"sent_n": None, "sent_stream": stream, "sent_seq": event.seq}


def _made(kind: str, transport: Transport, event: Event) -> tuple[bytes, dict[str, Any]]:
    if kind == "undecodable":
        return frame(b'42["?",' if transport == "socketio" else b"{]"), {}
    if kind == "protocol":
        return frame(b"9" if transport == "socketio" else b"no object"), {}
    if kind == "truncated":
        text = envelope(transport, event.event_type, event.channel, event.payload)
        # cut between characters: a text frame has to be UTF-8, or the client may close the connection
        return frame(text[: len(text) * 2 // 3].decode(errors="ignore").encode()), {}
    if kind == "foreign-run":
        run = f"{event.run}{_OTHER_RUN}"
        return frame(envelope(transport, event.event_type, event.channel, event.changed(r=run))), {"sent_run": run}
    assert kind == "no-identity", kind
    return frame(envelope(transport, event.event_type, event.channel, event.changed())), {}
