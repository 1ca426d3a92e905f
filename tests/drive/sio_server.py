"""The reference for Socket.IO: python-socketio's own server, told to speak as the target does. Runs as a process."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import socketio
from aiohttp import web

from loadtests.tally.identity import encode


async def run(plan: dict[str, Any]) -> None:
    # Short pings, so that a client which does not answer them would be thrown out within the test.
    server = socketio.AsyncServer(async_mode="aiohttp", ping_interval=0.3, ping_timeout=0.3)
    app = web.Application()
    server.attach(app)
    subscribed: list[str] = []
    answered: list[str] = []
    enough, gone = asyncio.Event(), asyncio.Event()

    @server.event
    async def subscribe(sid: str, request: dict[str, Any]) -> dict[str, Any]:
        subscribed.append(sid)
        if len(subscribed) >= plan["clients"]:
            enough.set()
        return {key: request[key] for key in ("channels", "patterns", "symbols")}

    @server.event
    async def unsubscribe(sid: str, request: dict[str, Any]) -> dict[str, Any]:
        del request
        subscribed.remove(sid)
        if not subscribed:
            gone.set()
        return {}

    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print("port", runner.addresses[0][1], flush=True)
    await enough.wait()
    for seq in range(plan["count"]):
        now = time.monotonic_ns() - plan["origin_ns"]
        who = json.loads(encode("object", plan["run"], 0, seq, now, now))
        for sid in subscribed:
            text = {"tickstorm": who, "text": "ü" if seq % 3 else "u"}
            if seq % 10 == 0:
                await server.emit("t", text, to=sid, callback=lambda *_: answered.append(""))
            else:
                await server.emit("t", text, to=sid)
        await asyncio.sleep(plan["every_s"])
    print("done", flush=True)
    await gone.wait()
    print(json.dumps({"answered": len(answered)}), flush=True)
    await runner.cleanup()


def main(plan: dict[str, Any]) -> None:
    asyncio.run(run(plan))
