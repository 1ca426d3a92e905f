"""Does the cutter read what an independent library writes, however it is split, and refuse what is no protocol?"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame as TheirFrame
from websockets.frames import Opcode
from websockets.streams import StreamReader

from loadtests.drive.consume import frames
from loadtests.drive.consume.chunks import Chunks
from loadtests.drive.consume.frames import Cutter, Frame
from loadtests.drive.consume.socketio import SocketIoDialect
from loadtests.drive.consume.websocket import PlainDialect
from loadtests.model.ids import pack_stream
from loadtests.tally.batch import Batch
from loadtests.tally.identity import encode
from loadtests.tally.streams import Streams


def theirs(opcode: int, payload: bytes, fin: bool = True) -> bytes:
    return TheirFrame(Opcode(opcode), payload, fin).serialize(mask=False)


payloads = st.binary(max_size=300) | st.sampled_from([b"x" * 125, b"x" * 126, b"y" * 70_000])
controls = st.tuples(st.sampled_from([9, 10]), st.sampled_from([b"", b"\x03\xe8bye", b"abc" * 40]))
closes = st.just((8, b"")) | st.just((8, b"\x03\xe8bye"))


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[Frame]]:
    """Frames as websockets writes them, and the messages and control frames in them."""
    wire, told = b"", []
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            opcode, payload = draw(controls)
            wire += theirs(opcode, payload)
            told.append((opcode, payload))
            continue
        parts = [draw(payloads) for _ in range(draw(st.integers(1, 3)))]
        for number, part in enumerate(parts):
            wire += theirs(0 if number else 2, part, number == len(parts) - 1)
            if number < len(parts) - 1 and draw(st.booleans()):
                wire += theirs(9, b"between")
                told.append((9, b"between"))
        told.append((2, b"".join(parts)))
    if draw(st.booleans()):
        opcode, payload = draw(closes)
        wire += theirs(opcode, payload)
        told.append((opcode, payload))
    return wire, told


@settings(max_examples=40, deadline=None)
@given(conversations(), st.data())
def test_any_split_gives_the_same_frames(conversation: tuple[bytes, list[Frame]], data: st.DataObject) -> None:
    wire, told = conversation
    whole = Cutter()
    assert whole.cut(wire) == told
    assert whole.clean is not whole.closed
    assert whole.closed is (told[-1][0] == 8)
    places = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    cutter, found = Cutter(), []
    for begin, end in zip([0, *places], [*places, len(wire)], strict=True):
        found += cutter.cut(wire[begin:end])
    assert found == told
    assert cutter.clean is whole.clean


def test_every_single_split_and_byte_by_byte() -> None:
    wire = theirs(1, b"one") + theirs(2, b"x" * 200) + theirs(9, b"p") + theirs(1, b"tw", False) + theirs(0, b"o")
    told = Cutter().cut(wire)
    assert [o for o, _ in told] == [1, 2, 9, 1]
    for place in range(len(wire) + 1):
        cutter = Cutter()
        assert cutter.cut(wire[:place]) + cutter.cut(wire[place:]) == told
    cutter = Cutter()
    assert [frame for n in range(len(wire)) for frame in cutter.cut(wire[n : n + 1])] == told


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([1, 2, 8, 9, 10]), st.binary(max_size=120) | st.sampled_from([b"z" * 126, b"z" * 65_536]))
def test_the_library_reads_our_frames(opcode: int, payload: bytes) -> None:
    if opcode >= 8:
        payload = payload[:120]
    reader = StreamReader()
    reader.feed_data(frames.encode(opcode, payload))
    parsing = TheirFrame.parse(reader.read_exact, mask=True, max_size=None)
    with pytest.raises(StopIteration) as done:
        next(parsing)
    assert (done.value.value.opcode, done.value.value.data) == (opcode, payload)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"\x81\x81aaaab", 1002),  # masked
        (b"\xc1\x00", 1002),  # reserved bit
        (b"\x83\x00", 1002),  # unknown data opcode
        (b"\x8b\x00", 1002),  # unknown control opcode
        (b"\x09\x00", 1002),  # fragmented control frame
        (b"\x89\x7e\x00\x7e", 1002),  # long control frame
        (b"\x80\x00", 1002),  # continuation of nothing
        (b"\x01\x00\x01\x00", 1002),  # message inside another
        (b"\x88\x01a", 1002),  # half a close code
        (b"\x81\x02\xc3\x28", 1007),  # not UTF-8
        (b"\x01\x01\xc3\x80\x01\x28", 1007),  # not UTF-8 over two fragments
        (b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", 1009),  # announced too long: refused before it comes
        (b"\x02\x7e\xff\xff" + b"a" * 65535 + b"\x80\x7f" + (frames.MAX_MESSAGE - 100).to_bytes(8, "big"), 1009),
    ],
)
def test_breaches_are_refused_behind_the_last_good_frame(wire: bytes, code: int) -> None:
    for split in (0, 1, len(wire)):
        cutter = Cutter()
        good = theirs(1, b"good")
        found = cutter.cut(good + wire[:split]) + cutter.cut(wire[split:]) + cutter.cut(good)
        assert found == [(1, b"good")]
        assert cutter.broken is not None
        assert cutter.broken.code == code
        assert not cutter.clean


def _wire(transport: str, seq: int, run: str = "run") -> bytes:
    data = b'{"k":"v","tickstorm":%b}' % encode("object", run, pack_stream(0, 0, 0), seq, 5, 6)
    plain = b'{"event":"t","channel":"c","data":%b}' % data
    return theirs(1, plain if transport == "websocket" else b'42["t",%b]' % data)


def _chunks(transport: str, cached: bool) -> Chunks:
    dialect = (PlainDialect if transport == "websocket" else SocketIoDialect)("tickstorm", "object")
    return Chunks(dialect, Streams([0]), "run", cached=cached)


def _content(batch: Batch) -> tuple[object, object, int]:
    return batch.messages, batch.strange, batch.count


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["websocket", "socketio"]), st.lists(st.integers(0, 5), min_size=1, max_size=8), st.data())
def test_a_known_chunk_is_the_same_as_a_new_one(transport: str, seqs: list[int], data: st.DataObject) -> None:
    wire = b"".join(_wire(transport, seq, "run" if seq else "other") for seq in seqs)
    place = data.draw(st.integers(0, len(wire)))
    results = []
    for cached in (True, False):
        chunks = _chunks(transport, cached)
        for _ in range(2):
            cutter = Cutter()
            found = []
            for piece in (wire[:place], wire[place:]):
                known = chunks.cached(piece) if cutter.clean and piece else None
                assert known is None or cached
                found.append(_content(known or chunks.open(cutter, piece)[0]))
            results.append(([m for f in found for m in f[0]], [s for f in found for s in f[1]]))
    assert all(result == results[0] for result in results)
    assert len(results[0][0]) == sum(seq > 0 for seq in seqs)


def test_a_ping_that_looks_like_a_message_stays_a_ping() -> None:
    chunks = _chunks("websocket", True)
    payload = _wire("websocket", 1)[2:]
    chunks.open(Cutter(), theirs(1, payload[:120]))
    _, controls = chunks.open(Cutter(), theirs(9, payload[:120]))
    assert [c.event for c in controls] == ["ws-ping"]


@pytest.mark.parametrize(
    ("packet", "event", "number"),
    [
        (b'0{"sid":"a","pingInterval":25000,"pingTimeout":20000}', "open", None),
        (b'40{"sid":"a"}', "connected", None),
        (b"40", "connected", None),
        (b"41", "disconnected", None),
        (b'44{"message":"no"}', "error", None),
        (b"2", "ping", None),
        (b"2probe", "ping", None),
        (b"1", "disconnected", None),
        (b"43" + b'17[{"channels":[]}]', "ack", 17),
        (b'42["subscribed",{"id":1}]', "subscribed", None),
        (b'42["health",{}]', "health", None),
    ],
)
def test_socketio_packets_of_the_session(packet: bytes, event: str, number: int | None) -> None:
    batch, controls = _chunks("socketio", True).open(Cutter(), theirs(1, packet))
    assert [(c.event, c.number) for c in controls] == [(event, number)]
    assert not batch.strange
    assert not batch.messages


@pytest.mark.parametrize(
    ("packet", "kind"),
    [
        (b'42/admin,["t",{}]', "no identity"),
        (b'451-/admin,["t",{"_placeholder":true,"num":0}]', "no identity"),
        (b"9", "protocol"),
        (b"43[]", "protocol"),
        (b"42", "protocol"),
    ],
)
def test_socketio_packets_that_are_strange(packet: bytes, kind: str) -> None:
    batch, controls = _chunks("socketio", True).open(Cutter(), theirs(1, packet))
    assert [odd.kind for odd in batch.strange] == [kind]
    assert not controls


def test_a_message_that_wants_an_acknowledgement_is_both() -> None:
    data = b'{"tickstorm":%b}' % encode("object", "run", pack_stream(0, 0, 0), 4, 5, 6)
    batch, controls = _chunks("socketio", True).open(Cutter(), theirs(1, b'4212["t",%b]' % data))
    assert batch.count == 1
    assert [(c.event, c.number) for c in controls] == [("ack wanted", 12)]
