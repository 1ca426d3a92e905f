"""How does a Socket.IO client talk to the gateway?  python-socketio keeps the protocol; events take a shorter way out.

Engine.IO hands every packet of a session to a queue and a writer task, which costs more than the rest of a delivery.
Once a session is on the WebSocket transport and that queue has run dry, its messages are written to the transport at
once, in the order of the calls. Before that, and for polling sessions, they wait in the queue as Engine.IO wants it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import engineio
import socketio
from aiohttp import WSCloseCode, WSMsgType, web
from engineio import packet as eio_packet
from engineio.payload import Payload

from reference_target import frames
from reference_target.broadcaster import Broadcaster
from reference_target.client import BadRequestError, wanted_from_object
from reference_target.events import Event
from reference_target.outlet import Limits, Outlet
from reference_target.tokens import Guard, RefusedError

CLOSE_S = 1.0
MAX_REQUEST_BYTES = 256 << 10
PACKETS_PER_POLL = Payload.max_decode_packets  # Python clients refuse an answer with more


class PacketQueue(asyncio.Queue[Any]):
    """A session's packets: straight to the transport where nothing could be overtaken, else queued as usual."""

    def __init__(self) -> None:
        super().__init__()
        self._session: Any = None
        self._outlet: Outlet | None = None
        self._of_poll = 0
        self._taken = 0  # taken by the session's writer task and not yet written
        self.direct: Outlet | None = None  # where messages go at once

    def attach(self, session: Any, outlet: Outlet) -> None:
        """The session has got a WebSocket."""
        self._session, self._outlet = session, outlet

    def written(self) -> None:
        """The session's writer task, or the upgrade handshake, has written one packet."""
        if self._taken:
            self._taken -= 1
        if self._session.upgraded and not self._taken and self.empty():
            self.direct = self._outlet

    async def put(self, item: Any) -> None:
        """As in Engine.IO; never waits."""
        self.put_nowait(item)

    def put_nowait(self, item: Any) -> None:
        """As in Engine.IO. Pings and closes keep to the queue: its writer task takes silence for death."""
        if self.direct is not None and item is not None and item.packet_type == eio_packet.MESSAGE and not item.binary:
            self.direct.control(frames.text_frame(item.encode().encode()))
        else:
            super().put_nowait(item)

    async def get(self) -> Any:
        """As in Engine.IO, where it is the first of the packets for one poll."""
        self._of_poll = 0
        return await super().get()

    def get_nowait(self) -> Any:
        """As in Engine.IO, but for the end of a poll's share."""
        if self._of_poll >= PACKETS_PER_POLL and not (self._session is not None and self._session.upgraded):
            raise asyncio.QueueEmpty
        self._of_poll += 1
        return super().get_nowait()

    def _get(self) -> Any:
        if self._session is not None and self._session.upgraded:
            self._taken += 1
        return super()._get()


class Wire:
    """The WebSocket of one Engine.IO session: without compression, and written to without waiting."""

    def __init__(self, handler: Any, server: Any) -> None:
        self._handler = handler
        self._session = handler.__self__
        self._server = server
        self._ws = web.WebSocketResponse(compress=False, timeout=CLOSE_S, max_msg_size=server.max_http_buffer_size)
        self._outlet: Outlet | None = None

    async def __call__(self, environ: dict[str, Any]) -> web.WebSocketResponse:
        """Serve the session until it ends."""
        request: web.Request = environ["aiohttp.request"]
        await self._ws.prepare(request)
        if request.transport is not None:
            self._outlet = Outlet(request.transport, self._server.limits)
            self._session.queue.attach(self._session, self._outlet)
            self._server.wires.add(self)
            try:
                await self._handler(self)
            finally:
                self._server.wires.discard(self)
        return self._ws

    async def close(self) -> None:
        """Close as Engine.IO asks for it."""
        await self._ws.close()

    async def go_away(self) -> None:
        """Close because the gateway stops."""
        await self._ws.close(code=WSCloseCode.GOING_AWAY, message=b"gateway stops")

    def cut(self) -> None:
        """Close at once."""
        if self._outlet is not None:
            self._outlet.cut()

    async def send(self, message: str | bytes) -> None:
        """Write one packet that Engine.IO encoded."""
        if self._outlet is None:
            raise OSError("the client is gone")
        if isinstance(message, bytes):
            await self._ws.send_bytes(message)
        else:
            self._outlet.control(frames.text_frame(message.encode()))
        self._session.queue.written()

    async def wait(self) -> str | bytes:
        """The next message of the client. Raises OSError when there will be none."""
        message = await self._ws.receive()
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            raise OSError("the client is gone")
        return message.data  # type: ignore[no-any-return]


class EngineServer(engineio.AsyncServer):  # type: ignore[misc]
    """Engine.IO with our queue and our WebSocket."""

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = limits
        self.wires: set[Wire] = set()
        self._async = {**self._async, "websocket": Wire}

    def create_queue(self, *args: Any, **kwargs: Any) -> PacketQueue:
        """The queue of a new session."""
        return PacketQueue()


class SocketServer(socketio.AsyncServer):  # type: ignore[misc]
    """Socket.IO that knows whether the event in hand asked for an acknowledgement.

    Handlers are plain functions and run inside the receiving task (`async_handlers=False`), so nothing can come between
    a handler and its acknowledgement.
    """

    ack_wanted = False

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    async def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: list[Any]) -> None:
        self.ack_wanted = id is not None
        await super()._handle_event(eio_sid, namespace, id, data)


class SocketClient:
    """One Socket.IO client in the default namespace."""

    __slots__ = ("_limits", "queue", "session", "wants_health")

    def __init__(self, session: Any, limits: Limits) -> None:
        self.session = session
        self.queue: PacketQueue = session.queue
        self._limits = limits
        self.wants_health = False

    def deliver(self, frames: bytes, events: Sequence[Event]) -> bool:
        """Send joined frames, or queue the events one by one while the session cannot take frames."""
        direct = self.queue.direct
        if direct is not None:
            return direct.send(frames, len(events))
        return self._enqueue(events)

    def _enqueue(self, events: Sequence[Event]) -> bool:
        if self.session.closed or self.session.closing:
            return False
        waiting = self.queue.qsize()
        self._limits.longest = max(self._limits.longest, waiting + len(events))
        if waiting and (waiting >= self._limits.messages or waiting * len(events[-1].payload) >= self._limits.size):
            self._limits.slow += 1
            self.session.server.start_background_task(self.session.server.disconnect, self.session.sid)
            return False
        for event in events:
            if event.packet is None:
                event.packet = eio_packet.Packet(eio_packet.MESSAGE, frames.socketio_text(event))
            self.queue.put_nowait(event.packet)
        return True

    def tell(self, event: str, data: object) -> None:
        """Send an event that is no delivery."""
        if not (self.session.closed or self.session.closing):
            self.queue.put_nowait(eio_packet.Packet(eio_packet.MESSAGE, frames.answer_text(event, data)))


class SocketSide:
    """All Socket.IO clients."""

    def __init__(self, broadcaster: Broadcaster, limits: Limits, guard: Guard) -> None:
        self._broadcaster = broadcaster
        self._guard = guard
        self.connects = 0  # clients that were let in
        self._limits = limits
        self.clients: dict[str, SocketClient] = {}
        self.server = SocketServer(
            async_mode="aiohttp",
            async_handlers=False,
            cors_allowed_origins="*",
            http_compression=False,
            max_http_buffer_size=MAX_REQUEST_BYTES,
            limits=limits,
        )
        self.server.on("connect", self._connected)
        self.server.on("disconnect", self._disconnected)
        self.server.on("subscribe", self._subscribe)
        self.server.on("unsubscribe", self._unsubscribe)
        self.server.on("ping", self._ping)

    def attach(self, app: web.Application) -> None:
        """Add the Engine.IO routes to an application."""
        self.server.attach(app)

    def _connected(self, sid: str, environ: dict[str, Any], auth: object = None) -> None:
        request: web.Request = environ["aiohttp.request"]
        try:
            self._guard.admit(request.query, request.headers, auth)
        except RefusedError as refused:
            raise socketio.exceptions.ConnectionRefusedError(str(refused)) from None
        self.connects += 1
        session = self.server.eio.sockets[self.server.manager.eio_sid_from_sid(sid, "/")]
        self.clients[sid] = SocketClient(session, self._limits)

    def _disconnected(self, sid: str, reason: object = None) -> None:
        client = self.clients.pop(sid, None)
        if client is not None:
            self._broadcaster.forget(client)
            if not client.session.upgraded:  # else its open poll would wait for the next ping that never comes
                client.queue.put_nowait(eio_packet.Packet(eio_packet.NOOP))

    def _answer(self, client: SocketClient, event: str, data: dict[str, object]) -> dict[str, object]:
        if not self.server.ack_wanted:
            client.tell(event, data)
        return data

    def _subscribe(self, sid: str, body: object = None, *_: object) -> dict[str, object]:
        client = self.clients[sid]
        try:
            wanted = wanted_from_object({} if body is None else body)
        except BadRequestError as error:
            client.tell("error", error.answer)
            return error.answer
        answer = self._answer(client, "subscribed", wanted.confirmation())
        self._broadcaster.subscribe(client, wanted, socketio=True)
        return answer

    def _unsubscribe(self, sid: str, body: object = None, *_: object) -> dict[str, object]:
        client = self.clients[sid]
        self._broadcaster.unsubscribe(client)
        try:
            wanted = wanted_from_object({} if body is None else body)
        except BadRequestError as error:
            client.tell("error", error.answer)
            return error.answer
        return self._answer(client, "unsubscribed", {"id": wanted.id})

    def _ping(self, sid: str, body: object = None, *_: object) -> dict[str, object]:
        given = body.get("id") if isinstance(body, dict) else None
        return self._answer(self.clients[sid], "pong", {"id": given})

    async def close(self) -> None:
        """Tell every client that the gateway goes away; a client that does not listen is cut off."""
        wires = list(self.server.eio.wires)
        try:
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(*(wire.go_away() for wire in wires), return_exceptions=True)
        except TimeoutError:
            for wire in wires:
                wire.cut()
        await self.server.shutdown()
