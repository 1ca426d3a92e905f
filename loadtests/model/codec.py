"""How do records become bytes of a history file, and back?  Numbered frames with length and CRC; a torn tail is named.

A file is a sequence of frames: 4 bytes magic, 4 bytes length of the body, 8 bytes number, 4 bytes CRC-32 of number and
body, then the body: a msgpack array of records.  What a worker spools and what it ships are the same bytes; in a file
the body is deflated, which the magic tells (`squeezed`).

Long columns of integers of the kinds that fill a history are bytes, not msgpack integers (`thin`): the letter of an
`array`, then its values, little-endian.  A judge makes arrays of them at once; for all others they are lists again.
"""

from __future__ import annotations

import io
import struct
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Annotated, Any, BinaryIO, Final, NamedTuple, Union, get_args, get_type_hints

import msgspec

from loadtests.model.records import (
    ClientLatency,
    Closing,
    Consumed,
    Header,
    Published,
    PublishTimes,
    Record,
    Sparse,
    Touched,
)

_MAGIC, _SQUEEZED = b"TkS1", b"TkS2"
_HEAD = struct.Struct(">4sIQI")
MAX_BODY = 256 * 1024
"""A frame's body is at most this long, so that it fits into one message from worker to master."""
_MOST: Final = 1 << 24
"""No deflated body holds more: a history may come from a stranger."""
_LEVEL: Final = 1

BULK: Final = (Published, PublishTimes, Consumed, ClientLatency, Touched, Closing)
"""Kinds that make most of a history's bytes."""
_SHORT: Final = 8  # a list below this length stays one
_CODES: Final = {"B": (0, 1 << 8), "H": (0, 1 << 16), "I": (0, 1 << 32), "q": (-(1 << 63), 1 << 63)}
COLUMN_BYTES: Final = {code.encode(): array(code).itemsize for code in _CODES}
"""Letter of a column -> bytes of each of its values."""

_SWAPPED: Final = struct.pack("=H", 1) != struct.pack("<H", 1)
"""Whether this machine has the highest byte of a number first."""

Bounds = Callable[[str], tuple[int, int] | None]
"""Least and greatest number that a field may hold, by its name, and `BUCKET`; None: any."""
BUCKET: Final = "bucket of a histogram"


class Frame(NamedTuple):
    """One numbered frame of a file."""

    number: int
    records: list[Record]
    within: bool = False  # its numbers are within the bounds that the reader asked for


class Torn(NamedTuple):
    """The file ends in, or holds, bytes that are no whole frame."""

    offset: int
    reason: str


# -- columns


def column(values: Sequence[int]) -> bytes:
    """Integers of 64 bits as bytes, as narrow as they may be."""
    low, high = min(values, default=0), max(values, default=0)
    code = next(c for c, (least, beyond) in _CODES.items() if least <= low and high < beyond)
    made = array(code, values)
    if _SWAPPED:
        made.byteswap()
    return code.encode() + made.tobytes()


def values(stored: bytes | list[int]) -> list[int]:
    """What a column holds. Raises ValueError where it is none."""
    if isinstance(stored, list):
        return stored
    if not stored or (code := chr(stored[0])) not in _CODES:
        raise ValueError("a column without a letter")
    made = array(code)
    made.frombytes(stored[1:])
    if _SWAPPED:
        made.byteswap()
    return made.tolist()


@cache
def columns_of(kind: type[Record]) -> tuple[tuple[str, bool], ...]:
    """Fields of a kind that are columns; whether they are pairs of them."""
    hints = get_type_hints(kind)
    return tuple((name, hint == Sparse) for name, hint in hints.items() if hint in (Sparse, list[int]))


def thin(record: Record) -> Record:
    """The record as it is to be written: its long columns are bytes."""
    if type(record) not in BULK:
        return record
    changed: dict[str, Any] = {}
    for name, paired in columns_of(type(record)):
        held = getattr(record, name)
        if paired and len(held[0]) >= _SHORT:
            changed[name] = (column(held[0]), column(held[1]))
        elif not paired and len(held) >= _SHORT:
            changed[name] = column(held)
    return msgspec.structs.replace(record, **changed) if changed else record


def _whole(stored: Record) -> Record:
    """The record with lists. Raises ValueError where a column is none, or is not as long as its neighbour."""
    kind = type(stored).__base__
    if kind not in BULK:
        return stored
    held = msgspec.structs.asdict(stored)
    for name, paired in columns_of(kind):
        held[name] = (values(held[name][0]), values(held[name][1])) if paired else values(held[name])
    found: Record = kind(**held)
    return found


# -- what a reader takes


def _stored(hint: Any, number: Any, bucket: Any, *, bulk: bool) -> Any:
    """The type of a field as files have it: with bounds on its numbers, and columns that may be bytes."""
    if hint is int:
        return number
    if hint == Sparse:
        return tuple[list[bucket] | bytes, list[number] | bytes]
    if hint == list[int]:
        return list[number] | bytes if bulk else list[number]
    if hint == dict[str, int]:
        return dict[str, number]
    return hint


def _stored_kind(kind: type[Any], bounds: Bounds | None) -> type[Any]:
    hints, config = get_type_hints(kind), kind.__struct_config__
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(kind):
        bound = bounds(field.name) if bounds is not None else None
        number: Any = int if bound is None else _between(*bound)
        bucket: Any = int if bounds is None else _between(*(bounds(BUCKET) or (0, 0)))
        hint = _stored(hints[field.name], number, bucket, bulk=kind in BULK)
        if field.default is not msgspec.NODEFAULT:
            fields.append((field.name, hint, field.default))
        elif field.default_factory is not msgspec.NODEFAULT:
            fields.append((field.name, hint, msgspec.field(default_factory=field.default_factory)))
        else:
            fields.append((field.name, hint))
    return msgspec.defstruct(
        kind.__name__, fields, bases=(kind,), tag=config.tag, frozen=True, kw_only=True, array_like=True
    )


def _between(low: int, high: int) -> Any:
    return Annotated[int, msgspec.Meta(ge=low, le=high)]


class Reader:
    """Decodes bodies of frames, once with `bounds` on their numbers and, where one is beyond, without."""

    def __init__(self, bounds: Bounds | None = None, *, whole: bool = True) -> None:
        """`whole`: columns are lists in what it yields, else they may be bytes (`thin`)."""
        self._whole = whole
        self._bounded = None if bounds is None else _decoder(bounds)

    def records(self, body: bytes) -> tuple[list[Record], bool]:
        """Records, and whether all numbers that are no bytes are within the bounds.

        Raises msgspec.MsgspecError or ValueError where the body holds something else.
        """
        if self._bounded is not None:
            try:
                return self._as_asked(self._bounded.decode(body)), True
            except msgspec.ValidationError:
                pass  # the other one says what is wrong, if anything is
        return self._as_asked(_any_number().decode(body)), False

    def _as_asked(self, records: list[Record]) -> list[Record]:
        return [_whole(record) for record in records] if self._whole else records


def _decoder(bounds: Bounds | None) -> msgspec.msgpack.Decoder[list[Record]]:
    kinds = get_args(Record)
    stored = tuple(_stored_kind(kind, bounds) if bounds is not None or kind in BULK else kind for kind in kinds)
    return msgspec.msgpack.Decoder(list[Union[stored]])  # type: ignore[valid-type]  # noqa: UP007


_any_number = cache(partial(_decoder, None))
_encoder = msgspec.msgpack.Encoder()

# -- frames


def _frame(number: int, body: bytes, magic: bytes = _MAGIC) -> bytes:
    crc = zlib.crc32(body, zlib.crc32(number.to_bytes(8, "big")))
    return _HEAD.pack(magic, len(body), number, crc) + body


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


def squeezed(frame: bytes) -> bytes:
    """One whole frame as a file has it; other bytes stay as they are."""
    if frame[:4] != _MAGIC:
        return frame
    return _frame(frame_number(frame), zlib.compress(frame[_HEAD.size :], _LEVEL), _SQUEEZED)


def frame_number(frame: bytes) -> int:
    """The number of one whole frame. Raises ValueError where the bytes are none."""
    if len(frame) < _HEAD.size or frame[:4] not in (_MAGIC, _SQUEEZED):
        raise ValueError("no frame")
    number: int = _HEAD.unpack_from(frame)[2]
    return number


def decode(data: bytes) -> Iterator[Frame | Torn]:
    """Frames of a piece in order; at the first bytes that are no whole frame one Torn, and nothing after it."""
    return (part for _, part in _parts(io.BytesIO(data), Reader()))


def decode_file(file: bytes | BinaryIO, reader: Reader | None = None) -> Iterator[Frame | Torn]:
    """Frames of a whole file, read one by one.

    A frame that is not where its number says, or lies behind the last one, is a Torn.
    """
    if isinstance(file, bytes):
        file = io.BytesIO(file)
    expected, ended = 0, False
    offset = -1
    for offset, part in _parts(file, reader or Reader()):
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
    if offset < 0:
        yield Torn(0, "it is empty")


def _parts(file: BinaryIO, reader: Reader) -> Iterator[tuple[int, Frame | Torn]]:
    """Frames with the offsets at which they begin."""
    end = file.seek(0, io.SEEK_END)
    offset = file.seek(0)
    while offset < end:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            yield offset, Torn(offset, "half a frame head")
            return
        magic, length, number, crc = _HEAD.unpack(head)
        if magic not in (_MAGIC, _SQUEEZED):
            yield offset, Torn(offset, "no frame begins here")
            return
        body = file.read(length) if offset + _HEAD.size + length <= end else b""
        if len(body) < length:
            yield offset, Torn(offset, "half a frame")
            return
        if zlib.crc32(body, zlib.crc32(number.to_bytes(8, "big"))) != crc:
            yield offset, Torn(offset, "checksum does not match")
            return
        try:
            yield offset, Frame(number, *reader.records(_inflated(body) if magic == _SQUEEZED else body))
        except (msgspec.MsgspecError, ValueError, zlib.error) as error:
            yield offset, Torn(offset, f"unknown record: {error}")
            return
        offset += _HEAD.size + length


def _inflated(body: bytes) -> bytes:
    made = zlib.decompressobj()
    found = made.decompress(body, _MOST)
    if not made.eof:
        raise ValueError("a body that does not end")
    return found
