"""Clients and publishers of the tests: independent implementations, never the target's own code."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any, Self

import socketio
from target_servers import Gateway
from websockets.asyncio.client import ClientConnection, connect

PATTERNS = "tickstock.events.patterns"
MARKET = "tickstock.events.market_state"
WAIT_S = 15.0


def pattern(symbol: str = "AAPL", name: str = "Doji", **extra: object) -> bytes:
    body = {"event_type": "pattern_detected", "pattern": name, "symbol": symbol, "confidence": 0.85}
    body |= {"timestamp": "2026-01-02T03:04:05.678+00:00", "source": "tickstock_pl", **extra}
    return json.dumps(body).encode()


def ranking(symbol: str = "AAPL", **extra: object) -> bytes:
    return json.dumps({"event_type": "ranking_change", "symbol": symbol, "rank_change": 1, **extra}).encode()


async def eventually(condition: Any, what: str, timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.01)


class PlainPeer:
    """A plain client that keeps what it got."""

    def __init__(self, gateway: Gateway) -> None:
        self._url = f"ws://127.0.0.1:{gateway.port}/ws"
        self.events: list[dict[str, Any]] = []
        self.answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.closed: asyncio.Event = asyncio.Event()
        self.ws: ClientConnection

    async def __aenter__(self) -> Self:
        self.ws = await connect(self._url, compression=None, max_queue=None)
        self._task = asyncio.create_task(self._read())
        return self

    async def _read(self) -> None:
        async for text in self.ws:
            body = json.loads(text)
            if "channel" in body:
                self.events.append(body)
            else:
                await self.answers.put(body)
        self.closed.set()

    async def ask(self, **request: object) -> dict[str, Any]:
        await self.ws.send(json.dumps(request))
        return await asyncio.wait_for(self.answers.get(), WAIT_S)

    async def subscribe(self, **wanted: object) -> dict[str, Any]:
        return await self.ask(action="subscribe", **wanted)

    def numbers(self) -> list[int]:
        return [event["data"]["n"] for event in self.events]

    async def __aexit__(self, *_: object) -> None:
        await self.ws.close()
        await self._task


class SocketPeer:
    """A Socket.IO client that keeps what it got."""

    def __init__(self, gateway: Gateway, *transports: str) -> None:
        self._url = f"http://127.0.0.1:{gateway.port}"
        self._transports = list(transports or ("websocket",))
        self.client = socketio.AsyncClient(reconnection=False)
        self.events: list[dict[str, Any]] = []
        self.answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.client.on("*", self._on_event)

    async def _on_event(self, name: str, data: dict[str, Any]) -> None:
        if name in ("subscribed", "unsubscribed", "error", "pong", "health"):
            await self.answers.put({"event": name, "data": data})
        else:
            self.events.append({"event": name, "data": data})

    async def __aenter__(self) -> Self:
        await self.client.connect(self._url, transports=self._transports)
        return self

    async def subscribe(self, **wanted: object) -> dict[str, Any]:
        return await self.client.call("subscribe", wanted, timeout=WAIT_S)  # type: ignore[no-any-return]

    def numbers(self) -> list[int]:
        return [event["data"]["n"] for event in self.events]

    async def __aexit__(self, *_: object) -> None:
        await self.client.disconnect()


def websocket_key() -> str:
    import base64

    return base64.b64encode(os.urandom(16)).decode()
