"""What is in a received chunk?  Parsed once for all consumers that receive the same bytes; no socket, no account.

Theory of operation.  A chunk is what one read returned.  Fan-out sends equal bytes to many consumers, so `Chunks` keeps
two tables: chunk -> batch, and payload of a text frame -> message.  A connection that stands between two frames asks
the first by `cached`.  Else `open` has the connection's cutter cut the chunk, looks each payload up in the second, and
has the dialect decode what is new: a message of this run, something odd for the history, or a control for this
connection.

Example: f1 and f2 are frames with one message each, A, B and C are consumers.

    A reads f1 f2       unknown: two frames are cut and decoded, the chunk and both payloads are kept
    B reads f1 f2       the chunk is known: the same batch, nothing is cut
    C reads f1          the chunk is new, its payload known: one frame is cut, nothing is decoded
    C reads f2, a ping  the payload is known; the ping is a control, so the chunk is not kept

Invariants:
- Both tables are bounded in entries and bytes, and cleared when full: what was sent once rarely comes again.
- A chunk is kept only if the cutter was clean before and after it and it holds no control: what it means depends on
  nothing else then.  A batch is shared, so nothing in it depends on the consumer.
- A batch names its frames only if the chunk held text frames with one message each and nothing else; these alone may
  become steps of a reference (`tally.shared_prefix`).
- A message of another run, of an unknown stream or with an impossible `seq` reaches no account.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from loadtests.drive.consume.frames import BINARY, CLOSE, PING, TEXT, TooLongError, wire
from loadtests.drive.consume.integrity import Integrity
from loadtests.tally.account import EXAMPLE
from loadtests.tally.batch import Batch, Message, Odd, message
from loadtests.tally.identity import MessageIdentity, Seal, probe_run
from loadtests.tally.streams import FOREIGN, STREAMS_KEPT, TOO_MANY, Streams

if TYPE_CHECKING:
    from loadtests.drive.consume.transport import Cutting
    from loadtests.model.contract import Contract

_ENTRIES: Final = 4096
_BYTES: Final = 4 * 1024 * 1024
_ODD_BYTES: Final = 256
"""What a kept example costs at most beyond the bytes that it stands for."""
_PINGS: Final = 32
"""Pings of one chunk that are answered each; of a flood only the last is, as the protocol allows."""
FAR_SEQ: Final = 1 << 32
"""A stream has fewer messages: what has a greater number is none of them, and no account could hold it."""
_FAR_NS: Final = 1 << 51
"""26 days, longer than any run: times beyond are not those that were sent, say of the target's own clock."""
_NO_JSON: Final = (msgspec.DecodeError, ValueError, RecursionError)
_COMPRESSED: Final = (b"\x1f\x8b", b"\x78\x01", b"\x78\x9c", b"\x78\xda", b"\x28\xb5\x2f\xfd")
"""How gzip, zlib and zstd begin."""
JOINED_MAX: Final = 1 << 16
"""Messages of one frame that are taken."""
JOINED: Final = f"more than {JOINED_MAX} messages in one frame"
_EPOCHS: Final = 16
STREAMS: Final = "messages of more streams than one process keeps"
NO_JSON: Final = "messages in binary frames that are no JSON"
ATTACHED: Final = "messages in binary attachments of Socket.IO"
ELSEWHERE: Final = "messages whose identity is not where identity.path says"


class Control(NamedTuple):
    """Something that the target says to this connection and that is no message of the load.

    "cannot": of what it sent we cannot take a part, for the reason in `data`.
    """

    event: str  # subscribed, unsubscribed, ack, error, probe, ws-ping, ws-close, cannot, ...
    data: Any = None
    number: int | None = None  # of the request that it answers


class FrameReading(NamedTuple):
    """What one data frame holds: at most one of each."""

    identity: MessageIdentity | None = None
    odd: Odd | None = None
    control: Control | None = None
    attachments: int = 0  # binary frames that follow and belong to it
    body: bytes = b""  # the JSON in which the identity was found


class Dialect(Protocol):
    """What the frames of a transport hold."""

    def read(self, opcode: int, payload: bytes) -> FrameReading:
        """Open one data frame. Raises msgspec.DecodeError where it is not JSON though it should be."""
        ...

    def parts(self, opcode: int, payload: bytes) -> list[bytes]:
        """The messages that one frame joins, each as a frame of its own would have it; empty where it joins none.

        Raises what `read` does, and ValueError.
        """
        ...

    def lacks(self, payload: bytes) -> bool:
        """Whether nothing stands where a frame that is JSON should have its identity."""
        ...

    def unreadable(self, opcode: int, payload: bytes) -> str:
        """Kind of the record of a data frame that `read` could not open."""
        ...


def streams_kept(contract: Contract) -> int:
    """Streams that are not made up: each publisher's routes, in as many epochs as a run with many faults brings."""
    families = contract.profile.families
    routes = Counter(families[route.family].name for route in contract.routes)
    pairs = sum(group.count * routes[name] for group in contract.profile.publishers for name in set(group.families))
    return max(STREAMS_KEPT, _EPOCHS * pairs)


def shown(payload: bytes) -> str:
    """A payload as a record shows it."""
    return payload[:EXAMPLE].decode(errors="replace")


class Chunks:
    """Parsed chunks of one transport and run."""

    def __init__(
        self,
        dialect: Dialect,
        streams: Streams,
        run: str,
        *,
        cached: bool = True,
        integrity: Integrity | None = None,
        stream: bool = True,
    ) -> None:
        self._dialect = dialect
        self._stream = stream  # frames of messages are WebSocket's, so that their bytes can be known beforehand
        self._seal = Seal(run)
        self._integrity = integrity
        self._streams = streams
        self._run = run
        self._probe = probe_run(run)
        self._mark = run.encode()
        name = re.escape(self._mark)
        self._unread = re.compile(rb'\\*"r\\*"\s*:\s*\\*"%b\\*"|"%b\.\d+\.\d+\.' % (name, name)).search
        self._whole: dict[bytes, Batch] = {}
        self._whole_bytes = 0
        self._frames: dict[bytes, Message] = {}
        self._frames_bytes = 0
        self._spoilt: dict[bytes, list[Odd]] = {}  # of known frames, what is odd about them
        self._cached = cached
        self.cached = self._whole.get
        """Batch of a chunk that is known; only a connection whose cutter is clean may use it."""

    def open(self, cutter: Cutting, chunk: bytes) -> tuple[Batch, list[Control]]:
        """Cut and decode a chunk that is not known. A breach of the protocol is the last control."""
        clean = cutter.clean
        messages: list[Message] = []
        odd: list[Odd] = []
        controls: list[Control] = []
        frames = self._frames
        cut = cutter.cut(chunk)
        joined = False
        for opcode, payload in cut:
            known = frames.get(payload) if opcode == TEXT else None
            if cutter.attachments and self._attached(cutter, opcode, payload, odd, controls):
                continue
            if known is not None:
                messages.append(known)
                if self._spoilt:
                    odd += self._spoilt.get(payload, ())
            elif opcode in (TEXT, BINARY):
                reading = self._decode(opcode, payload, messages, odd, controls)
                joined = joined or reading is None
                if reading is not None and reading.attachments:
                    cutter.attachments = reading.attachments
                if controls and controls[-1].event == "disconnected":
                    break  # what follows the end of a session belongs to no account
            elif opcode == PING:
                if len(controls) >= _PINGS and controls[-1].event == "ws-ping":
                    controls.pop()
                controls.append(Control("ws-ping", payload))
            elif opcode == CLOSE:
                controls.append(Control("ws-close", payload))
        if cutter.broken is not None:
            if not isinstance(cutter.broken, TooLongError):
                odd.append(Odd("protocol", str(cutter.broken)))
            controls.append(Control("broken", cutter.broken))
        alone = not joined and len(messages) == len(cut)
        pure = (
            self._stream
            and cutter.between
            and not (controls or odd)
            and alone
            and all(opcode == TEXT for opcode, _ in cut)
        )
        batch = Batch(messages, odd, frames=[wire(payload) for _, payload in cut] if pure else ())
        if clean and cutter.clean and not controls and self._cached:
            self._whole_bytes += len(chunk) + _ODD_BYTES * len(odd)
            if len(self._whole) >= _ENTRIES or self._whole_bytes > _BYTES:
                self._whole.clear()
                self._whole_bytes = len(chunk)
            self._whole[chunk] = batch
        return batch, controls

    def _attached(self, cutter: Cutting, opcode: int, payload: bytes, odd: list[Odd], controls: list[Control]) -> bool:
        """Whether a frame is an attachment that was announced; one that does not come is a breach."""
        if opcode == BINARY:
            cutter.attachments -= 1
            if self._mark in payload:
                controls.append(Control("cannot", ATTACHED))
            return True
        if opcode == TEXT and payload[:1] == b"4":  # Engine.IO's own packets may come between
            cutter.attachments = 0
            odd.append(Odd("protocol", "a packet before the binary attachments of the one before it"))
        return False

    def _decode(
        self, opcode: int, payload: bytes, messages: list[Message], odd: list[Odd], controls: list[Control]
    ) -> FrameReading | None:
        """Open one data frame; None where it joined several messages."""
        reading = self._read(opcode, payload)
        again = reading is not None and reading.identity is not None and payload.count(self._mark) > 1
        if again or reading is None or reading.odd is not None:
            try:
                parts = self._dialect.parts(opcode, payload)
            except _NO_JSON:
                parts = []
            readings = [(part, self._read(opcode, part)) for part in parts[:JOINED_MAX]]
            found = [one for _, one in readings if one is not None]
            if again:
                joined = sum(one.identity is not None for one in found) > 1
            elif reading is None:
                joined = bool(found)
            else:  # what has no identity as a whole is one, unless a part of it says something
                joined = any(one.identity is not None or one.control is not None for one in found)
            if joined:
                for part, one in readings:
                    self._take(opcode, part, one, messages, odd, controls)
                if len(parts) > JOINED_MAX:
                    controls.append(Control("cannot", JOINED))
                return None
        self._take(opcode, payload, reading, messages, odd, controls)
        return reading or _NOTHING

    def _read(self, opcode: int, payload: bytes) -> FrameReading | None:
        """What a frame holds; None where it is no JSON."""
        try:
            return self._dialect.read(opcode, payload)
        except _NO_JSON:
            return None

    def _astray(self, payload: bytes) -> bool:
        """Whether a frame without identity holds one of ours all the same, but not where it should be."""
        try:
            return self._unread(payload) is not None and self._dialect.lacks(payload)
        except _NO_JSON:
            return False

    def _take(
        self,
        opcode: int,
        payload: bytes,
        reading: FrameReading | None,
        messages: list[Message],
        odd: list[Odd],
        controls: list[Control],
    ) -> None:
        if reading is None:
            if opcode == BINARY and (self._mark in payload or payload.startswith(_COMPRESSED)):
                controls.append(Control("cannot", NO_JSON))
            else:
                odd.append(Odd(self._dialect.unreadable(opcode, payload), shown(payload)))
            return
        identity, strange, control, attachments, body = reading
        far = identity is not None and identity.seq >= FAR_SEQ
        if control is not None:
            controls.append(control)
        if strange is not None:
            odd.append(strange)
            if strange[0] == "no identity" and self._mark in payload and self._astray(payload):
                controls.append(Control("cannot", ELSEWHERE))
        if identity is None:
            return
        if identity.run == self._probe and not far:
            controls.append(Control("probe", identity.seq))
            return
        if identity.run != self._run:
            odd.append(Odd("foreign run", shown(payload)))
            return
        index = self._streams.index_of(identity.stream)
        if index == TOO_MANY:
            controls.append(Control("cannot", STREAMS))
            return
        if index == FOREIGN:
            odd.append(Odd("foreign route", shown(payload)))
            return
        if far:
            odd.append(Odd("restamped", shown(payload), self._streams.family[index]))
            return
        spoilt = self._spoiling(identity, index, body)
        odd += spoilt
        found = message(
            index=index,
            seq=identity.seq,
            due_ns=_within_a_run(identity.due_ns),
            sent_ns=_within_a_run(identity.sent_ns),
            family=self._streams.family[index],
            size=len(payload),
        )
        messages.append(found)
        if control is None and opcode == TEXT and not attachments and self._cached:
            self._frames_bytes += len(payload)
            if len(self._frames) >= _ENTRIES or self._frames_bytes > _BYTES:
                self._frames.clear()
                self._spoilt.clear()
                self._frames_bytes = len(payload)
            self._frames[payload] = found
            if spoilt:
                self._spoilt[payload] = spoilt

    def _spoiling(self, identity: MessageIdentity, index: int, body: bytes) -> list[Odd]:
        """How a message of this run differs from what was published."""
        family = self._streams.family[index]
        _, stream, seq, due_ns, sent_ns, check, _ = identity
        sealed = check == self._seal.of(stream, seq, due_ns, sent_ns)
        found = []
        if not sealed:
            found.append(Odd("restamped", f"stream {stream} seq {seq} due {due_ns} ns sent {sent_ns} ns", family))
        if self._integrity is not None and self._integrity.altered(identity, index, family, body, sealed=sealed):
            found.append(Odd("altered", shown(body), family))
        return found


def _within_a_run(time_ns: int) -> int:
    """A time of an identity; 0 for one that lies in no run, so that no table grows with what a target makes up."""
    return time_ns if -_FAR_NS < time_ns < _FAR_NS else 0


def begins_json(text: bytes) -> bool:
    """Whether a text that is no JSON was meant to be an object or a list."""
    return text.lstrip()[:1] in (b"{", b"[")


_NOTHING: Final = FrameReading()


def strange(payload: bytes, kind: str = "protocol") -> FrameReading:
    """A frame that belongs to no account; `kind` as a `Strange` record has it."""
    return FrameReading(odd=Odd(kind, shown(payload)))
