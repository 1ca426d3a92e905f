"""What is in a received chunk?  Parsed once for all consumers that receive the same bytes; no socket, no account.

Fan-out sends equal bytes to many, so the whole chunk is looked up first, then each frame; only what is new is decoded.
Both tables are bounded and cleared when full, because what was sent once rarely comes again.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import msgspec

from loadtests.drive.frames import BINARY, CLOSE, PING, TEXT, Cutter, wire
from loadtests.tally.batch import Batch, Message, Odd, message
from loadtests.tally.exceptions import EXAMPLE
from loadtests.tally.identity import Identity, probe_run
from loadtests.tally.streams import FOREIGN, Streams

_ENTRIES: Final = 4096
_BYTES: Final = 4 * 1024 * 1024
_ODD_BYTES: Final = 256
"""What a kept example costs at most beyond the bytes that it stands for."""
_PINGS: Final = 32
"""Pings of one chunk that are answered each; of a flood only the last is, as the protocol allows."""
_FAR: Final = 1 << 62
"""Numbers of an identity lie below this, or no column of the history could hold what is computed of them."""


class Control(NamedTuple):
    """Something that the target says to this connection and that is no message of the load."""

    event: str  # subscribed, unsubscribed, ack, error, probe, ws-ping, ws-close, ...
    data: Any = None
    number: int | None = None  # of the request that it answers


class Reading(NamedTuple):
    """What one data frame holds: at most one of each."""

    identity: Identity | None = None
    odd: Odd | None = None
    control: Control | None = None


class Dialect(Protocol):
    """How a transport wraps payloads."""

    def read(self, opcode: int, payload: bytes) -> Reading:
        """Open one data frame. Raises msgspec.DecodeError where it is not JSON though it should be."""
        ...


def shown(payload: bytes) -> str:
    """A payload as a record shows it."""
    return payload[:EXAMPLE].decode(errors="replace")


class Chunks:
    """Parsed chunks of one transport and run."""

    def __init__(self, dialect: Dialect, streams: Streams, run: str, *, cached: bool = True) -> None:
        self._dialect = dialect
        self._streams = streams
        self._run = run
        self._probe = probe_run(run)
        self._whole: dict[bytes, Batch] = {}
        self._whole_bytes = 0
        self._frames: dict[bytes, Message] = {}
        self._frames_bytes = 0
        self._cached = cached
        self.cached = self._whole.get
        """Batch of a chunk that is known; only a connection whose cutter is clean may use it."""

    def open(self, cutter: Cutter, chunk: bytes) -> tuple[Batch, list[Control]]:
        """Cut and decode a chunk that is not known. A breach of the protocol is the last control."""
        clean = cutter.clean
        messages: list[Message] = []
        odd: list[Odd] = []
        controls: list[Control] = []
        frames = self._frames
        cut = cutter.cut(chunk)
        for opcode, payload in cut:
            known = frames.get(payload) if opcode == TEXT else None
            if known is not None:
                messages.append(known)
            elif opcode in (TEXT, BINARY):
                self._decode(opcode, payload, messages, odd, controls)
                if controls and controls[-1].event == "disconnected":
                    break  # what follows the end of a session is nobody's
            elif opcode == PING:
                if len(controls) >= _PINGS and controls[-1].event == "ws-ping":
                    controls.pop()
                controls.append(Control("ws-ping", payload))
            elif opcode == CLOSE:
                controls.append(Control("ws-close", payload))
        if cutter.broken is not None:
            odd.append(("protocol", str(cutter.broken)))
            controls.append(Control("broken", cutter.broken))
        pure = (
            cutter.between and not controls and len(messages) == len(cut) and all(opcode == TEXT for opcode, _ in cut)
        )
        batch = Batch(messages, odd, frames=[wire(payload) for _, payload in cut] if pure else ())
        if clean and cutter.clean and not controls and self._cached:
            self._whole_bytes += len(chunk) + _ODD_BYTES * len(odd)
            if len(self._whole) >= _ENTRIES or self._whole_bytes > _BYTES:
                self._whole.clear()
                self._whole_bytes = len(chunk)
            self._whole[chunk] = batch
        return batch, controls

    def _decode(
        self, opcode: int, payload: bytes, messages: list[Message], odd: list[Odd], controls: list[Control]
    ) -> None:
        try:
            identity, strange, control = self._dialect.read(opcode, payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            odd.append(("undecodable", shown(payload)))
            return
        if control is not None:
            controls.append(control)
        if strange is not None:
            odd.append(strange)
        if identity is None:
            return
        if identity.seq >= _FAR or not (-_FAR < identity.due_ns < _FAR and -_FAR < identity.sent_ns < _FAR):
            odd.append(("undecodable", shown(payload)))
            return
        if identity.run == self._probe:
            controls.append(Control("probe", identity.seq))
            return
        if identity.run != self._run:
            odd.append(("foreign run", shown(payload)))
            return
        index = self._streams.index_of(identity.stream)
        if index == FOREIGN:
            odd.append(("foreign route", shown(payload)))
            return
        found = message(
            index=index,
            seq=identity.seq,
            due_ns=identity.due_ns,
            sent_ns=identity.sent_ns,
            family=self._streams.family[index],
            size=len(payload),
        )
        messages.append(found)
        if control is None and opcode == TEXT and self._cached:
            self._frames_bytes += len(payload)
            if len(self._frames) >= _ENTRIES or self._frames_bytes > _BYTES:
                self._frames.clear()
                self._frames_bytes = len(payload)
            self._frames[payload] = found


def strange(payload: bytes, kind: str = "protocol") -> Reading:
    """A frame that belongs to no account; `kind` as a `Strange` record has it."""
    return Reading(odd=(kind, shown(payload)))
