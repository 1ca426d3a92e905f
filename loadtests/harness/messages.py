"""What do master and workers say to each other?  Names and shapes of custom messages; handlers only enqueue.

Locust's port has no authentication: any process that reaches it can be a worker. A message of another shape is
told once for each sender, and does nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from loadtests.harness.participant import PartStatus
from loadtests.model.user_kinds import USERS

log = logging.getLogger("tickstorm")

TAKE = "tickstorm_take"  # worker -> master: Take
SLOT = "tickstorm_slot"  # master -> worker: {number, slot: [slot, epoch] | None}
GIVE = "tickstorm_give"  # worker -> master: Give
CHUNK = "tickstorm_chunk"  # worker -> master: Chunk
ACK = "tickstorm_ack"  # master -> worker: {run, number}
STATUS = "tickstorm_status"  # worker -> master: Status
ORDER = "tickstorm_order"  # master -> worker: {run, what, data}

Name = Annotated[str, Meta(max_length=200)]
Number = Annotated[int, Meta(ge=0, le=1 << 40)]
KindName = Annotated[str, Meta(pattern=f"^({'|'.join(USERS)})$")]
M = TypeVar("M", bound=Struct)


class Take(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user of a kind begins and wants a slot."""

    number: Number
    kind: KindName


class Give(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user of a kind gives its slot back."""

    kind: KindName
    slot: Number
    next_epoch: Number


class Chunk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frame of a worker's history."""

    run: Name
    process: Annotated[str, Meta(pattern=r"^worker-[0-9]{1,6}$")]
    number: Number
    frame: Annotated[bytes, Meta(max_length=1 << 20)]


class StatusMessage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a worker is in its run."""

    run: Name
    status: PartStatus


def handler(function: Callable[[str, dict[str, Any]], None]) -> Callable[..., None]:
    """A listener for a message of the master: gets the sender's id and the data."""

    def listener(environment: Any, msg: Any, **_: Any) -> None:
        function(msg.node_id, msg.data)

    return listener


def checked(function: Callable[[str, M], None], shape: type[M]) -> Callable[..., None]:
    """A listener for a message of a worker: gets the sender's id and the data, where it has the shape that it must."""
    told: set[str] = set()

    def listener(environment: Any, msg: Any, **_: Any) -> None:
        try:
            found = msgspec.convert(msg.data, shape, builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            if len(told) < 100 and msg.node_id not in told:
                told.add(msg.node_id)
                log.warning("a message of %.100r is no %s: %s", msg.node_id, shape.__name__, error)
            return
        function(msg.node_id, found)

    return listener
