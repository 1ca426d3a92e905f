"""Where do WebSocket messages begin and end?  A parser of the client's side of RFC 6455: bytes in, frames out.

Theory of operation.  A frame is a head of 2, 4 or 10 bytes (flags, opcode, length) and its payload; a server's are not
masked.  `Cutter.cut` takes bytes as they come and returns the frames that are whole.  Final data frames take a short
path; control frames and fragments go through `_check` and `_unusual`.  The rest is held, with the number of bytes that
must be there before another look makes sense, so that a frame that drips in costs a look for its head and its end.

Example: the text "hi", a ping, and a text of 300 bytes come in three chunks.

    81 02 68            []                                   held 81 02 68, wanted 4
    69 89 00 81 7e 01   [(TEXT, b"hi"), (PING, b"")]         held 81 7e 01, wanted 4: the length is not whole
    2c, 300 bytes       [(TEXT, the 300 bytes)]              held nothing: the cutter is `clean`

Invariants:
- The same bytes give the same frames, however they are split into chunks.
- A connection holds at most its longest message and a head: a breach or an excess is refused by the head alone.
- Frames before a breach or a close frame are returned; behind it (`broken`, `closed`) nothing is cut.

Source: RFC 6455, sections 5.2 to 5.6 (frames), 7.4 (close codes), 8.1 (UTF-8).
"""

from __future__ import annotations

import codecs
import os
from typing import Final, Literal

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
MAX_MESSAGE: Final = 4 * 1024 * 1024
_MAX_CONTROL: Final = 125
_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})
"""Close codes that may be sent: 1004 to 1006 and 1015 stand for what no frame can say, the rest are unassigned."""
_Utf8: Final = codecs.getincrementaldecoder("utf-8")

Opcode = Literal[1, 2, 8, 9, 10]
Frame = tuple[int, bytes]
"""Opcode and payload: a whole message (TEXT, BINARY), or a control frame."""


class ProtocolError(Exception):
    """The peer broke the protocol; `code` is the close code to answer with."""

    def __init__(self, what: str, code: int = 1002) -> None:
        super().__init__(what)
        self.code = code


class TooLongError(ProtocolError):
    """The peer broke nothing: the message is longer than we take."""

    def __init__(self) -> None:
        super().__init__("a message is longer than guard.message_bytes", 1009)


def encode(opcode: int, payload: bytes, mask: bytes | None = None) -> bytes:
    """A client's frame: final, masked, with a fresh mask unless one is given."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    mask = os.urandom(4) if mask is None else mask
    key = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def wire(payload: bytes) -> bytes:
    """A server's unfragmented text frame, its length in as few bytes as it takes."""
    size = len(payload)
    if size < 126:
        return b"\x81" + bytes((size,)) + payload
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


def begun(data: bytes | bytearray) -> bool:
    """Whether these bytes are the beginning of one text frame of at most 64 KiB that is not whole yet."""
    if not data or data[0] != 0x81:
        return False
    if len(data) < 2:
        return True
    size, head = data[1], 2
    if size > 126:
        return False
    if size == 126:
        head = 4
        if len(data) < head:
            return True
        size = int.from_bytes(data[2:4], "big")
    return head + size > len(data)


def encode_close(code: int, reason: str = "") -> bytes:
    """A client's close frame; a long reason is cut between two characters."""
    text = reason.encode()[: _MAX_CONTROL - 2].decode(errors="ignore")
    return encode(CLOSE, code.to_bytes(2, "big") + text.encode())


def close_answer(payload: bytes) -> bytes:
    """A client's answer to a close frame: its code, without one nothing."""
    return encode(CLOSE, payload[:2])


def close_reason(payload: bytes) -> str:
    """What a close frame said, for people: code and text."""
    if len(payload) < 2:
        return "no code"
    return f"{int.from_bytes(payload[:2], 'big')} {payload[2:].decode(errors='replace')}".strip()


class Cutter:
    """Cuts one connection's bytes into frames; holds what an unfinished frame or message needs, no more."""

    __slots__ = ("_held", "_max", "_opcode", "_parts", "_utf8", "_wanted", "attachments", "broken", "closed")

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        self._held = bytearray()
        self._wanted = 0  # bytes that must be there before cutting makes sense again
        self._parts: bytearray | None = None  # payload of a fragmented message so far
        self._opcode = 0
        self._utf8: codecs.IncrementalDecoder | None = None  # of a fragmented text so far
        self._max = max_message
        self.broken: ProtocolError | None = None  # the breach behind the last good frame: nothing more is cut
        self.closed = False  # a close frame came: nothing more is cut
        self.attachments = 0  # binary messages that belong to the message before them and are still to come

    @property
    def clean(self) -> bool:
        """Whether the next byte begins a frame that belongs to nothing before it."""
        return not self._held and self.between

    @property
    def between(self) -> bool:
        """Whether nothing is held but the beginning of a frame that belongs to nothing before it."""
        return self._parts is None and self.broken is None and not self.closed and not self.attachments

    def give_back(self) -> bytes:
        """Hand out the beginning of a frame, where `begun` knows it for one; then nothing is held."""
        if not self.between or not begun(self._held):
            return b""
        held = bytes(self._held)
        self._held.clear()
        return held

    def cut(self, chunk: bytes) -> list[Frame]:
        """Frames that are complete with this chunk, up to a close frame, or to a breach, which `broken` then holds."""
        found: list[Frame] = []
        if self.broken is None and not self.closed:
            try:
                self._cut(chunk, found)
            except ProtocolError as error:
                self.broken = error
                self._forget()
        return found

    def _forget(self) -> None:
        """Nothing more is cut, so nothing is held."""
        self._held.clear()
        self._parts = self._utf8 = None

    def _cut(self, chunk: bytes, found: list[Frame]) -> None:
        data = chunk
        if self._held:
            self._held += chunk
            if len(self._held) < self._wanted:
                return
            data = bytes(self._held)
            self._held.clear()
        at, end = 0, len(data)
        while end - at >= 2:
            head, size = data[at], data[at + 1]
            start = at + 2
            if size == 126:
                start += 2
                least = 126
            elif size == 127:
                start += 8
                least = 1 << 16
            elif size & 0x80:
                raise ProtocolError("a masked frame from the server")
            if end < start:
                self._wanted = start - at
                break
            if size > 125:
                size = int.from_bytes(data[at + 2 : start], "big")
                if size < least:
                    raise ProtocolError("a length in more bytes than it needs")
            stop = start + size
            if stop > end or (head != 0x81 and head != 0x82) or self._parts is not None:
                self._check(head, size)
                if stop > end:
                    self._wanted = stop - at
                    break
                frame = self._unusual(head, data[start:stop])
                if frame is not None:
                    found.append(frame)
                    if self.closed:
                        self._forget()
                        return
            else:
                if size > self._max:
                    raise too_long(size)
                payload = data[start:stop]
                if head == 0x81 and not payload.isascii():
                    _check_text(payload)
                found.append((head & 15, payload))
            at = stop
        else:
            self._wanted = 2
        if at < end:
            self._held += data[at:]

    def _check(self, head: int, size: int) -> None:
        """Refuse by the header alone, before the payload is waited for."""
        opcode = head & 15
        if head & 0x70:
            raise ProtocolError("reserved bits are set, though no extension was agreed")
        if opcode >= 8:
            if opcode > PONG:
                raise ProtocolError(f"unknown opcode {opcode}")
            if not head & 0x80:
                raise ProtocolError("a fragmented control frame")
            if size > _MAX_CONTROL:
                raise ProtocolError("a control frame is too long")
            return
        if opcode > BINARY:
            raise ProtocolError(f"unknown opcode {opcode}")
        if opcode == 0 and self._parts is None:
            raise ProtocolError("a continuation of nothing")
        if opcode != 0 and self._parts is not None:
            raise ProtocolError("a message inside another")
        if size + len(self._parts or b"") > self._max:
            raise too_long(size)

    def _unusual(self, head: int, payload: bytes) -> Frame | None:
        """Control frames and fragments; None while a message goes on."""
        opcode = head & 15
        if opcode >= 8:
            if opcode == CLOSE:
                _check_close(payload)
                self.closed = True
            return opcode, payload
        final = bool(head & 0x80)
        if opcode:
            self._parts, self._opcode = bytearray(), opcode
            self._utf8 = _Utf8() if opcode == TEXT else None
        assert self._parts is not None, "a continuation of nothing was refused by its header"
        if self._utf8 is not None:
            try:
                self._utf8.decode(payload, final)
            except UnicodeDecodeError as error:
                raise ProtocolError("text that is not UTF-8", 1007) from error
        self._parts += payload
        if not final:
            return None
        whole, self._parts, self._utf8 = bytes(self._parts), None, None
        return self._opcode, whole


def too_long(size: int) -> ProtocolError:
    """What is wrong with a message of such a length: nothing but that it is too long for us, if it can be a length."""
    if size >> 63:
        return ProtocolError("a length with its highest bit set")
    return TooLongError()


def _check_close(payload: bytes) -> None:
    if not payload:
        return
    if len(payload) == 1:
        raise ProtocolError("a close frame with half a code")
    code = int.from_bytes(payload[:2], "big")
    if code not in _CODES:
        raise ProtocolError(f"a close frame with code {code}, which nobody may send")
    _check_text(payload[2:])


def _check_text(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("text that is not UTF-8", 1007) from error
