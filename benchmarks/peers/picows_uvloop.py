"""Peer: picows on uvloop, its listener called for each frame without a task switch."""

import asyncio
import os

import uvloop
from counting import SUBSCRIBE, Account, asked, measure_async
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

load, account = asked(), Account()
open_sockets = 0


class Listener(WSListener):
    """One connection."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[int, int] = {}

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame."""
        if frame.msg_type == WSMsgType.TEXT:
            account.frame(self.last, frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The peer left."""
        global open_sockets
        open_sockets -= 1


async def main() -> None:
    """Connect, measure."""
    global open_sockets
    url = f"ws://{load.host}:{load.port}/ws"
    found = [await ws_connect(Listener, url) for _ in range(load.connections)]
    open_sockets = len(found)
    for transport, _ in found:
        transport.send(WSMsgType.TEXT, SUBSCRIBE.encode())
    await measure_async(account, load, asyncio.sleep, lambda: open_sockets)
    os._exit(0)


uvloop.run(main())
