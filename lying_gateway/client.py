"""What is known of one connection?  Its socket, its names, its queue and what was put off for it; no behaviour."""

from __future__ import annotations

import itertools
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lying_gateway.event import Event, Transport
from lying_gateway.frames import ClientFrames
from lying_gateway.plan import Rule
from lying_gateway.rooms import Room

_numbers: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class Name:
    """How a consumer named itself; all None where it did not."""

    run: str | None = None
    consumer: int | None = None
    epoch: int | None = None


@dataclass(slots=True, eq=False)
class PutOff:
    """A message that one connection gets later, or never."""

    rule: Rule
    client: Client
    event: Event
    at_ns: int
    wanted: int = 0  # successors that must have passed it; 0: only time counts
    passed: int = 0
    settled: bool = False


class Client:
    """One connection, from its accepting to its end."""

    __slots__ = (
        "batch", "behind", "closed_is_due", "connection", "cutter", "heard", "name", "number", "out", "out_at",
        "out_bytes", "put_off", "recorded", "room", "send", "sock", "state", "transport", "wants_health", "why",
        "writing",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, heard: Callable[[Client, bytes], None]) -> None:
        self.sock = sock
        self.send = sock.send
        self.connection = next(_numbers)
        self.name = Name()
        self.number = -1 - self.connection  # the slot, or for one without a name a number of its own
        self.transport: Transport = "websocket"
        self.heard = heard  # who takes the bytes that come
        self.behind = b""  # of a request's head that is not whole
        self.cutter = ClientFrames()
        self.state = "new"  # new, open, leaving (no more frames, what is queued goes out), over
        self.closed_is_due = False  # the book has its opening and not its end
        self.why: tuple[str, int] = ("", 0)  # reason and code of the end
        self.room: Room | None = None
        self.wants_health = False
        self.out: deque[tuple[bytes, tuple[int, ...]]] = deque()  # bytes, and the messages that they are
        self.out_at = 0  # so many bytes of the first are sent
        self.out_bytes = 0
        self.writing = False  # the loop watches for room in the socket
        self.put_off: dict[int, list[PutOff]] = {}  # by stream
        self.batch: list[tuple[bytes, int]] = []  # frames of the present tick
        self.recorded: tuple[list[int], list[int], list[int]] = ([], [], [])  # n, before, after

    def named(self, name: Name) -> None:
        """Take the name from the upgrade request."""
        self.name = name
        if name.consumer is not None:
            self.number = name.consumer

    def refresh(self) -> None:
        """Tell the room whether a plain send will do."""
        if self.room is not None:
            special = bool(self.out or self.put_off)
            if special != (self in self.room.special):
                self.room.mark(self, special=special)
