"""Do records survive the disk?  Round trip, torn tails, flipped bits, frames bounded in length."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.model.codec import MAX_BODY, Frame, Torn, decode, frame_number, pack
from loadtests.model.records import Note, PhaseMark, Published, Record, Samples

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
