"""Are replies understood wherever the stream is cut, and is nothing else taken for a reply?"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.drive.publish.resp import ErrorReply, Replies, RespError, command, head

SAMPLE = (
    b":3\r\n:3\r\n+PONG\r\n-NOPERM no\r\n$-1\r\n$5\r\na\r\nbc\r\n"
    b"*3\r\n:1\r\n$0\r\n\r\n*1\r\n+x\r\n*-1\r\n:-7\r\n:0\r\n:0\r\n"
)
MEANING = [3, 3, "PONG", ErrorReply("NOPERM no"), None, b"a\r\nbc", [1, b"", ["x"]], None, -7, 0, 0]


def flat(found):
    return [reply for reply, count in found for _ in range(count)]


@pytest.mark.parametrize("cut", range(len(SAMPLE) + 1))
def test_a_stream_cut_anywhere_means_the_same(cut) -> None:
    parser = Replies()
    assert flat(parser.feed(SAMPLE[:cut]) + parser.feed(SAMPLE[cut:])) == MEANING


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9)))
def test_a_stream_cut_often_means_the_same(steps) -> None:
    parser, found, at = Replies(), [], 0
    for step in steps:
        found += parser.feed(SAMPLE[at : at + step])
        at += step
    assert flat(found + parser.feed(SAMPLE[at:])) == MEANING


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from((0, 1, 2, 12)), max_size=40), st.integers(1, 30))
def test_runs_of_integers_are_counted(numbers, step) -> None:
    data = b"".join(b":%d\r\n" % n for n in numbers)
    parser = Replies()
    found = [entry for at in range(0, len(data), step) for entry in parser.feed(data[at : at + step])]
    assert flat(found) == numbers
    assert Replies().feed(b":4\r\n" * 1000) == [(4, 1000)]


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 400 Bad\r\n",
        b":x\r\n",
        b":1_0\r\n",
        b":--1\r\n",
        b":\r\n",
        b"$-2\r\n",
        b"$1\r\nabc",
        b"*9999999\r\n",
        b"*65\r\n",
        b"$70000\r\n",
        b"*1\r\n" * 4 + b":1\r\n",
        b":" + b"1" * 5000 + b"\r\n",
        b"x",
    ],
)
def test_what_is_no_resp_is_refused(bad) -> None:
    with pytest.raises(RespError):
        Replies().feed(bad)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_raises_nothing_else(data) -> None:
    try:
        Replies().feed(data)
    except RespError:
        pass


def test_a_head_and_its_last_argument_are_the_command() -> None:
    assert head((b"PUBLISH", b"a.b"), 8) + b'{"w":12}\r\n' == command(b"PUBLISH", b"a.b", b'{"w":12}')
