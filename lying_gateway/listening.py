"""What do clients say, and what is done about it?  Requests of HTTP first, then frames with those of the transport."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from lying_gateway import dialogue, door, frames
from lying_gateway.book import Book
from lying_gateway.client import Client
from lying_gateway.drops import Drops
from lying_gateway.outlet import NOTHING
from lying_gateway.plan import LiePlan
from lying_gateway.timers import Timers

if TYPE_CHECKING:
    from lying_gateway.connections import Connections

_HEALTH_NS: Final = 1_000_000_000


class StatusSource(Protocol):
    """What answers the status requests over HTTP."""

    def health(self) -> dict[str, Any]:
        """The answer to /health."""

    def stats(self) -> dict[str, Any]:
        """The answer to /stats."""


class Listening:
    """Takes what clients say and answers it."""

    def __init__(
        self, plan: LiePlan, connections: Connections, drops: Drops, book: Book, timers: Timers, loop: StatusSource
    ) -> None:
        self._plan = plan
        self._hostile = itertools.cycle(door.HOSTILE)
        self._connections = connections
        self._outlet = connections.outlet
        self._drops = drops
        self._book = book
        self._timers = timers
        self._loop = loop
        self._timers.after(_HEALTH_NS, self._say_health)

    def request(self, client: Client, data: bytes) -> None:
        """Bytes of a connection that is not upgraded."""
        client.behind += data
        try:
            request = door.read_request(client.behind)
            if request is None:
                return
            transport = request.transport
            if transport is None:
                self._answer(client, request)
                return
            answer = door.accept(request)
            if self._drops.refuses(request.name):
                name = request.name
                self._book.write(
                    "refused", consumer=name.consumer, epoch=name.epoch, run=name.run, at_ns=time.monotonic_ns()
                )
                raise door.BadRequestError(503, "refused for now")
        except door.BadRequestError as error:
            self._answer_and_end(client, error.status, {"reason": str(error)})
            return
        client.named(request.name)
        client.transport = transport
        client.heard = self._frames
        client.state = "open"
        client.closed_is_due = True
        self._connections.step("open", client, run=client.name.run, transport=transport)
        self._outlet.put(client, answer, NOTHING)
        if transport == "socketio":
            pings = self._plan.ping_interval_ms, self._plan.ping_timeout_ms
            self._outlet.put(client, dialogue.open_packet(client.connection, *pings), NOTHING)
            self._ping_later(client)
        if request.behind:
            self._frames(client, request.behind)

    def _answer(self, client: Client, request: door.Request) -> None:
        ways = {"/health": self._loop.health, "/stats": self._loop.stats}
        way = ways.get(request.path)
        if way is None:
            raise door.BadRequestError(404, "nothing here")
        if self._plan.health == "hostile" and request.path == "/health" and self._connections.newest is not None:
            body = next(self._hostile)
            if body is not None:
                self._answer_and_end(client, 200, body)
        else:
            self._answer_and_end(client, 200, way())

    def _answer_and_end(self, client: Client, status: int, body: object) -> None:
        client.state = "open"  # for the answer; it was never booked
        self._outlet.put(client, door.answer(status, body), NOTHING)
        if client.state == "open":
            self._connections.finish(client)

    def _frames(self, client: Client, data: bytes) -> None:
        try:
            for opcode, payload in client.cutter.feed(data):
                if client.state != "open":
                    return
                if opcode == frames.TEXT:
                    self._text(client, payload.decode(errors="replace"))
                elif opcode == frames.PING:
                    self._outlet.put(client, frames.frame(payload, frames.PONG), NOTHING)
                elif opcode == frames.CLOSE:
                    self._connections.end(client, "client closed", 1000)
        except frames.BadFrameError as error:
            self._connections.end(client, "protocol", error.code)

    def _text(self, client: Client, text: str) -> None:
        asked = dialogue.read(client.transport, text)
        if asked is None:
            return
        match asked.action:
            case "connect":
                self._outlet.put(client, dialogue.connected_packet(client.connection), NOTHING)
            case "disconnect":
                self._connections.end(client, "client closed", 1000)
            case "subscribe":
                self._subscribe(client, asked)
            case "unsubscribe":
                self._connections.leave(client, "asked", send=True)
                self._reply(client, asked, "unsubscribed", {"id": asked.id})
            case "ping":
                self._reply(client, asked, "pong", {"id": asked.id})
            case _:
                told = dialogue.told(client.transport, "error", {"id": asked.id, "reason": asked.reason})
                self._outlet.put(client, told, NOTHING)

    def _subscribe(self, client: Client, asked: dialogue.ClientRequest) -> None:
        self._connections.leave(client, "replaced", send=True)
        wanted = asked.filter
        lists = {"channels": wanted.channels, "patterns": wanted.patterns, "symbols": wanted.symbols}
        self._reply(client, asked, "subscribed", {"id": asked.id, **lists})
        if client.state == "open":
            client.wants_health = asked.health
            self._connections.join(client, wanted)

    def _reply(self, client: Client, asked: dialogue.ClientRequest, event: str, data: dict[str, Any]) -> None:
        self._outlet.put(client, dialogue.reply(client.transport, asked, event, data), NOTHING)

    # -- what clients are told unasked

    def _ping_later(self, client: Client) -> None:
        self._timers.after(self._plan.ping_interval_ms * 1_000_000, lambda: self._ping(client))

    def _ping(self, client: Client) -> None:
        if client.state == "open":
            if not self._connections.silent_to(client):
                self._outlet.put(client, dialogue.ping_packet(), NOTHING)
            self._ping_later(client)

    def _say_health(self) -> None:
        self._timers.after(_HEALTH_NS, self._say_health)
        listeners = [client for client in self._connections.clients if client.wants_health and client.room is not None]
        if listeners:
            health = self._loop.health()
            for client in listeners:
                self._outlet.put(client, dialogue.told(client.transport, "health", health), NOTHING)
