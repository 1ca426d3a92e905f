"""How may consumers connect?  The table of transports; data only. What each does: the class that its row names."""

from __future__ import annotations

from collections.abc import Mapping

from loadtests.model.kinds import TransportKind, registry

WEBSOCKET = TransportKind(
    name="websocket", by="loadtests.drive.consume.websocket:PlainDialect", shown="WS", envelope=("data",)
)
SOCKETIO = TransportKind(
    name="socketio", by="loadtests.drive.consume.socketio:SocketIoDialect", shown="SIO", envelope=(1,), prefix=b"42"
)
TRANSPORTS: Mapping[str, TransportKind] = registry("transports", (WEBSOCKET, SOCKETIO))
"""By name."""
