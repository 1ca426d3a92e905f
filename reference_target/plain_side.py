"""How does a plain WebSocket client talk to the gateway?  `/ws`: requests in JSON text, ready frames back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import WSCloseCode, WSMsgType, web

from reference_target import frames
from reference_target.broadcaster import Broadcaster
from reference_target.client import BadRequestError, wanted_from_json
from reference_target.events import Event
from reference_target.outlet import Limits, Outlet
from reference_target.tokens import Guard, RefusedError

MAX_REQUEST_BYTES = 256 << 10
CLOSE_S = 1.0  # how long a client may take to answer a close frame


class PlainClient:
    """One plain WebSocket client."""

    __slots__ = ("outlet", "wants_health", "ws")

    def __init__(self, ws: web.WebSocketResponse, outlet: Outlet) -> None:
        self.ws = ws
        self.outlet = outlet
        self.wants_health = False

    def deliver(self, frames: bytes, events: Sequence[Event]) -> bool:
        """Send joined frames."""
        return self.outlet.send(frames, len(events))

    def tell(self, event: str, data: object) -> None:
        """Send an answer."""
        self.outlet.control(frames.answer(event, data))


class PlainSide:
    """All plain WebSocket clients."""

    def __init__(self, broadcaster: Broadcaster, limits: Limits, guard: Guard, *, heartbeat_s: float) -> None:
        self._guard = guard
        self.connects = 0  # clients that were let in
        self._broadcaster = broadcaster
        self._limits = limits
        self._heartbeat_s = heartbeat_s
        self.clients: set[PlainClient] = set()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one client until it leaves; 401 or 403 for one without a good token."""
        try:
            self._guard.admit(request.query, request.headers)
        except RefusedError as refused:
            raise _answer(refused) from None
        ws = web.WebSocketResponse(
            compress=False, heartbeat=self._heartbeat_s, timeout=CLOSE_S, max_msg_size=MAX_REQUEST_BYTES
        )
        await ws.prepare(request)
        transport = request.transport
        if transport is None:  # gone during the handshake
            return ws
        client = PlainClient(ws, Outlet(transport, self._limits))
        self.clients.add(client)
        self.connects += 1
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    self._request(client, message.data)
                elif message.type is WSMsgType.BINARY:
                    client.tell("error", {"id": None, "reason": "requests are text"})
        finally:
            self.clients.discard(client)
            self._broadcaster.forget(client)
        return ws

    def _request(self, client: PlainClient, text: str) -> None:
        try:
            wanted = wanted_from_json(text)
            match wanted.action:
                case "subscribe":
                    client.tell("subscribed", wanted.confirmation())
                    self._broadcaster.subscribe(client, wanted, socketio=False)
                case "unsubscribe":
                    self._broadcaster.unsubscribe(client)
                    client.tell("unsubscribed", {"id": wanted.id})
                case "ping":
                    client.tell("pong", {"id": wanted.id})
                case _:
                    raise BadRequestError(wanted.id, f"unknown action {wanted.action!r}")
        except BadRequestError as error:
            client.tell("error", error.answer)

    async def close(self) -> None:
        """Tell every client that the gateway goes away; a client that does not listen is cut off."""
        clients = list(self.clients)
        closing = [client.ws.close(code=WSCloseCode.GOING_AWAY, message=b"gateway stops") for client in clients]
        try:
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(*closing, return_exceptions=True)
        except TimeoutError:
            for client in clients:
                client.outlet.cut()


def _answer(refused: RefusedError) -> web.HTTPException:
    text = f'{{"reason":"{refused}"}}'
    if refused.status == 401:
        return web.HTTPUnauthorized(text=text, content_type="application/json", headers={"WWW-Authenticate": "Bearer"})
    return web.HTTPForbidden(text=text, content_type="application/json")
