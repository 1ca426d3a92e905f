"""A sender by the `websockets` library, for what the C sender does not speak: TLS and permessage-deflate.

Arguments: REDIS_HOST:PORT CERTIFICATE KEY COMPRESSION; "-" for no TLS, "deflate" or "-". Passes on what comes on
tickstock.* to every subscriber. SIGTERM ends it.
"""

import json
import ssl
import sys

import redis.asyncio
import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

address, certificate, key, compression = sys.argv[1:5]
subscribed: set[ServerConnection] = set()


async def hear(client: ServerConnection) -> None:
    """Requests of one client."""
    try:
        async for text in client:
            request = json.loads(text)
            action = request["action"]
            if action in ("subscribe", "unsubscribe"):
                lists = {name: request.get(name, []) for name in ("channels", "patterns", "symbols")}
                answer = {"event": f"{action}d", "data": {"id": request["id"], **lists}}
                await client.send(json.dumps(answer, separators=(",", ":")))
                (subscribed.add if action == "subscribe" else subscribed.discard)(client)
    finally:
        subscribed.discard(client)


async def pass_on() -> None:
    """From Redis to everybody."""
    host, port = address.split(":")
    source = redis.asyncio.Redis(host=host, port=int(port)).pubsub()
    await source.psubscribe("tickstock.*")
    async for message in source.listen():
        if message["type"] == "pmessage":
            data, channel = message["data"].decode(), message["channel"].decode()
            event = json.loads(data)["event_type"]
            broadcast(subscribed, f'{{"event":"{event}","channel":"{channel}","data":{data}}}')


async def main() -> None:
    """Serve until told to end."""
    context = None
    if certificate != "-":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
    options = {"compression": "deflate" if compression == "deflate" else None, "ping_interval": None}
    async with serve(hear, "127.0.0.1", 0, ssl=context, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        sys.stdout.write(f"sender ready on 127.0.0.1:{port}\n")
        sys.stdout.flush()
        await pass_on()


uvloop.run(main())
