"""Peer: Locust's own SocketIOUser inside real Locust, one user a connection; it reports each message to Locust.

A locustfile; the load comes from BENCH_LOAD, the five arguments that other peers take, joined by blanks.
"""

import os
import sys
from typing import Any, ClassVar

import gevent
from counting import Account, Load, asked
from locust import events, task
from locust.contrib.socketio import SocketIOUser

load: Load = asked(os.environ["BENCH_LOAD"].split())
account = Account()
connected: list["Consumer"] = []


class Consumer(SocketIOUser):
    """Connects, subscribes, and counts what its client is told."""

    options: ClassVar[dict[str, Any]] = {"reconnection": False}

    def on_start(self) -> None:
        """Connect and subscribe."""
        self.last: dict[int, int] = {}
        told = self.sio.on_message

        def on_message(event: str, data: Any) -> None:
            if isinstance(data, dict):
                account.event(self.last, data)
            told(event, data)

        self.sio.on("*", on_message)
        self.sio.connect(self.host, transports=["websocket"], wait_timeout=30)
        if not self.sio.connected:  # Locust's measure() swallows the error
            sys.exit("the connection was refused")
        connected.append(self)
        while len(connected) < load.connections:
            gevent.sleep(0.05)
        self.sio.emit("subscribe", {"channels": [], "patterns": [], "symbols": []})

    @task
    def park(self) -> None:
        """Everything happens in the client's own greenlets."""
        gevent.sleep(3600)


@events.test_start.add_listener
def begin(environment: Any, **_: Any) -> None:
    """Measure beside the users."""

    def run() -> None:
        while len(connected) < load.connections:
            gevent.sleep(0.05)
        gevent.sleep(load.warm_up_s)
        account.begin()
        gevent.sleep(load.seconds)
        account.report(load.connections, sum(user.sio.connected for user in connected))
        os._exit(0)

    gevent.spawn(run)
