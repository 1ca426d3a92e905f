"""Peer: `websockets` on asyncio, a task per connection; with the sixth argument "uvloop" on uvloop."""

import asyncio
import os
import sys

from counting import SUBSCRIBE, Account, asked, measure_async
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

load, account = asked(), Account()
open_sockets = 0


async def read(ws: ClientConnection) -> None:
    """Until the peer leaves."""
    global open_sockets
    last: dict[int, int] = {}
    try:
        while True:
            account.frame(last, await ws.recv(decode=False))
    except ConnectionClosed:
        open_sockets -= 1


async def main() -> None:
    """Connect, read, measure."""
    global open_sockets
    uri = f"ws://{load.host}:{load.port}/ws"
    sockets = [await connect(uri, compression=None, ping_interval=None) for _ in range(load.connections)]
    open_sockets = len(sockets)
    tasks = [asyncio.create_task(read(ws)) for ws in sockets]
    for ws in sockets:
        await ws.send(SUBSCRIBE)
    await measure_async(account, load, asyncio.sleep, lambda: open_sockets)
    del tasks
    os._exit(0)


if sys.argv[6:] == ["uvloop"]:
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
