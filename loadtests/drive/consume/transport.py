"""How does a consumer talk to its target?  The port that a transport implements: it opens, cuts, reads and asks.

A transport is made once for a run, from the identity's path and form. For each connection it opens a connected socket
and makes a cutter; everything else it says of bytes alone, so that what many consumers receive is read once for all.
An example outside the tree: tests/extensions/tickstorm_examples/server_sent_events.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from loadtests.drive.consume.chunks import Control, Dialect
from loadtests.drive.consume.frames import Frame, ProtocolError
from loadtests.model.contract import ConsumerPlan
from loadtests.model.profile.tables import Target

if TYPE_CHECKING:
    from loadtests.tally.identity import Form


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Where a consumer connects, and as which consumer."""

    host: str
    port: int
    target: Target
    plan: ConsumerPlan  # what it will subscribe to
    agent: str  # how it names itself
    token: str | None  # what it presents, where the target asks for one
    message_bytes: int  # the longest message that it takes


class Cutting(Protocol):
    """Where messages begin and end in one connection's bytes; see `frames.Cutter`, which is WebSocket's."""

    attachments: int
    broken: ProtocolError | None

    @property
    def clean(self) -> bool:
        """Whether the next byte begins a frame that belongs to nothing before it."""
        ...

    @property
    def between(self) -> bool:
        """Whether nothing is held but the beginning of such a frame."""
        ...

    def give_back(self) -> bytes:
        """That beginning, where it may be compared as bytes; then nothing is held."""
        ...

    def cut(self, chunk: bytes) -> list[Frame]:
        """Frames that are complete with this chunk; a breach is in `broken`."""
        ...


class Transport(Dialect, Protocol):
    """All of one kind's connections."""

    ready: bool
    """Requests may be made as soon as it is open; else the control "connected" says so."""
    asks: bool
    """Subscribes by a request; else opening has subscribed, and there is no answer to wait for."""

    def __init__(self, path: str, form: Form) -> None: ...

    def open(self, sock: Any, call: Call) -> tuple[Any, bytes]:
        """Shake hands over a connected socket; the socket to read, and the bytes that came behind the answer.

        Raises RefusedError (handshake) where the target declines, OSError where the connection breaks.
        """
        ...

    def with_token(self, token: str | None) -> Transport:
        """The same, for a connection that shows a token after it was opened."""
        ...

    def cutter(self, most_bytes: int) -> Cutting:
        """Of one connection; `most_bytes` is the longest message."""
        ...

    def request(self, action: str, number: int, body: dict[str, Any]) -> bytes:
        """Bytes of a request; empty where there is nothing to send."""
        ...

    def greeting(self, control: Control) -> bytes | None:
        """Bytes with which to answer a control message by itself; None where none is due."""
        ...

    def goodbye(self, code: int = 1000, reason: str = "") -> bytes:
        """Bytes with which to leave in order; empty where a close says enough."""
        ...
