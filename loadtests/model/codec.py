"""How do records become bytes of a history file, and back?  Numbered frames with length and CRC; a torn tail is named.

A file is a sequence of frames: 4 bytes magic, 4 bytes length of the body, 8 bytes number, 4 bytes CRC-32 of number and
body, then the body: a msgpack array of records.  What a worker spools and what it ships are the same bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from loadtests.model.records import Header, Record

_MAGIC = b"TkS1"
_HEAD = struct.Struct(">4sIQI")
MAX_BODY = 256 * 1024
"""A frame's body is at most this long, so that it fits into one message from worker to master."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Record])


class Frame(NamedTuple):
    """One numbered frame of a file."""

    number: int
    records: list[Record]


class Torn(NamedTuple):
    """The file ends in, or holds, bytes that are no whole frame."""

    offset: int
    reason: str


def _frame(number: int, body: bytes) -> bytes:
    crc = zlib.crc32(body, zlib.crc32(number.to_bytes(8, "big")))
    return _HEAD.pack(_MAGIC, len(body), number, crc) + body


def pack(number: int, records: Iterable[Record]) -> Iterator[bytes]:
    """Frames from `number` on that hold the records in order; a new frame begins before one gets too long."""
    parts: list[bytes] = []
    size = 5
    for record in records:
        part = _encoder.encode(record)
        if parts and (size + len(part) > MAX_BODY or len(parts) == 0xFFFF):
            yield _frame(number, _array(parts))
            number, parts, size = number + 1, [], 5
        parts.append(part)
        size += len(part)
    if parts:
        yield _frame(number, _array(parts))


def _array(parts: list[bytes]) -> bytes:
    return b"\xdc" + len(parts).to_bytes(2, "big") + b"".join(parts)


def frame_number(frame: bytes) -> int:
    """The number of one whole frame. Raises ValueError where the bytes are none."""
    if len(frame) < _HEAD.size or frame[:4] != _MAGIC:
        raise ValueError("no frame")
    number: int = _HEAD.unpack_from(frame)[2]
    return number


def decode(data: bytes) -> Iterator[Frame | Torn]:
    """Frames of a piece in order; at the first bytes that are no whole frame one Torn, and nothing after it."""
    return (part for _, part in _parts(data))


def decode_file(data: bytes) -> Iterator[Frame | Torn]:
    """Frames of a whole file. A frame that is not where its number says, or lies behind the last one, is a Torn."""
    expected, ended = 0, False
    if not data:
        yield Torn(0, "it is empty")
    for offset, part in _parts(data):
        if isinstance(part, Torn):
            yield part
        elif ended:
            yield Torn(offset, "it goes on after its last frame")
            return
        elif part.number < expected:
            yield Torn(offset, f"frame {part.number} comes after frame {expected - 1}")
        else:
            yield part
            expected = part.number + 1
            ended = any(isinstance(record, Header) and record.frames > 0 for record in part.records)


def _parts(data: bytes) -> Iterator[tuple[int, Frame | Torn]]:
    """Frames with the offsets at which they begin."""
    offset, end = 0, len(data)
    while offset < end:
        if end - offset < _HEAD.size:
            yield offset, Torn(offset, "half a frame head")
            return
        magic, length, number, crc = _HEAD.unpack_from(data, offset)
        body = data[offset + _HEAD.size : offset + _HEAD.size + length]
        if magic != _MAGIC:
            yield offset, Torn(offset, "no frame begins here")
            return
        if len(body) < length:
            yield offset, Torn(offset, "half a frame")
            return
        if zlib.crc32(body, zlib.crc32(number.to_bytes(8, "big"))) != crc:
            yield offset, Torn(offset, "checksum does not match")
            return
        try:
            yield offset, Frame(number, _decoder.decode(body))
        except msgspec.MsgspecError as error:
            yield offset, Torn(offset, f"unknown record: {error}")
            return
        offset += _HEAD.size + length
