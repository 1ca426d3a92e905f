"""Do records survive the disk?  Round trip, torn tails, flipped bits, frames bounded in length."""

from __future__ import annotations

import zlib

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.model.codec import (
    MAX_BODY,
    Frame,
    Reader,
    Torn,
    column,
    decode,
    decode_file,
    frame_number,
    pack,
    squeezed,
    thin,
    values,
)
from loadtests.model.records import Consumed, Note, PhaseMark, Published, Record, Samples

notes = st.builds(Note, at_ns=st.integers(-(2**62), 2**62), text=st.text(max_size=200))
phases = st.builds(PhaseMark, phase=st.sampled_from(["warm-up", "drain", "end"]), at_ns=st.integers(0, 2**62))
samples = st.builds(
    Samples,
    source=st.text(max_size=20),
    at_ns=st.integers(0, 2**62),
    metric=st.lists(st.text(max_size=10), max_size=5),
    value=st.lists(st.floats(allow_nan=False), max_size=5),
)
records = st.lists(notes | phases | samples, max_size=30)


def read(data: bytes) -> tuple[list[Record], list[Torn]]:
    found: list[Record] = []
    torn: list[Torn] = []
    for frame in decode(data):
        if isinstance(frame, Frame):
            found += frame.records
        else:
            torn.append(frame)
    return found, torn


@settings(max_examples=50, deadline=None)
@given(records, st.integers(0, 2**40))
def test_what_was_packed_is_read_back(written: list[Record], number: int) -> None:
    frames = list(pack(number, written))
    assert read(b"".join(frames)) == (written, [])
    assert [frame_number(f) for f in frames] == list(range(number, number + len(frames)))


@settings(max_examples=50, deadline=None)
@given(records.filter(bool), st.data())
def test_a_torn_tail_is_dropped_and_named(written: list[Record], data: st.DataObject) -> None:
    whole = b"".join(pack(0, written))
    more = b"".join(pack(1, written))
    cut = data.draw(st.integers(1, len(more) - 1))
    found, torn = read(whole + more[:cut])
    assert found == written
    assert [t.offset for t in torn] == [len(whole)]


@settings(max_examples=50, deadline=None)
@given(records.filter(bool), st.data())
def test_a_flipped_bit_is_never_read_as_a_record(written: list[Record], data: st.DataObject) -> None:
    frame = bytearray(b"".join(pack(0, written)))
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= 1 << data.draw(st.integers(0, 7))
    found, torn = read(bytes(frame))
    assert found == []
    assert len(torn) == 1


def test_frames_stay_short_enough_to_be_shipped() -> None:
    rows = list(range(2000))
    big = Published(stream=rows, due_slice=rows, sent_slice=rows, first=rows, last=rows, bytes=rows)
    frames = list(pack(0, [big] * 100))
    assert len(frames) > 1
    assert max(map(len, frames)) <= MAX_BODY + 64
    assert read(b"".join(frames)) == ([big] * 100, [])


numbers = st.lists(st.integers(0, 300) | st.integers(-(2**63), 2**63 - 1), max_size=40)
pairs = st.integers(0, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 3327), min_size=n, max_size=n), st.lists(st.integers(0, 2**40), min_size=n, max_size=n)
    )
)
bulk = st.builds(
    Consumed, group=st.just(0), due_slice=st.integers(0, 2**40), received_slice=st.just(1), clock=st.just("kernel"),
    unique=st.just(1), repeated=st.just(0), bytes=st.just(9), latency=pairs, negative=st.just(0), service=pairs,
) | st.builds(
    Published, stream=numbers, due_slice=numbers, sent_slice=numbers, first=numbers, last=numbers, bytes=numbers
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(st.lists(bulk | notes, max_size=8))
def test_long_columns_come_back_as_lists_whether_a_frame_is_squeezed_or_not(written: list[Record]) -> None:
    assert read(b"".join(pack(0, written))) == (written, [])
    frames = list(pack(0, map(thin, written)))
    assert read(b"".join(frames)) == (written, [])
    assert read(b"".join(map(squeezed, frames))) == (written, [])
    assert [frame_number(squeezed(f)) for f in frames] == list(range(len(frames)))


@settings(max_examples=100, deadline=None)
@given(numbers)
def test_a_column_holds_its_integers_as_narrow_as_they_are(written: list[int]) -> None:
    stored = column(written)
    assert values(stored) == written
    if written and min(written) >= 0 and max(written) < 256:
        assert len(stored) == 1 + len(written)


@settings(max_examples=50, deadline=None)
@given(st.lists(bulk | notes, min_size=1, max_size=8), st.data())
def test_a_flipped_bit_of_a_squeezed_frame_is_never_read_as_a_record(
    written: list[Record], data: st.DataObject
) -> None:
    frame = bytearray(squeezed(b"".join(pack(0, map(thin, written)))))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    found, torn = read(bytes(frame))
    assert (found, len(torn)) == ([], 1)


def test_a_history_of_before_columns_were_bytes_reads_the_same() -> None:
    rows = list(range(200))
    record = Published(stream=rows, due_slice=rows, sent_slice=rows, first=rows, last=rows, bytes=rows)
    body = msgspec.msgpack.encode([record])
    head = b"TkS1" + len(body).to_bytes(4, "big") + bytes(8) + zlib.crc32(body, zlib.crc32(bytes(8))).to_bytes(4, "big")
    assert read(head + body) == ([record], [])


def test_a_reader_with_bounds_says_whether_they_hold() -> None:
    def bounds(name: str) -> tuple[int, int] | None:
        return None if name == "due_slice" else (0, 10)

    within = Consumed(group=0, due_slice=99, received_slice=1, clock="read", unique=1, repeated=0, bytes=9,
                      latency=([3], [1]), negative=0)  # fmt: skip
    beyond = msgspec.structs.replace(within, latency=([11], [1]))
    found = [
        part.within
        for record in (within, beyond)
        for part in decode_file(b"".join(pack(0, [record])), Reader(bounds))
        if isinstance(part, Frame)
    ]
    assert found == [True, False]


def test_a_body_that_swells_beyond_all_frames_is_torn() -> None:
    body = zlib.compress(bytes(1 << 26), 1)
    head = b"TkS2" + len(body).to_bytes(4, "big") + bytes(8) + zlib.crc32(body, zlib.crc32(bytes(8))).to_bytes(4, "big")
    found, torn = read(head + body)
    assert (found, len(torn)) == ([], 1)
