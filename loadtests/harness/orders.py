"""What do master and workers say to each other?  Names and shapes of custom messages; handlers only enqueue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TAKE = "tickstorm_take"  # worker -> master: {number, kind}
SLOT = "tickstorm_slot"  # master -> worker: {number, slot: [slot, epoch] | None}
GIVE = "tickstorm_give"  # worker -> master: {kind, slot, next_epoch}
CHUNK = "tickstorm_chunk"  # worker -> master: {run, process, number, frame}
ACK = "tickstorm_ack"  # master -> worker: {run, number}
STATUS = "tickstorm_status"  # worker -> master: {run, status}
ORDER = "tickstorm_order"  # master -> worker: {run, what, data}


def handler(function: Callable[[str, dict[str, Any]], None]) -> Callable[..., None]:
    """A listener for a custom message: gets the sender's id and the data."""

    def listener(environment: Any, msg: Any, **_: Any) -> None:
        function(msg.node_id, msg.data)

    return listener
