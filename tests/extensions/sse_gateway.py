"""A gateway that nobody here wrote the tool for: it hands on channels of Redis as Server-Sent Events.

`python sse_gateway.py PORT REDIS_HOST REDIS_PORT USER`, with the password in REDIS_PASSWORD.

"""

from __future__ import annotations

import asyncio
import os
import sys

from aiohttp import web
from redis.asyncio import Redis


async def events(request: web.Request) -> web.StreamResponse:
    """What is published on the channels from now on."""
    redis: Redis = request.app["redis"]
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(*request.query["channels"].split(","))
        await pubsub.get_message(timeout=1.0)  # the subscription stands before the client is answered
        await answer.prepare(request)
        await answer.write(b": here it begins\n\n")
        async for message in pubsub.listen():
            await answer.write(b"event: message\ndata: %b\n\n" % message["data"])
    return answer


async def health(_: web.Request) -> web.Response:
    """It lives."""
    return web.json_response({"status": "ok"})


async def made(host: str, port: int, user: str) -> web.Application:
    """The application."""
    app = web.Application()
    app["redis"] = Redis(host=host, port=port, username=user, password=os.environ["REDIS_PASSWORD"])
    app.router.add_get("/events", events)
    app.router.add_get("/health", health)
    return app


def main(port: str, host: str, redis_port: str, user: str) -> None:
    """Serve on loopback until it is ended."""
    web.run_app(made(host, int(redis_port), user), host="127.0.0.1", port=int(port), print=None, shutdown_timeout=0.5)


if __name__ == "__main__":
    asyncio.set_event_loop(asyncio.new_event_loop())
    main(*sys.argv[1:])
