"""The reference for TLS and compression: a server of `websockets`, told to speak as the target does. Runs as a process.

Its plan: count, clients, streams, deflate, fragments (pieces of a message, 0 for none), certificate and key.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import time
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from loadtests.tally.identity import encode


async def run(plan: dict[str, Any]) -> None:
    context = None
    if plan.get("certificate"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(plan["certificate"], plan["key"])
    subscribed: list[ServerConnection] = []
    every: list[dict[str, Any]] = []
    enough = asyncio.Event()
    extension = ServerPerMessageDeflateFactory(**plan.get("options", {}))

    async def client(ws: ServerConnection) -> None:
        assert ws.request
        sio = ws.request.path.startswith("/socket.io/")
        secure = ws.transport.get_extra_info("ssl_object")
        seen = {
            "agent": ws.request.headers.get("User-Agent", ""),
            "offered": ws.request.headers.get("Sec-WebSocket-Extensions", ""),
            "extensions": [e.name for e in ws.protocol.extensions],
            "tls": secure.version() if secure else None,
        }
        every.append(seen)
        if sio:
            await ws.send('0{"sid":"x","upgrades":[],"pingInterval":20000,"pingTimeout":20000}')
        async for text in ws:
            assert isinstance(text, str)
            if text == "40":
                await ws.send('40{"sid":"y"}')
                continue
            match = re.fullmatch(r"42(\d+)(\[.*)", text)
            if match:
                (action, request), number = json.loads(match[2]), int(match[1])
            else:
                request = json.loads(text)
                action, number = request["action"], request["id"]
            data = {key: request.get(key, []) for key in ("channels", "patterns", "symbols")}
            if sio:
                await ws.send(f"43{number}{json.dumps([data])}")
            else:
                event = {"event": action + "d", "data": data | {"id": number}}
                await ws.send(json.dumps(event))
            if action == "subscribe":
                await (await ws.ping(b"are you there"))
                subscribed.append(ws)
                if len(subscribed) == plan["clients"]:
                    enough.set()

    async def tell() -> None:
        await enough.wait()
        for seq in range(plan["count"]):
            if plan.get("skip_every") and seq % plan["skip_every"] == plan["skip_every"] - 1:
                continue
            for stream in plan["streams"]:
                now = time.monotonic_ns() - plan["origin_ns"]
                who = json.loads(encode("object", plan["run"], stream, seq, now, now))
                data = json.dumps({"tickstorm": who, "pad": "ü" * (seq % 50)}, ensure_ascii=False)
                for ws in subscribed:
                    assert ws.request
                    sio = ws.request.path.startswith("/socket.io/")
                    await say(ws, f'42["t",{data}]' if sio else f'{{"event":"t","data":{data}}}', seq)
        print("done", flush=True)

    async def say(ws: ServerConnection, whole: str, seq: int) -> None:
        pieces = plan.get("fragments", 0)
        if pieces and seq % 2:
            size = len(whole) // pieces + 1
            await ws.send([whole[at : at + size] for at in range(0, len(whole), size)])
        else:
            await ws.send(whole)

    extensions = [extension] if plan["deflate"] else None
    async with serve(client, "127.0.0.1", 0, ssl=context, compression=None, extensions=extensions) as server:
        print("port", next(iter(server.sockets)).getsockname()[1], flush=True)
        telling = asyncio.create_task(tell())
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        telling.cancel()
        print(json.dumps(every), flush=True)


def main(plan: dict[str, Any]) -> None:
    asyncio.run(run(plan))
