"""Peer: python-socketio's client, websocket transport, under gevent's patching."""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402

import gevent  # noqa: E402
import socketio  # noqa: E402
from counting import Account, asked, measure  # noqa: E402

load, account = asked(), Account()
clients = []
for _ in range(load.connections):
    client = socketio.Client(reconnection=False)
    last: dict[int, int] = {}
    client.on("pattern_detected", lambda data, last=last: account.event(last, data))
    client.connect(f"http://{load.host}:{load.port}", transports=["websocket"], wait_timeout=30)
    clients.append(client)
for client in clients:
    client.emit("subscribe", {"channels": [], "patterns": [], "symbols": []})
measure(account, load, gevent.sleep, lambda: sum(client.connected for client in clients))
os._exit(0)
