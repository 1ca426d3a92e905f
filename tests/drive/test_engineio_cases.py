"""Is every packet of Engine.IO 4 and Socket.IO 5 understood as by the reference, or else a record, never an error?

One row per case; then packets at random, and garbage through cutter, dialect and account up to the records.
"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any, NamedTuple

import engineio.packet
import msgspec
import pytest
import socketio.packet
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame as TheirFrame
from websockets.frames import Opcode

from loadtests.drive.consume.chunks import JOINED, JOINED_MAX, Chunks, Control
from loadtests.drive.consume.frames import BINARY, TEXT, Cutter
from loadtests.drive.consume.socketio import SocketIoDialect
from loadtests.drive.consume.websocket import PlainDialect
from loadtests.model.ids import pack_stream
from loadtests.model.records import Record, Strange
from loadtests.tally.accountant import Accountant
from loadtests.tally.identity import encode
from loadtests.tally.streams import Streams

pytestmark = pytest.mark.group("ATTACKS")

STREAM = pack_stream(0, 0, 0)
WHO = encode("object", "run", STREAM, 4, 5, 6)
LOAD = b'{"tickstorm":%b}' % WHO
OTHERS = b'{"tickstorm":%b}' % encode("object", "another", STREAM, 4, 5, 6)
DEEP = b"[" * 200_000


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    return TheirFrame(Opcode(opcode), payload).serialize(mask=False)


class Said(NamedTuple):
    """What became of one frame."""

    messages: int = 0
    odd: str = ""  # kind of the record
    control: str = ""
    number: int | None = None
    answer: bytes | None = None  # payload of the frame that answers at once


MESSAGE = Said(1)
PROTOCOL = Said(odd="protocol")
UNDECODABLE = Said(odd="undecodable")
NO_IDENTITY = Said(odd="no identity")

SOCKETIO: dict[str, tuple[bytes, Said]] = {
    # -- Engine.IO: open
    "open": (
        b'0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000}', Said(control="open", answer=b"40")
    ),
    "open with its times in strings": (
        b'0{"sid":"a","pingInterval":"25000","pingTimeout":"20000"}', Said(control="open", answer=b"40")
    ),
    "open without a heartbeat": (b'0{"sid":"a","pingInterval":25000}', Said(0, "protocol", "open", None, b"40")),
    "open with an absurd heartbeat": (
        b'0{"sid":"a","pingInterval":-1,"pingTimeout":1}', Said(0, "protocol", "open", None, b"40")
    ),
    "open without a session": (b"0{}", PROTOCOL),
    "open with a session that is no text": (b'0{"sid":7}', PROTOCOL),
    "open as a list": (b"0[]", PROTOCOL),
    "open with nothing": (b"0", PROTOCOL),
    "open that breaks off": (b'0{"sid":', UNDECODABLE),
    # -- Engine.IO: close, ping, pong, upgrade, noop
    "close": (b"1", Said(control="disconnected")),
    "close with more": (b"1x", PROTOCOL),
    "ping": (b"2", Said(control="ping", answer=b"3")),
    "probe": (b"2probe", Said(control="ping", answer=b"3probe")),
    "a pong that nobody asked for": (b"3", PROTOCOL),
    "the probe's pong": (b"3probe", PROTOCOL),
    "upgrade": (b"5", PROTOCOL),
    "noop": (b"6", Said()),
    "noop with more": (b"6x", PROTOCOL),
    "no packet at all": (b"", PROTOCOL),
    "packet 7": (b"7", PROTOCOL),
    "packet 9": (b"9", PROTOCOL),
    "a letter": (b"x", PROTOCOL),
    "base64 of the polling transport": (b"bAQID", PROTOCOL),
    "two packets of the polling transport": (b"2\x1e6", Said(control="ping", answer=b"3\x1e6")),
    "a message of nothing": (b"4", PROTOCOL),
    "a message of text": (b"4hello", PROTOCOL),
    # -- Socket.IO: connect and refuse
    "connected": (b'40{"sid":"b"}', Said(control="connected")),
    "connected with nothing": (b"40", Said(control="connected")),
    "connected to / by name": (b'40/,{"sid":"b"}', Said(control="connected")),
    "connected elsewhere": (b'40/admin,{"sid":"b"}', NO_IDENTITY),
    "connected elsewhere, nothing said": (b"40/admin", NO_IDENTITY),
    "connected that breaks off": (b'40{"sid"', UNDECODABLE),
    "refused": (b'44{"message":"no","data":{"why":"x"}}', Said(control="error")),
    "refused with a text": (b'44"no"', Said(control="error")),
    "refused with nothing": (b"44", Said(control="error")),
    "refused elsewhere": (b'44/admin,{"message":"no"}', NO_IDENTITY),
    "disconnected": (b"41", Said(control="disconnected")),
    "disconnected from / by name": (b"41/,", Said(control="disconnected")),
    "disconnected elsewhere": (b"41/admin,", NO_IDENTITY),
    "disconnected with data": (b"41{}", PROTOCOL),
    "disconnected with a number": (b"417", PROTOCOL),
    # -- Socket.IO: events
    "a message": (b'42["t",%b]' % LOAD, MESSAGE),
    "a message to / by name": (b'42/,["t",%b]' % LOAD, MESSAGE),
    "a message with more arguments": (b'42["t",%b,1,null,[]]' % LOAD, MESSAGE),
    "a message with space": (b'42[ "t" , %b ]' % LOAD, MESSAGE),
    "a message that wants an answer": (b'4217["t",%b]' % LOAD, Said(1, "", "ack wanted", 17, b"4317[]")),
    "a message numbered 0": (b'420["t",%b]' % LOAD, Said(1, "", "ack wanted", 0, b"430[]")),
    "a message elsewhere": (b'42/admin,["t",%b]' % LOAD, NO_IDENTITY),
    "a message of another run": (b'42["t",%b]' % OTHERS, Said(odd="foreign run")),
    "an event of no identity": (b'42["t",{}]', NO_IDENTITY),
    "an event of nothing else": (b'42["t"]', NO_IDENTITY),
    "an event that wants an answer": (b'425["t"]', Said(0, "no identity", "ack wanted", 5, b"435[]")),
    "an event without a name": (b"42[]", NO_IDENTITY),
    "an event whose name is a number": (b"42[7,{}]", NO_IDENTITY),
    "an event whose name is null": (b"42[null]", NO_IDENTITY),
    "an event that is an object": (b'42{"t":1}', NO_IDENTITY),
    "an event that is a text": (b'42"t"', NO_IDENTITY),
    "an event of nothing": (b"42", PROTOCOL),
    "an event of a number alone": (b"427", PROTOCOL),
    "an event with a number of 16 digits": (
        b'421234567890123456["t",%b]' % LOAD,
        Said(1, "", "ack wanted", 1234567890123456, b"431234567890123456[]"),
    ),
    "an event with a number of 101 digits": (b'42%b["t"]' % (b"1" * 101), PROTOCOL),
    "a list of messages": (b'42["t",[%b,%b]]' % (LOAD, LOAD), Said(2)),
    "two messages as arguments": (b'42["t",%b,%b]' % (LOAD, LOAD), Said(2)),
    "a message whose identity is elsewhere": (
        b'42["t",{"data":%b}]' % LOAD, Said(odd="no identity", control="cannot")
    ),
    "a message in a string": (
        b'42["t",%b]' % json.dumps(LOAD.decode()).encode(), Said(odd="no identity", control="cannot")
    ),
    "two events in one frame": (b'42["t",%b]\n42["t",%b]' % (LOAD, LOAD), UNDECODABLE),
    "an event with a number below 0": (b'42-1["t"]', PROTOCOL),
    "an event that breaks off": (b'42["t",{"a":', UNDECODABLE),
    "an event with more behind it": (b'42["t",{}]]', UNDECODABLE),
    "an event with a lone surrogate": (b'42["t",{"a":"\\ud800"}]', UNDECODABLE),
    "an event nested too deep": (b"42" + DEEP, UNDECODABLE),
    "an answer nested too deep": (b"431" + DEEP, UNDECODABLE),
    "subscribed": (b'42["subscribed",{"id":1}]', Said(control="subscribed")),
    "subscribed with nothing": (b'42["subscribed"]', Said(control="subscribed")),
    "an identity with a number that no column holds": (
        b'42["t",{"tickstorm":{"r":"run","s":%d,"q":1,"d":%d,"t":1}}]' % (STREAM, 1 << 70),
        Said(1, "restamped"),
    ),
    "an identity below zero": (
        b'42["t",{"tickstorm":{"r":"run","s":%d,"q":-1,"d":1,"t":1}}]' % STREAM,
        NO_IDENTITY,
    ),
    "an identity of a route that nobody has": (
        b'42["t",{"tickstorm":%b}]' % encode("object", "run", pack_stream(0, 0, 9), 1, 1, 1),
        Said(odd="foreign route"),
    ),
    # -- Socket.IO: answers
    "an answer": (b'4317[{"channels":[]}]', Said(control="ack", number=17)),
    "an answer of nothing": (b"4317[]", Said(control="ack", number=17)),
    "an answer to / by name": (b"43/,17[1]", Said(control="ack", number=17)),
    "an answer elsewhere": (b"43/admin,17[1]", NO_IDENTITY),
    "an answer to nothing": (b"43[]", PROTOCOL),
    "an answer without data": (b"4317", PROTOCOL),
    "an answer that is an object": (b'4317{"0":1}', PROTOCOL),
    "an answer that is a text": (b'4317"x"', PROTOCOL),
    "an answer that breaks off": (b"4317[", UNDECODABLE),
    # -- Socket.IO: binary
    "a binary event": (b'451-["t",{"_placeholder":true,"num":0}]', NO_IDENTITY),
    "a binary event with identity": (b'451-["t",%b,{"_placeholder":true,"num":0}]' % LOAD, MESSAGE),
    "a binary event with a number": (
        b'452-17["t",{"_placeholder":true,"num":0}]', Said(0, "no identity", "ack wanted", 17, b"4317[]")
    ),
    "a binary event elsewhere": (b'451-/admin,["t",{"_placeholder":true,"num":0}]', NO_IDENTITY),
    "a binary event of more than there can be": (b'4599999999999-["t"]', PROTOCOL),
    "a binary event without its count": (b'45["t"]', PROTOCOL),
    "a binary answer": (b'461-17[{"_placeholder":true,"num":0}]', Said(control="ack", number=17)),
    "a binary event that breaks off": (b'451-["t",{"_pl', UNDECODABLE),
    "an event elsewhere that breaks off": (b'42/admin,["t",{', UNDECODABLE),
    "packet type 47": (b"47[]", PROTOCOL),
}  # fmt: skip

PLAIN: dict[str, tuple[bytes, Said]] = {
    "a message": (b'{"event":"t","channel":"c","data":%b}' % LOAD, MESSAGE),
    "a message of another run": (b'{"data":%b}' % OTHERS, Said(odd="foreign run")),
    "subscribed": (b'{"event":"subscribed","data":{"id":1}}', Said(control="subscribed", number=1)),
    "subscribed without a number": (b'{"event":"subscribed","data":{}}', Said(control="subscribed")),
    "subscribed with a text for a number": (b'{"event":"subscribed","data":{"id":"1"}}', Said(control="subscribed")),
    "subscribed with nothing": (b'{"event":"subscribed"}', Said(control="subscribed")),
    "an error": (b'{"event":"error","data":{"id":1,"reason":"x"}}', Said(control="error", number=1)),
    "an unknown event": (b'{"event":"t","data":{}}', NO_IDENTITY),
    "an event that is a number": (b'{"event":7}', NO_IDENTITY),
    "an event that is a list": (b'{"event":["subscribed"]}', NO_IDENTITY),
    "a list": (b"[]", NO_IDENTITY),
    "a number": (b"7", NO_IDENTITY),
    "null": (b"null", NO_IDENTITY),
    "a Socket.IO packet": (b'42["t",%b]' % LOAD, NO_IDENTITY),
    "nothing": (b"", NO_IDENTITY),
    "what breaks off": (b'{"event":', UNDECODABLE),
    "two at once": (b"{}{}", UNDECODABLE),
    "two in lines": (b'{"data":%b}\n{"data":%b}\n' % (LOAD, LOAD), Said(2)),
    "two in lines of their own kind": (b'\r\n{"data":%b}\r\n\r\n{"data":%b}' % (LOAD, LOAD), Said(2)),
    "two behind separators": (b'\x1e{"data":%b}\n\x1e{"data":%b}\n' % (LOAD, LOAD), Said(2)),
    "two as a list": (b' [{"data":%b}, {"data":%b}]' % (LOAD, LOAD), Said(2)),
    "one as a list": (b'[{"data":%b}]' % LOAD, MESSAGE),
    "a message and an answer in lines": (
        b'{"data":%b}\n{"event":"subscribed","data":{"id":7}}' % LOAD, Said(1, "", "subscribed", 7)
    ),
    "a message and half a one in lines": (b'{"data":%b}\n{"data":{"tick' % LOAD, Said(1, "undecodable")),
    "one in many lines that breaks off": (b'{\n"event":"t",\n"data":{\n', UNDECODABLE),
    "a message whose identity is elsewhere": (
        b'{"data":{"data":%b}}' % LOAD, Said(odd="no identity", control="cannot")
    ),
    "an identity that is spoilt": (
        b'{"data":{"tickstorm":{"r":"run","s":"x"}}}', NO_IDENTITY,
    ),
    "our name and no identity": (
        b'{"event":"joined","data":{"agent":"Tickstorm/1 run/run consumer/1"}}', NO_IDENTITY,
    ),
    "NaN": (b"NaN", NO_IDENTITY),
    "a lone surrogate": (b'{"event":"\\ud800"}', UNDECODABLE),
    "nested too deep": (DEEP, UNDECODABLE),
    "nested too deep, in data": (b'{"data":' + b'{"a":' * 200_000, UNDECODABLE),
    "an endless number": (b"9" * 10_000, NO_IDENTITY),
    "an identity with an endless number": (
        b'{"data":{"tickstorm":{"r":"run","s":%d,"q":%b,"d":1,"t":1}}}' % (STREAM, b"9" * 4000),
        Said(odd="restamped"),
    ),
}  # fmt: skip


def chunks(transport: str) -> Chunks:
    dialect = (PlainDialect if transport == "plain" else SocketIoDialect)("tickstorm", "object")
    return Chunks(dialect, Streams([0]), "run")


def said(transport: str, payload: bytes, opcode: int = TEXT) -> Said:
    batch, controls = chunks(transport).open(Cutter(), frame(payload, opcode))
    assert len(batch.strange) <= 1
    assert len(controls) <= 1
    control = controls[0] if controls else Control("")
    answer = greeted(control) if transport == "socketio" and controls else None
    return Said(batch.count, batch.strange[0][0] if batch.strange else "", control.event, control.number, answer)


def greeted(control: Control) -> bytes | None:
    """Payload of the frame that answers by itself."""
    wire = SocketIoDialect("tickstorm", "object").greeting(control)
    if wire is None:
        return None
    assert wire[0] == 0x81
    assert wire[1] & 0x80
    head = 4 if wire[1] & 0x7F == 126 else 2
    return bytes(b ^ wire[head + (i & 3)] for i, b in enumerate(wire[head + 4 :]))


@pytest.mark.parametrize("name", SOCKETIO)
def test_a_packet_of_socketio(name: str) -> None:
    payload, expected = SOCKETIO[name]
    assert said("socketio", payload) == expected


@pytest.mark.parametrize("name", PLAIN)
def test_a_message_of_plain_websocket(name: str) -> None:
    payload, expected = PLAIN[name]
    assert said("plain", payload) == expected


@pytest.mark.parametrize("payload", [b"", b"\x04", b"\xff\xfe", b'42["t",%b]' % LOAD, b"2"])
def test_a_binary_frame_is_an_attachment_that_belongs_to_nothing(payload: bytes) -> None:
    assert said("socketio", payload, BINARY) == NO_IDENTITY


@pytest.mark.parametrize("end", [b"1", b"41"])
def test_what_follows_the_end_of_a_session_is_not_accounted(end: bytes) -> None:
    message = frame(b'42["t",%b]' % LOAD)
    batch, controls = chunks("socketio").open(Cutter(), message + frame(end) + message + frame(b"2"))
    assert batch.count == 1
    assert [c.event for c in controls] == ["disconnected"]


def test_what_follows_a_close_frame_is_not_accounted() -> None:
    message = frame(b'{"data":%b}' % LOAD)
    cutter, plain = Cutter(), chunks("plain")
    batch, controls = plain.open(cutter, message + frame(b"\x03\xe8", 8) + message)
    assert batch.count == 1
    assert [c.event for c in controls] == ["ws-close"]
    assert plain.open(cutter, message)[0].count == 0
    assert not cutter.clean, "nor does a known chunk pass"


def test_each_of_some_pings_is_answered_and_of_a_flood_the_last() -> None:
    some = b"".join(frame(b"%d" % n, 9) for n in range(20))
    assert [c.data for c in chunks("plain").open(Cutter(), some)[1]] == [b"%d" % n for n in range(20)]
    flood = b"".join(frame(b"%d" % n, 9) for n in range(3000))
    controls = chunks("plain").open(Cutter(), flood)[1]
    assert len(controls) <= 32
    assert controls[-1].data == b"2999"


# -- the reference decoders


names = st.sampled_from(["t", "pattern_detected", "ü", "", "disconnect"])
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 4),
    st.sampled_from([None, "/", "/admin", "/a-b"]),
    st.none() | st.integers(0, 10**9),
    names,
    st.lists(values, max_size=3),
    st.booleans(),
)
def test_what_the_reference_writes_is_read_as_it_was_meant(
    kind: int, namespace: str | None, number: int | None, name: str, data: list[Any], load: bool
) -> None:
    content: Any
    if kind == socketio.packet.EVENT:
        content = [name, *([json.loads(LOAD)] if load else []), *data]
    elif kind == socketio.packet.ACK:
        content = data
        number = 0 if number is None else number
    else:
        number = None
        content = {"message": name} if data and kind != socketio.packet.DISCONNECT else None
    packet = socketio.packet.Packet(kind, content, namespace, number)
    wire = engineio.packet.Packet(engineio.packet.MESSAGE, packet.encode()).encode()
    found = said("socketio", wire.encode())
    if namespace not in (None, "/"):
        assert found == NO_IDENTITY
    elif kind == socketio.packet.EVENT:
        wants = "ack wanted" if number is not None else ""
        assert (found.control, found.number) == (wants, number)
        assert found.answer == (b"43%d[]" % number if number is not None else None)
        assert (found.messages, found.odd) == ((1, "") if load else (0, "no identity"))
    else:
        expected = {0: "connected", 1: "disconnected", 3: "ack", 4: "error"}[kind]
        assert (found.messages, found.odd, found.control) == (0, "", expected)
        assert found.number == (number if kind == socketio.packet.ACK else None)


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=20), st.lists(st.binary(max_size=5), min_size=1, max_size=3), st.none() | st.integers(0, 99))
def test_binary_packets_of_the_reference_are_read_with_their_attachments(
    blob: bytes, more: list[bytes], number: int | None
) -> None:
    parts = socketio.packet.Packet(2, ["t", {"blob": blob}, *more], "/", number).encode()
    assert isinstance(parts, list)
    opened, cutter = chunks("socketio"), Cutter()
    wire = frame(b"4" + parts[0].encode()) + b"".join(frame(attachment, BINARY) for attachment in parts[1:])
    batch, controls = opened.open(cutter, wire[:-1])
    assert not cutter.clean
    last, more_controls = opened.open(cutter, wire[-1:])
    assert [odd.kind for odd in batch.strange + last.strange] == ["no identity"]
    assert [c.event for c in controls + more_controls] == (["ack wanted"] if number is not None else [])
    assert cutter.clean
    assert opened.open(cutter, frame(b"\x04", BINARY))[0].strange, "one more belongs to nothing"


def test_an_attachment_that_does_not_come_is_a_breach_and_a_ping_may_come_between() -> None:
    event = frame(b'451-["t",%b,{"_placeholder":true,"num":0}]' % LOAD)
    message = frame(b'42["t",%b]' % LOAD)
    batch, controls = chunks("socketio").open(Cutter(), event + frame(b"2") + frame(b"\x00", BINARY) + message)
    assert (batch.count, batch.strange, [c.event for c in controls]) == (2, (), ["ping"])
    batch, _ = chunks("socketio").open(Cutter(), event + message)
    assert batch.count == 2
    assert [odd.kind for odd in batch.strange] == ["protocol"]


def test_content_in_a_form_that_we_cannot_read_is_our_inability() -> None:
    attached = frame(b'451-["t",{"_placeholder":true,"num":0}]') + frame(b"\x93" + LOAD, BINARY)
    assert [c.event for c in chunks("socketio").open(Cutter(), attached)[1]] == ["cannot"]
    for packed in (b"\x81\xa9tickstorm\xa3run", gzip.compress(LOAD), zlib.compress(LOAD)):
        assert said("plain", packed, BINARY) == Said(control="cannot")
    assert said("plain", b"\x00\x01", BINARY) == NO_IDENTITY
    many = b'{"data":%b}\n' % LOAD
    batch, controls = chunks("plain").open(Cutter(8 * 2**20), frame(many * (JOINED_MAX + 5)))
    assert batch.count == JOINED_MAX
    assert [c.data for c in controls] == [JOINED]


def test_what_lines_bring_is_accounted_without_a_reference_that_would_hold_them() -> None:
    """A step of a reference holds exactly one message."""
    whole = frame(b'{"data":%b}\n{"data":%b}' % (LOAD, LOAD)) + frame(b"{}{}")
    batch, _ = chunks("plain").open(Cutter(), whole)
    assert batch.count == 2
    assert batch.frames == ()


pieces = st.sampled_from(
    [
        *(
            "0",
            "1",
            "2",
            "3",
            "4",
            "5",
            "6",
            "40",
            "41",
            "42",
            "43",
            "44",
            "45",
            "46",
            "7",
            "12",
            "-",
            "/",
            "/admin",
            ",",
        ),
        *('["t"]', '["t",{}]', '["subscribed",{}]', "[]", "{}", '{"sid":"x"}', '"x"', "[", "null", "x", "[7]"),
        f'["t",{LOAD.decode()}]',
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(pieces, max_size=5).map("".join))
def test_a_packet_that_the_reference_refuses_is_a_record(packet: str) -> None:
    found = said("socketio", packet.encode())
    try:
        outer = engineio.packet.Packet(encoded_packet=packet)
        kind = outer.packet_type
        inner = None
        if kind == engineio.packet.MESSAGE:
            inner = socketio.packet.Packet(encoded_packet=packet[1:])
    except (ValueError, IndexError):
        assert found.odd in ("protocol", "undecodable")
        assert (found.messages, found.control) == (0, "")
        return
    if found.control in ("connected", "ack", "error") or found.messages:
        assert inner is not None
        assert inner.namespace in (None, "/")
    if found.control == "ack":
        assert (inner and inner.packet_type, inner and inner.id) == (socketio.packet.ACK, found.number)
    if found.messages:
        assert inner is not None
        assert inner.packet_type == socketio.packet.EVENT
    if found.control == "ping":
        assert kind == engineio.packet.PING
    if found.control == "open":
        assert kind == engineio.packet.OPEN


# -- garbage, up to the records


words = st.sampled_from(
    [
        *(LOAD, WHO, OTHERS, b'{"event":"t","data":', b'42["t",', b"}", b"]", b'"', b"\\u", b"\xff", b"0", b"1", b"2"),
        *(b"44", b"41", b"-1", b"1e400", b"431[", b"null", b"{", b'{"sid":"', b"\x00", b"[[", b"9" * 30),
        *(b'{"event":"error","data":{"id":', b'{"tickstorm":', b'{"r":"run","s":0,"q":', b',"d":', b',"t":'),
    ]
)
payloads = st.binary(max_size=60) | st.lists(words, max_size=8).map(b"".join)
wires = st.lists(
    st.one_of(
        st.tuples(payloads, st.just(BINARY)).map(lambda p: frame(*p)),
        payloads.map(lambda p: frame(p.decode(errors="ignore").encode())),
        st.binary(max_size=20),
        st.binary(max_size=100).map(lambda p: frame(p, 9)),
    ),
    max_size=8,
).map(b"".join)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["plain", "socketio"]), st.sampled_from(["object", "text"]), wires, st.integers(1, 300))
def test_garbage_becomes_records_and_never_an_error(transport: str, form: Any, wire: bytes, step: int) -> None:
    accountant = Accountant(
        family_of_route=[0],
        copies_of_family=[1],
        consumer_groups=1,
        exceptions_per_s=10,
        now_ns=0,
    )
    dialect = (PlainDialect if transport == "plain" else SocketIoDialect)("tickstorm", form)
    opened = Chunks(dialect, accountant.streams, "run")
    account = accountant.account(consumer=0, epoch=0, group=0, routes=frozenset({0}))
    cutter, odd, ended = Cutter(), 0, False
    for at in range(0, len(wire), step):
        batch, controls = opened.open(cutter, wire[at : at + step])
        odd += len(batch.strange)
        for control in controls:
            ended = ended or control.event in ("broken", "ws-close", "disconnected")
            if transport == "socketio":
                dialect.greeting(control)
        accountant.take(account, batch, 1_000_000 + at)
    broken = cutter.broken is not None
    if broken:
        assert ended
        assert odd
    accountant.close_account(account)
    found: list[Record] = list(accountant.flush(2_000_000_000, final=True))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=list[Record]) == found
    assert sum(sum(record.count) for record in found if isinstance(record, Strange)) == odd
    assert all(len(text) <= 120 for record in found if isinstance(record, Strange) for text in record.example)
