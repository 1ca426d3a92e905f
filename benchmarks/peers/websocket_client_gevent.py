"""Peer: websocket-client, a greenlet per connection under gevent's patching, as locust-plugins reads WebSockets."""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402

import gevent  # noqa: E402
import websocket  # noqa: E402
from counting import SUBSCRIBE, Account, asked, measure  # noqa: E402

load, account = asked(), Account()
sockets = [
    websocket.create_connection(f"ws://{load.host}:{load.port}/ws", enable_multithread=False, timeout=60)
    for _ in range(load.connections)
]
open_sockets = len(sockets)


def read(ws: websocket.WebSocket) -> None:
    """Until the peer leaves."""
    global open_sockets
    last: dict[int, int] = {}
    try:
        while True:
            account.frame(last, ws.recv())
    except (websocket.WebSocketException, OSError):
        open_sockets -= 1


for each in sockets:
    gevent.spawn(read, each)
for each in sockets:
    each.send(SUBSCRIBE)
measure(account, load, gevent.sleep, lambda: open_sockets)
os._exit(0)
