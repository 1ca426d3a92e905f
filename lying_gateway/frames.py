"""Which bytes does a WebSocket server write, and which frames has a client sent?  RFC 6455; no socket."""

from __future__ import annotations

import struct
from typing import Final

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
_FIN: Final = 0x80
_MASKED: Final = 0x80
_MAX_BYTES: Final = 1 << 20


class BadFrameError(Exception):
    """The client breaks the protocol; `code` is the close code that says so."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """One whole unmasked frame."""
    size = len(payload)
    if size < 126:
        return bytes((_FIN | opcode, size)) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", _FIN | opcode, 126, size) + payload
    return struct.pack("!BBQ", _FIN | opcode, 127, size) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame with a code."""
    return frame(struct.pack("!H", code) + reason.encode()[:100], CLOSE)


class ClientFrames:
    """Cuts a client's bytes into messages and control frames."""

    def __init__(self) -> None:
        self._held = b""
        self._parts: list[bytes] = []
        self._opcode = CONTINUATION  # of the message whose parts are held

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Opcode and payload of all that is whole now; fragments are joined. Raises BadFrameError."""
        data = self._held + data
        found: list[tuple[int, bytes]] = []
        at = 0
        while (cut := self._cut(data, at)) is not None:
            first, payload, at = cut
            whole = self._join(first, payload)
            if whole is not None:
                found.append(whole)
        self._held = data[at:]
        return found

    def _cut(self, data: bytes, at: int) -> tuple[int, bytes, int] | None:
        """First byte, payload and end of the frame at a place; None while it is torn."""
        if len(data) < at + 2:
            return None
        first, second = data[at], data[at + 1]
        if first & 0x70 or not second & _MASKED:
            raise BadFrameError(1002, "a frame that no client may send")
        size, at = second & 0x7F, at + 2
        if size > 125:
            width = 2 if size == 126 else 8
            if len(data) < at + width:
                return None
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        if size > _MAX_BYTES:
            raise BadFrameError(1009, "too big")
        if len(data) < at + 4 + size:
            return None
        mask, body = data[at : at + 4], data[at + 4 : at + 4 + size]
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        return first, (int.from_bytes(body, "big") ^ key).to_bytes(size, "big"), at + 4 + size

    def _join(self, first: int, payload: bytes) -> tuple[int, bytes] | None:
        opcode = first & 0x0F
        if opcode >= CLOSE:
            return opcode, payload
        if (opcode == CONTINUATION) == (self._opcode == CONTINUATION):
            raise BadFrameError(1002, "a fragment out of place")
        if opcode != CONTINUATION:
            self._opcode = opcode
        self._parts.append(payload)
        if sum(map(len, self._parts)) > _MAX_BYTES:
            raise BadFrameError(1009, "too big")
        if not first & _FIN:
            return None
        whole = self._opcode, b"".join(self._parts)
        self._opcode = CONTINUATION
        self._parts.clear()
        return whole
