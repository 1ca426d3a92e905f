"""How do Redis commands and replies look on the wire?  RESP2 packed by hand, parsed as it comes; no socket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LIMIT = 64 * 1024
"""Bytes of a line or a value. Our commands are answered in a few; a peer that sends more is no Redis, or hostile: a
reply that is not whole yet is parsed anew with every read."""
_ITEMS, _DEEPEST, _DIGITS = 64, 3, 20


class RespError(ValueError):
    """What came is not RESP2, so nothing after it can be understood."""


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """Redis refused a command: surely not done."""

    text: str


Reply = int | str | bytes | None | ErrorReply | list["Reply"]


def command(*parts: bytes) -> bytes:
    """One command as Redis reads it."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def head(words: Sequence[bytes], length: int) -> bytes:
    """A command up to its last argument, which has so many bytes and is ended by a line."""
    return b"*%d\r\n" % (len(words) + 1) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words) + b"$%d\r\n" % length


class Replies:
    """Incremental parser of a connection's replies; a reply may be cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[Reply, int]]:
        """Whole replies in order, equal integers in a row as one entry with their number. Raises RespError."""
        if self._rest:
            data = self._rest + data
        elif data[:1] == b":":
            # Calm operation: every PUBLISH names the same number of receivers.
            end = data.find(b"\n") + 1
            many = len(data) // end if end else 0
            if many and data[:end] * many == data:
                return [(_integer(data[1 : end - 2]), many)]
        found: list[tuple[Reply, int]] = []
        at = 0
        while (parsed := _one(data, at, 0)) is not None:
            reply, at = parsed
            if found and type(reply) is int and found[-1][0] == reply and type(found[-1][0]) is int:
                found[-1] = (reply, found[-1][1] + 1)
            else:
                found.append((reply, 1))
        self._rest = data[at:]
        return found


def _one(data: bytes, at: int, depth: int) -> tuple[Reply, int] | None:
    end = data.find(b"\r\n", at)
    if end < 0:
        if len(data) - at > _LIMIT:
            raise RespError("a line without an end")
        if len(data) > at and data[at] not in b":+-$*":
            raise RespError(f"unknown reply type {data[at : at + 1]!r}")
        return None
    line, after = data[at + 1 : end], end + 2
    match data[at : at + 1]:
        case b":":
            return _integer(line), after
        case b"+":
            return line.decode("utf-8", "replace"), after
        case b"-":
            return ErrorReply(line.decode("utf-8", "replace")), after
        case b"$":
            return _bulk(data, _integer(line), after)
        case b"*":
            return _array(data, _integer(line), after, depth)
        case other:
            raise RespError(f"unknown reply type {other!r}")


def _bulk(data: bytes, length: int, at: int) -> tuple[Reply, int] | None:
    if length == -1:
        return None, at
    if not 0 <= length <= _LIMIT:
        raise RespError(f"impossible length {length}")
    if len(data) < at + length + 2:
        return None
    if data[at + length : at + length + 2] != b"\r\n":
        raise RespError("a value longer than its length")
    return data[at : at + length], at + length + 2


def _array(data: bytes, count: int, at: int, depth: int) -> tuple[Reply, int] | None:
    if count == -1:
        return None, at
    if not 0 <= count <= _ITEMS or depth >= _DEEPEST:
        raise RespError(f"impossible array of {count}")
    items: list[Reply] = []
    for _ in range(count):
        parsed = _one(data, at, depth + 1)
        if parsed is None:
            return None
        items.append(parsed[0])
        at = parsed[1]
    return items, at


def _integer(text: bytes) -> int:
    # int() also takes spaces, underscores and other signs.
    if len(text) > _DIGITS or not text.lstrip(b"-").isdigit() or text.count(b"-") > 1 or b"-" in text[1:]:
        raise RespError(f"no integer: {text[:40]!r}")
    return int(text)
