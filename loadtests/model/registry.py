"""Where may publishers write, how may consumers connect, which kinds of users has a run?  The tables; data only.

What each does is the class that its row names. An extension's rows come before this module is imported. How to add
one, here or in an extension: docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loadtests.model.kinds import Key, SinkKind, TransportKind, UserKind, registry

if TYPE_CHECKING:
    from loadtests.model.profile.profile import Profile

# -- where publishers may write

PUBLISH = SinkKind(name="publish", by="loadtests.drive.publish.sink:Publish", shown="PUBLISH")
SINKS: Mapping[str, SinkKind] = registry("sinks", (PUBLISH,))
"""By name."""

# -- how consumers may connect

WEBSOCKET = TransportKind(
    name="websocket", by="loadtests.drive.consume.websocket:PlainDialect", shown="WS", envelope=("data",)
)
SOCKETIO = TransportKind(
    name="socketio", by="loadtests.drive.consume.socketio:SocketIoDialect", shown="SIO", envelope=(1,), prefix=b"42"
)
TRANSPORTS: Mapping[str, TransportKind] = registry("transports", (WEBSOCKET, SOCKETIO))
"""By name."""

# -- which kinds of users a run has

PUBLISHER = UserKind(
    name="publisher",
    by="loadtests.drive.publish.publishing:EventPublisher",
    groups="publishers",
    lacking="no publisher took part, since its class was not chosen: the load was not offered",
)
CONSUMER = UserKind(
    name="consumer",
    by="loadtests.drive.consume.consumer:WebSocketClient",
    groups="consumers",
    kept=False,
    lacking="no consumer took part, since its class was not chosen: nothing could be received",
)
READER = UserKind(
    name="reader",
    by="loadtests.drive.database_reader:DatabaseReader",
    groups="readers",
    lacking="no reader took part, since its class was not chosen: nothing was asked of the database",
)
USERS: Mapping[str, UserKind] = registry("users", (PUBLISHER, CONSUMER, READER))
"""By name."""
ADDED = {name: kind for name, kind in USERS.items() if kind.groups == "users"}
"""Those of extensions: the kinds of a profile's `users`."""
OWN_KEYS: dict[str, Key] = {name: key for kind in ADDED.values() for name, key in kind.keys.items()}
"""Keys of a group in `users` that only some kinds take. One name means one thing."""


def groups_of(profile: Profile, kind: UserKind) -> list[Any]:
    """The groups of a profile that want users of a kind."""
    found = getattr(profile, kind.groups)
    return [group for group in found if group.kind == kind.name] if kind.name in ADDED else list(found)


def wanted(profile: Profile) -> dict[str, int]:
    """How many users of each kind a profile wants."""
    return {name: sum(group.count for group in groups_of(profile, kind)) for name, kind in USERS.items()}
