"""Does a client's cutter keep RFC 6455, case by case, and agree with an independent library on what it has not seen?

One row per case.  Where `websockets` sees a case otherwise, the row says why.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame as TheirFrame
from websockets.frames import Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from loadtests.drive.consume import frames
from loadtests.drive.consume.frames import MAX_MESSAGE, Cutter, Frame, ProtocolError

pytestmark = pytest.mark.group("ATTACKS")

TEXT, BINARY, CLOSE, PING, PONG = frames.TEXT, frames.BINARY, frames.CLOSE, frames.PING, frames.PONG
K = "κόσμε".encode()
EMOJI = "\U0001f4c8".encode()


def theirs(opcode: int, payload: bytes = b"", fin: bool = True) -> bytes:
    """A server's frame, as the library writes it."""
    return TheirFrame(Opcode(opcode), payload, fin).serialize(mask=False)


def raw(head: int, size: int, payload: bytes = b"", form: int = 0) -> bytes:
    """A frame as nobody should write it: any first byte, any length in 7, 16 or 64 bits."""
    if form == 0:
        return bytes((head, size)) + payload
    return bytes((head, 126 if form == 16 else 127)) + size.to_bytes(form // 8, "big") + payload


def close(code: int, reason: bytes = b"") -> bytes:
    return bytes((0x88, 2 + len(reason))) + code.to_bytes(2, "big") + reason


class Case(NamedTuple):
    wire: bytes
    told: list[Frame]
    code: int | None = None  # the close code that answers a breach; None: there is none
    differs: str = ""  # why the library sees it otherwise


def refused(wire: bytes, code: int = 1002, told: list[Frame] | None = None, differs: str = "") -> Case:
    return Case(wire, told or [], code, differs)


WHOLE_LATER = "sees UTF-8 as the application's matter"
STRICTER = "takes a length in more bytes than it needs"
ABANDONED = "calls a message that a close frame leaves unfinished a breach"
LATER = "reads a forbidden frame to its end before it refuses"

CASES: dict[str, Case] = {
    # -- 5.2 lengths
    "empty text": Case(theirs(TEXT), [(TEXT, b"")]),
    "empty binary": Case(theirs(BINARY), [(BINARY, b"")]),
    "125 bytes, 7 bits": Case(theirs(TEXT, b"x" * 125), [(TEXT, b"x" * 125)]),
    "126 bytes, 16 bits": Case(theirs(TEXT, b"x" * 126), [(TEXT, b"x" * 126)]),
    "127 bytes, 16 bits": Case(theirs(TEXT, b"x" * 127), [(TEXT, b"x" * 127)]),
    "65,535 bytes, 16 bits": Case(theirs(BINARY, b"x" * 65_535), [(BINARY, b"x" * 65_535)]),
    "65,536 bytes, 64 bits": Case(theirs(BINARY, b"x" * 65_536), [(BINARY, b"x" * 65_536)]),
    "the longest message": Case(theirs(BINARY, bytes(MAX_MESSAGE)), [(BINARY, bytes(MAX_MESSAGE))]),
    "a byte too long": refused(raw(0x82, MAX_MESSAGE + 1, b"", 64), 1009),
    "a text too long": refused(raw(0x81, MAX_MESSAGE + 1, b"", 64), 1009),
    "8 EiB less a byte": refused(raw(0x82, (1 << 63) - 1, b"", 64), 1009),
    "highest bit of the length": refused(raw(0x82, 1 << 63, b"", 64), 1002, differs="says too long"),
    "highest bit, small rest": refused(raw(0x81, (1 << 63) | 5, b"hello", 64), 1002, differs="says too long"),
    "125 in 16 bits": refused(raw(0x81, 125, b"x" * 125, 16), differs=STRICTER),
    "0 in 16 bits": refused(raw(0x81, 0, b"", 16), differs=STRICTER),
    "65,535 in 64 bits": refused(raw(0x82, 65_535, b"x" * 65_535, 64), differs=STRICTER),
    "5 in 64 bits": refused(raw(0x82, 5, b"hello", 64), differs=STRICTER),
    "a ping's 5 in 16 bits": refused(raw(0x89, 5, b"hello", 16), differs=STRICTER),
    # -- 5.2 bits and opcodes
    **{
        f"reserved bit {bit} on {name}": refused(raw(head | 0x80 >> bit, 1, b"x"))
        for bit in (1, 2, 3)
        for name, head in (("text", 0x81), ("binary", 0x82), ("a ping", 0x89), ("a first fragment", 0x01))
    },
    "reserved bit on a close": refused(raw(0xC8, 0)),
    "all reserved bits": refused(raw(0xF1, 0)),
    "reserved bit inside fragments": refused(theirs(TEXT, b"a", False) + raw(0xC0, 1, b"b")),
    **{f"opcode {opcode}": refused(raw(0x80 | opcode, 0)) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "opcode 3 as a fragment": refused(raw(0x03, 1, b"x")),
    "opcode 11 behind a good frame": refused(theirs(TEXT, b"a") + raw(0x8B, 1, b"x"), 1002, [(TEXT, b"a")]),
    # -- 5.1 masks
    "masked text": refused(raw(0x81, 0x85, b"maskhello")),
    "masked empty text": refused(raw(0x81, 0x80, b"mask")),
    "masked ping": refused(raw(0x89, 0x80, b"mask")),
    "masked 16 bits": refused(raw(0x81, 0xFE, b"\x00\x7emask" + b"x" * 126)),
    "masked 64 bits": refused(raw(0x81, 0xFF, bytes(8) + b"mask")),
    # -- 5.4 fragments
    "two fragments": Case(theirs(TEXT, b"on", False) + theirs(0, b"e"), [(TEXT, b"one")]),
    "binary fragments": Case(
        theirs(BINARY, b"\xff", False) + theirs(0, b"\xfe", False) + theirs(0, b""), [(BINARY, b"\xff\xfe")]
    ),
    "empty fragments": Case(theirs(TEXT, b"", False) + theirs(0, b"", False) + theirs(0, b""), [(TEXT, b"")]),
    "a hundred fragments": Case(
        theirs(TEXT, b"a", False) + theirs(0, b"b", False) * 98 + theirs(0, b"c"), [(TEXT, b"a" + b"b" * 98 + b"c")]
    ),
    "a message behind fragments": Case(
        theirs(TEXT, b"a", False) + theirs(0, b"b") + theirs(BINARY, b"c"), [(TEXT, b"ab"), (BINARY, b"c")]
    ),
    "controls inside fragments": Case(
        theirs(TEXT, b"a", False) + theirs(PING, b"p") + theirs(0, b"b", False) + theirs(PONG) + theirs(0, b"c"),
        [(PING, b"p"), (PONG, b""), (TEXT, b"abc")],
    ),
    "a close inside fragments": Case(
        theirs(TEXT, b"a", False) + close(1000) + theirs(0, b"b"), [(CLOSE, b"\x03\xe8")], differs=ABANDONED
    ),
    "a continuation of nothing": refused(theirs(0, b"x")),
    "an unfinished continuation of nothing": refused(theirs(0, b"x", False)),
    "a continuation behind a whole message": refused(theirs(TEXT, b"a") + theirs(0, b"x"), 1002, [(TEXT, b"a")]),
    "a continuation behind the last fragment": refused(
        theirs(TEXT, b"a", False) + theirs(0, b"b") + theirs(0, b"c"), 1002, [(TEXT, b"ab")]
    ),
    "text inside fragments": refused(theirs(TEXT, b"a", False) + theirs(TEXT, b"b")),
    "binary inside fragments": refused(theirs(TEXT, b"a", False) + theirs(BINARY, b"b")),
    "a fragmented text inside fragments": refused(theirs(TEXT, b"a", False) + theirs(TEXT, b"b", False)),
    "fragments too long": refused(
        theirs(BINARY, bytes(MAX_MESSAGE - 1), False) + theirs(0, b"a", False) + theirs(0, b"b"), 1009
    ),
    "fragments that announce too much": refused(
        theirs(BINARY, bytes(100), False) + raw(0x80, MAX_MESSAGE - 99, b"", 64), 1009
    ),
    "the longest message in fragments": Case(
        theirs(BINARY, bytes(MAX_MESSAGE - 1), False) + theirs(0, b"a"), [(BINARY, bytes(MAX_MESSAGE - 1) + b"a")]
    ),
    # -- 5.5 control frames
    "ping with nothing": Case(theirs(PING), [(PING, b"")]),
    "ping of 125 bytes": Case(theirs(PING, b"\xff" * 125), [(PING, b"\xff" * 125)]),
    "ping of 126 bytes": refused(raw(0x89, 126, b"x" * 126, 16)),
    "pong of 126 bytes": refused(raw(0x8A, 126, b"x" * 126, 16)),
    "close of 126 bytes": refused(raw(0x88, 126, b"\x03\xe8" + b"x" * 124, 16)),
    "a fragmented ping": refused(raw(0x09, 0)),
    "a fragmented pong": refused(raw(0x0A, 0)),
    "a fragmented close": refused(raw(0x08, 0)),
    "a ping in two parts": refused(raw(0x09, 1, b"a") + raw(0x80, 1, b"b")),
    "an unsolicited pong": Case(theirs(PONG, b"nobody asked"), [(PONG, b"nobody asked")]),
    "ten pings": Case(b"".join(theirs(PING, b"%d" % n) for n in range(10)), [(PING, b"%d" % n) for n in range(10)]),
    # -- 5.5.1, 7.4 closing
    "close without a code": Case(raw(0x88, 0), [(CLOSE, b"")]),
    "half a code": refused(raw(0x88, 1, b"\x03")),
    "close with a reason": Case(close(1001, b"bye"), [(CLOSE, b"\x03\xe9bye")]),
    "the longest reason": Case(close(1000, b"x" * 123), [(CLOSE, b"\x03\xe8" + b"x" * 123)]),
    "a reason in Greek": Case(close(1000, K), [(CLOSE, b"\x03\xe8" + K)]),
    "a reason that is not UTF-8": refused(close(1000, b"\xce\xba\xe1\xbd"), 1007),
    "a reason with half a character": refused(close(1000, K[:-1]), 1007),
    **{
        f"close code {code}": Case(close(code), [(CLOSE, code.to_bytes(2, "big"))])
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
    },
    **{
        f"close code {code}": refused(close(code))
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    },
    "data behind a close": Case(close(1000) + theirs(TEXT, b"late"), [(CLOSE, b"\x03\xe8")]),
    "a ping behind a close": Case(close(1000) + theirs(PING, b"late"), [(CLOSE, b"\x03\xe8")]),
    "a breach behind a close": Case(close(1000) + b"\xff\xff\xff\xff", [(CLOSE, b"\x03\xe8")]),
    "two closes": Case(close(1000) + close(1001), [(CLOSE, b"\x03\xe8")]),
    # -- 8.1 text
    "Greek": Case(theirs(TEXT, K), [(TEXT, K)]),
    "four bytes a character": Case(theirs(TEXT, EMOJI * 40), [(TEXT, EMOJI * 40)]),
    "a zero character": Case(theirs(TEXT, b"a\0b"), [(TEXT, b"a\0b")]),
    "the last character": Case(theirs(TEXT, b"\xf4\x8f\xbf\xbf"), [(TEXT, b"\xf4\x8f\xbf\xbf")]),
    "a noncharacter": Case(theirs(TEXT, b"\xef\xbf\xbe"), [(TEXT, b"\xef\xbf\xbe")]),
    **{
        f"text with {what}": refused(theirs(TEXT, b"ok" + bad), 1007, differs=WHOLE_LATER)
        for what, bad in {
            "a lone continuation": b"\x80",
            "half a character": b"\xce",
            "three quarters of a character": EMOJI[:3],
            "an overlong slash": b"\xc0\xaf",
            "an overlong zero": b"\xe0\x80\x80",
            "a surrogate": b"\xed\xa0\x80",
            "a pair of surrogates": b"\xed\xa0\x81\xed\xb0\x80",
            "more than there are": b"\xf4\x90\x80\x80",
            "five bytes a character": b"\xf8\x88\x80\x80\x80",
            "FE": b"\xfe",
            "FF": b"\xff",
        }.items()
    },
    "binary is not text": Case(theirs(BINARY, b"\xff\xc0\x80"), [(BINARY, b"\xff\xc0\x80")]),
    "a character split over fragments": Case(
        theirs(TEXT, b"a" + EMOJI[:1], False) + theirs(0, EMOJI[1:3], False) + theirs(0, EMOJI[3:] + b"b"),
        [(TEXT, b"a" + EMOJI + b"b")],
    ),
    "a ping inside a character": Case(
        theirs(TEXT, K[:1], False) + theirs(PING, b"\xff") + theirs(0, K[1:]), [(PING, b"\xff"), (TEXT, K)]
    ),
    "half a character at the end of fragments": refused(
        theirs(TEXT, b"a", False) + theirs(0, EMOJI[:2]), 1007, differs=WHOLE_LATER
    ),
    "bad text in the first of many fragments": refused(theirs(TEXT, b"\xff", False), 1007, differs=WHOLE_LATER),
    "bad text across two of many fragments": refused(
        theirs(TEXT, b"\xce", False) + theirs(0, b"\x20", False), 1007, differs=WHOLE_LATER
    ),
    "a surrogate across fragments": refused(
        theirs(TEXT, b"\xed", False) + theirs(0, b"\xa0\x80", False), 1007, differs=WHOLE_LATER
    ),
    "more than there are across fragments": refused(
        theirs(TEXT, b"\xf4", False) + theirs(0, b"\x90", False), 1007, differs=WHOLE_LATER
    ),
    "binary fragments are not text": Case(theirs(BINARY, b"\xce", False) + theirs(0, b"\x20"), [(BINARY, b"\xce\x20")]),
    "text behind bad binary fragments": Case(
        theirs(BINARY, b"\xce", False) + theirs(0, b"\x20") + theirs(TEXT, K), [(BINARY, b"\xce\x20"), (TEXT, K)]
    ),
    # -- refused by the header, though the payload has not come
    "a ping that announces too much": refused(raw(0x89, 1 << 40, b"", 64), 1002, differs="says too long"),
    "an unknown opcode without its payload": refused(raw(0x83, 100), differs=""),
    "a continuation of nothing without its payload": refused(raw(0x80, 100), differs=LATER),
    "a reserved bit without its payload": refused(raw(0xC1, 100), differs=LATER),
}


def held(cutter: Cutter) -> int:
    return len(cutter._held) + len(cutter._parts or b"")


def outcome(cutter: Cutter, pieces: list[bytes]) -> tuple[list[Frame], int | None]:
    told: list[Frame] = []
    for piece in pieces:
        told += cutter.cut(piece)
    return told, None if cutter.broken is None else cutter.broken.code


class Peer:
    """The library's client, its frames joined to messages as ours are."""

    def __init__(self, max_size: int = MAX_MESSAGE) -> None:
        self.protocol = ClientProtocol(parse_uri("ws://peer/"), state=OPEN, max_size=max_size)
        self._parts: list[bytes] = []
        self._opcode = 0

    def outcome(self, wire: bytes) -> tuple[list[Frame], int | None]:
        self.protocol.receive_data(wire)
        told: list[Frame] = []
        for frame in self.protocol.events_received():
            assert isinstance(frame, TheirFrame)
            if frame.opcode >= 8:
                told.append((int(frame.opcode), bytes(frame.data)))
                continue
            if frame.opcode:
                self._opcode = int(frame.opcode)
            self._parts.append(bytes(frame.data))
            if frame.fin:
                told.append((self._opcode, b"".join(self._parts)))
                self._parts = []
        sent = self.protocol.close_sent
        broke = self.protocol.parser_exc is not None
        return told, sent.code if broke and sent is not None else None


@pytest.mark.parametrize("name", CASES)
def test_the_case(name: str) -> None:
    case = CASES[name]
    assert outcome(Cutter(), [case.wire]) == (case.told, case.code)


@pytest.mark.parametrize("name", CASES)
def test_the_case_in_pieces(name: str) -> None:
    case = CASES[name]
    wire, size = case.wire, len(case.wire)
    places = range(size + 1) if size < 1000 else (0, 1, 2, 3, 9, 10, 11, 125, 1000, 65_537, size - 1)
    for place in places:
        assert outcome(Cutter(), [wire[:place], wire[place:]]) == (case.told, case.code), place
    if size < 70_000:
        assert outcome(Cutter(), [wire[n : n + 1] for n in range(size)]) == (case.told, case.code)


@pytest.mark.parametrize("name", CASES)
def test_the_library_agrees_or_the_case_says_why_not(name: str) -> None:
    case = CASES[name]
    assert (Peer().outcome(case.wire) == (case.told, case.code)) is (not case.differs)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.code is not None])
def test_nothing_is_cut_or_held_behind_a_breach(name: str) -> None:
    cutter = Cutter()
    cutter.cut(CASES[name].wire)
    assert cutter.cut(theirs(TEXT, b"good")) == []
    assert not cutter.clean
    assert held(cutter) == 0


def test_a_refused_frame_is_refused_before_its_payload_is_held() -> None:
    cutter = Cutter()
    cutter.cut(raw(0x82, MAX_MESSAGE, b"x", 64))
    assert cutter.broken is None
    assert held(cutter) == 11
    for head, size, form in ((0x83, 100, 0), (0xC1, 100, 0), (0x80, 100, 0), (0x82, MAX_MESSAGE + 1, 64)):
        cutter = Cutter()
        cutter.cut(raw(head, size, b"", form))
        assert cutter.broken is not None


def test_a_giant_that_comes_bit_by_bit_is_held_once_and_cut_once() -> None:
    cutter, size = Cutter(), 1 << 20
    wire = theirs(BINARY, bytes(size))
    for at in range(0, len(wire) - 1, 4096):
        assert cutter.cut(wire[at : min(at + 4096, len(wire) - 1)]) == []
        assert held(cutter) <= size + 10
    assert cutter.cut(wire[-1:]) == [(BINARY, bytes(size))]
    assert held(cutter) == 0


def test_fragments_without_end_are_refused_at_the_bound() -> None:
    cutter, piece, fed = Cutter(), theirs(0, b"x" * 10_000, False), 0
    cutter.cut(theirs(TEXT, b"", False))
    while cutter.broken is None:
        cutter.cut(piece)
        fed += 10_000
        assert held(cutter) <= MAX_MESSAGE
        assert fed <= MAX_MESSAGE + 10_000
    assert cutter.broken.code == 1009


# -- what we say


@pytest.mark.parametrize("reason", ["", "bye", "x" * 200, "ü" * 100, "\U0001f4c8" * 40])
def test_a_close_of_ours_is_a_good_frame_whatever_its_reason(reason: str) -> None:
    payload = _unmasked(frames.encode_close(1002, reason))
    assert len(payload) <= 125
    assert payload[:2] == b"\x03\xea"
    assert reason.startswith(payload[2:].decode())
    assert len(payload) >= min(2 + len(reason.encode()), 125) - 3


@pytest.mark.parametrize(("came", "goes"), [(b"", b""), (b"\x03\xe9", b"\x03\xe9"), (b"\x0f\xa0why", b"\x0f\xa0")])
def test_a_close_is_answered_with_its_code(came: bytes, goes: bytes) -> None:
    assert _unmasked(frames.close_answer(came)) == goes


def _unmasked(frame: bytes) -> bytes:
    assert frame[0] == 0x88
    assert frame[1] & 0x80, "a client's frame is masked"
    mask, body = frame[2:6], frame[6:]
    assert len(body) == frame[1] & 0x7F
    return bytes(b ^ mask[i & 3] for i, b in enumerate(body))


# -- what no table has


SMALL = 300
heads = st.one_of(
    st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A]),
    st.sampled_from([0x81, 0x00, 0x80]),
    st.integers(0, 255).filter(lambda head: head & 15 != CLOSE),
)
bodies = st.one_of(
    st.text(max_size=40).map(str.encode),
    st.binary(max_size=200),
    st.sampled_from([b"x" * 125, b"y" * 126, b"z" * SMALL]),
)


def minimal(head: int, payload: bytes) -> bytes:
    return raw(head, len(payload), payload, 0 if len(payload) < 126 else 16)


@st.composite
def wires(draw: st.DrawFn) -> bytes:
    wire = b"".join(minimal(draw(heads), draw(bodies)) for _ in range(draw(st.integers(1, 8))))
    return wire + (close(draw(st.sampled_from([1000, 1001, 4000]))) if draw(st.booleans()) else b"")


def as_text(told: list[Frame]) -> tuple[list[Frame], int | None]:
    """What is left of the library's frames when text must be UTF-8."""
    for number, (opcode, payload) in enumerate(told):
        if opcode == TEXT:
            try:
                payload.decode()
            except UnicodeDecodeError:
                return told[:number], 1007
    return told, None


@settings(max_examples=120, deadline=None)
@given(wires(), st.data())
def test_random_frames_are_the_librarys_frames(wire: bytes, data: st.DataObject) -> None:
    places = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
    pieces = [wire[a:b] for a, b in zip([0, *places], [*places, len(wire)], strict=True)]
    mine = outcome(Cutter(SMALL), pieces)
    assert mine == outcome(Cutter(SMALL), [wire])
    told, code = Peer().outcome(wire)  # its own bound would count control frames as part of a fragmented message
    told, bad_text = as_text(told)
    if mine[1] == 1007:
        # We refuse at the fragment, the library's user at the message; control frames in between are theirs alone.
        assert mine[0] == told[: len(mine[0])]
        assert bad_text == 1007 or all(opcode >= 8 for opcode, _ in told[len(mine[0]) :])
    elif mine[1] == 1009:
        assert mine[0] == told[: len(mine[0])]
    elif mine[0] and mine[0][-1][0] == CLOSE and code == 1002:
        assert told == mine[0][:-1], ABANDONED
    else:
        assert bad_text is None
        assert told == mine[0]
        assert (mine[1] is None) is (code is None)


@settings(max_examples=120, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=400), wires().flatmap(lambda w: st.tuples(st.just(w), st.binary(max_size=60)).map(b"".join))
    ),
    st.lists(st.integers(1, 50), min_size=1, max_size=8),
)
def test_garbage_never_raises_and_never_holds_more_than_its_bound(wire: bytes, steps: list[int]) -> None:
    cutter, at, told = Cutter(SMALL), 0, []
    for step in itertools.cycle(steps):
        if at >= len(wire):
            break
        told += cutter.cut(wire[at : at + step])
        at += step
        assert held(cutter) <= SMALL + 10 + 2 + 125  # fragments of one message, and a control frame among them
        assert all(len(payload) <= SMALL for _, payload in told)
        assert cutter.broken is None or isinstance(cutter.broken, ProtocolError)
    assert (told, cutter.broken and cutter.broken.code) == outcome(Cutter(SMALL), [wire])


@settings(max_examples=25, deadline=None)
@given(wires())
def test_every_split_at_every_position_gives_the_same_frames(wire: bytes) -> None:
    whole = outcome(Cutter(SMALL), [wire])
    for place in range(len(wire) + 1):
        assert outcome(Cutter(SMALL), [wire[:place], wire[place:]]) == whole
    assert outcome(Cutter(SMALL), [wire[n : n + 1] for n in range(len(wire))]) == whole
