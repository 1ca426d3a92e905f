"""What is known of one open connection of a consumer?  Its socket, its cutter, its account, and what it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gevent.event import AsyncResult, Event

from loadtests.drive.consume.chunks import Chunks
from loadtests.drive.consume.frames import MAX_MESSAGE
from loadtests.tally.account import Account

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.drive.consume.single_frame import SingleFrame
    from loadtests.drive.consume.transport import Transport
    from loadtests.tally.batch import Batch

OUTGOING_MAX = 64 * 1024
"""Bytes that may wait to be sent; a peer that reads nothing at all gets no more pongs than that."""


class RequestAnswer(NamedTuple):
    """What the target said to a request, and when we read it."""

    at_ns: int
    data: Any
    refused: str = ""


class ConnectionEnd(NamedTuple):
    """Why a connection is over."""

    at_ns: int
    why: str
    detail: str

    def refusal(self) -> RequestAnswer:
        """What a request gets that the connection's end left open."""
        return RequestAnswer(self.at_ns, None, f"{self.why}: {self.detail}")


class Connection:
    """One epoch of a consumer: its source reads it, the receiver accounts what comes, the consumer's greenlet waits."""

    __slots__ = (
        "account",
        "answers",
        "cached",
        "chunks",
        "clean",
        "confirmed",
        "cutter",
        "end",
        "group",
        "heard_ns",
        "numbers",
        "outgoing",
        "over",
        "patience_ns",
        "read_bytes_per_s",
        "ready",
        "recv",
        "resume",
        "single",
        "sock",
        "stamped",
        "transport",
        "writing",
    )

    def __init__(
        self,
        *,
        sock: Any,
        transport: Transport,
        chunks: Chunks,
        single: SingleFrame,
        account: Account,
        group: int,
        read_bytes_per_s: int | None,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        self.sock = sock
        self.recv: Callable[[int], bytes] = sock.recv
        self.transport = transport
        self.chunks = chunks
        self.single = single
        self.cached: Callable[[bytes], Batch | None] = chunks.cached
        self.cutter = transport.cutter(max_message)
        self.clean = True  # the next byte begins a frame
        self.account = account
        self.group = group
        self.read_bytes_per_s = read_bytes_per_s
        self.stamped = False  # the kernel stamps its reads
        self.heard_ns = 0  # when the server's last ping came, or its open packet
        self.patience_ns = 0  # how long to wait for the next; 0: for ever
        self.confirmed = False
        self.ready = Event()  # requests may be made
        self.answers: dict[int, AsyncResult[RequestAnswer]] = {}
        self.numbers = 0
        self.outgoing = bytearray()
        self.writing = False
        self.resume: Any = None  # timer of a slow reader
        self.end: ConnectionEnd | None = None
        self.over = Event()

    def answered(self, answer: RequestAnswer, number: int | None) -> None:
        """Hand an answer to the greenlet that asked; without a number it answers the oldest request."""
        if number is None and self.answers:
            number = next(iter(self.answers))
        waiting = self.answers.pop(number, None) if number is not None else None
        if waiting is not None:
            waiting.set(answer)
