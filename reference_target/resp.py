"""Which replies are in these bytes from Redis?  Pure cutter of RESP2 with a short way for pub/sub messages."""

from __future__ import annotations

from typing import NamedTuple

MAX_BULK_BYTES = 512 << 20


class ProtocolError(Exception):
    """The peer does not speak RESP2; the connection is of no use any more."""


class Message(NamedTuple):
    """One published message, as the subscriber gets it."""

    channel: bytes
    payload: bytes


class ErrorReply(NamedTuple):
    """An error that Redis answered."""

    text: str


Reply = Message | ErrorReply | bytes | int | list["Reply"] | None

_MESSAGE = b"*3\r\n$7\r\nmessage\r\n$"
_INCOMPLETE = (None, -1)


def command(*parts: str | bytes) -> bytes:
    """A command in RESP."""
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in encoded)


class RespReader:
    """Cuts whole replies out of a stream of chunks and keeps the torn rest."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._held = 0
        self._wanted = 0  # no reply can be whole before so many bytes are held

    def feed(self, data: bytes) -> list[Reply]:
        """All replies that are whole now. Raises ProtocolError."""
        if self._chunks:
            self._chunks.append(data)
            self._held += len(data)
            if self._held < self._wanted:
                return []
            data = b"".join(self._chunks)
            self._chunks.clear()
        self._wanted = 0
        replies: list[Reply] = []
        at, end = 0, len(data)
        while at < end:
            reply, after = self._message(data, at) if data.startswith(_MESSAGE, at) else self._reply(data, at)
            if after < 0:
                rest = data[at:] if at else data
                self._chunks.append(rest)
                self._held = len(rest)
                self._wanted = max(0, self._wanted - at)
                break
            replies.append(reply)
            at = after
        return replies

    def _message(self, data: bytes, at: int) -> tuple[Reply, int]:
        channel, after = self._bulk(data, at + len(_MESSAGE) - 1)
        if after < 0:
            return _INCOMPLETE
        payload, after = self._bulk(data, after)
        if after < 0:
            return _INCOMPLETE
        if channel is None or payload is None:
            raise ProtocolError("a message without channel or payload")
        return Message(channel, payload), after

    def _bulk(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        stop = data.find(b"\r\n", at)
        if stop < 0:
            return _INCOMPLETE
        if data[at : at + 1] != b"$":
            raise ProtocolError(f"expected a bulk string, got {data[at : at + 16]!r}")
        length = _integer(data[at + 1 : stop])
        if length < 0:
            return None, stop + 2
        if length > MAX_BULK_BYTES:
            raise ProtocolError(f"a bulk string of {length} bytes")
        after = stop + 2 + length + 2
        if after > len(data):
            self._wanted = after
            return _INCOMPLETE
        if data[after - 2 : after] != b"\r\n":
            raise ProtocolError("a bulk string without its end")
        return data[stop + 2 : after - 2], after

    def _reply(self, data: bytes, at: int) -> tuple[Reply, int]:
        kind = data[at : at + 1]
        if kind == b"$":
            return self._bulk(data, at)
        stop = data.find(b"\r\n", at)
        if stop < 0:
            return _INCOMPLETE
        line, after = data[at + 1 : stop], stop + 2
        if kind == b"+":
            return line, after
        if kind == b"-":
            return ErrorReply(line.decode(errors="replace")), after
        if kind == b":":
            return _integer(line), after
        if kind != b"*":
            raise ProtocolError(f"unknown reply {data[at : at + 16]!r}")
        items: list[Reply] = []
        for _ in range(_integer(line)):
            if after >= len(data):
                return _INCOMPLETE
            item, after = self._reply(data, after)
            if after < 0:
                return _INCOMPLETE
            items.append(item)
        return items, after


def _integer(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise ProtocolError(f"{text[:16]!r} is not a number") from None
