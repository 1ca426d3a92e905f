"""What becomes of each connection?  From its request to its last byte; books every step.

A connection that ends in good order is half closed and read to its end, so that nothing sent is thrown away with it.
"""

from __future__ import annotations

import socket
import time
from typing import Any, Final, Protocol

from lying_gateway import frames
from lying_gateway.book import Book
from lying_gateway.client import Client
from lying_gateway.drops import Drops
from lying_gateway.event import Event
from lying_gateway.liar import Liar
from lying_gateway.listening import Listening, StatusSource
from lying_gateway.outlet import NOTHING, Outlet
from lying_gateway.plan import WHOLE, LiePlan
from lying_gateway.rooms import Filter, Rooms
from lying_gateway.timers import Timers

_READ_BYTES: Final = 64 << 10
_LINGER_NS: Final = 1_000_000_000
_GOING_AWAY: Final = 1001
_NO_CLOSE_FRAME: Final = 1006


class Loop(StatusSource, Protocol):
    """What the loop does for connections."""

    def watch(self, client: Client) -> None:
        """Look out for what a connection waits for."""

    def forget(self, client: Client) -> None:
        """Close its socket."""


class Connections:
    """All connections of a gateway."""

    def __init__(self, plan: LiePlan, book: Book, timers: Timers, loop: Loop) -> None:
        self._plan = plan
        self._book = book
        self._timers = timers
        self._loop = loop
        self._rooms = Rooms()
        self.outlet = Outlet(self, book, record=plan.record_sends, batched=plan.batch_ms > 0)
        self._liar = Liar(self._rooms, self.outlet, book, timers)
        self._drops = Drops(plan, book, self, self._liar)
        self.clients: set[Client] = set()
        self.subscribed = 0
        self.slow = 0
        self._next = 0  # number of the next message
        self.newest: Event | None = None  # message of a run, as soon as there was one
        self._listening = Listening(plan, self, self._drops, book, timers, loop)

    def deliver(self, event: Event) -> None:
        """Send a message to all to whom it is owed."""
        self._next = event.n
        if event.may_be_spoilt:
            self.newest = event
            self._drops.act(event)
        self._next = event.n + 1
        self._drops.keep(event)
        self._liar.tell(event)

    def new(self, sock: socket.socket) -> Client:
        """A connection was accepted."""
        client = Client(sock, self._listening.request)
        self.clients.add(client)
        return client

    def ready(self, client: Client, mask: int) -> None:
        """Its socket can be written or read."""
        if client.writing and mask & ~1:
            self.outlet.writable(client)
        if client.state == "over" or not mask & ~4:
            return
        try:
            data = client.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.lost(client, "peer gone")
        elif client.state in ("new", "open"):
            client.heard(client, data)

    def count(self) -> dict[str, int]:
        """Open connections by transport."""
        kinds = [client.transport for client in self.clients if client.state == "open"]
        return {"plain": kinds.count("websocket"), "socketio": kinds.count("socketio")}

    def go_away(self) -> None:
        """The gateway stops: take leave of everybody."""
        for client in list(self.clients):
            self.end(client, "gateway stops", _GOING_AWAY)

    def cut_all(self) -> None:
        """Close what is still open."""
        for client in list(self.clients):
            self._cut(client)

    def watch(self, client: Client) -> None:
        """Look out for room in its socket, or no more."""
        if client.state != "over":
            self._loop.watch(client)

    def silent_to(self, client: Client) -> bool:
        """Whether nothing at all is said to it at present."""
        event, consumer = self.newest, client.name.consumer
        return event is not None and any(
            rule.kind == "silent" and rule.concerns(consumer) and rule.matches(event) for rule in self._plan.rules
        )

    # -- subscriptions

    def join(self, client: Client, wanted: Filter) -> None:
        """It is owed what matches from the next message on; the answer is out already."""
        rules = tuple(r for r in self._plan.rules if r.kind not in WHOLE and r.concerns(client.name.consumer))
        client.room = self._rooms.join(client, wanted, rules)
        client.refresh()
        self.subscribed += 1
        lists = {"channels": wanted.channels, "patterns": wanted.patterns, "symbols": wanted.symbols}
        self.step("subscribed", client, **{"from": self._next}, **lists)
        self._drops.back(client)

    def leave(self, client: Client, why: str, *, send: bool) -> None:
        """Out of its room; what was put off goes out or is given up."""
        if client.room is None:
            return
        self._liar.settle(client, send=send)
        self._rooms.leave(client, client.room)
        client.room = None
        self.subscribed -= 1
        self.step("unsubscribed", client, to=self._next, why=why)

    # -- ends

    def end(self, client: Client, why: str, code: int) -> None:
        """Send what is queued, then the close frame (1006: none), then no more; closed when the peer has read it."""
        if client.state in ("leaving", "over"):
            return
        self.leave(client, "closed", send=False)
        if client.state == "new":
            code = _NO_CLOSE_FRAME
        elif code != _NO_CLOSE_FRAME:
            self.outlet.put(client, frames.close_frame(code, why), NOTHING)
        else:
            self.outlet.tick_one(client)
        if client.state == "over":  # the peer was gone already
            return
        client.why = (why, code)
        self.finish(client)

    def finish(self, client: Client) -> None:
        """Nothing more is sent to it than what is queued."""
        client.state = "leaving"
        self._timers.after(_LINGER_NS, lambda: self._cut(client))
        if not client.out:
            self.drained(client)

    def drained(self, client: Client) -> None:
        """All that was queued for a leaving client is out: half close."""
        self._book_closed(client)
        try:
            client.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._cut(client)

    def lost(self, client: Client, why: str) -> None:
        """The connection is of no use any more: close at once."""
        if client.state == "over":
            return
        if client.state != "leaving":
            client.why = (why, _NO_CLOSE_FRAME)
        if why == "slow" and client.state == "open":
            self.slow += 1
            self.leave(client, "closed", send=False)
            client.state = "leaving"
            self._timers.after(_LINGER_NS, lambda: self._cut(client))
            self.drained(client)  # what is queued is given up; what the kernel has still arrives
        else:
            self._cut(client)

    def _cut(self, client: Client) -> None:
        if client.state == "over":
            return
        client.state = "over"
        self.leave(client, "closed", send=False)
        self._book_closed(client)
        self.clients.discard(client)
        self._loop.forget(client)

    def _book_closed(self, client: Client) -> None:
        if client.closed_is_due:
            client.closed_is_due = False
            why, code = client.why
            unsent = self.outlet.unsent(client)
            self.step("closed", client, why=why, code=code, unsent=unsent)

    def step(self, kind: str, client: Client, **values: Any) -> None:
        """Book a step of its life."""
        name = client.name
        self._book.write(
            kind,
            connection=client.connection,
            consumer=name.consumer,
            epoch=name.epoch,
            **values,
            at_ns=time.monotonic_ns(),
        )
