"""Do the parts without sockets keep their laws?"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from target_servers import ROOT

from reference_target import frames
from reference_target.resp import Message, ProtocolError, RespReader, command
from reference_target.rooms import Filter, Rooms
from reference_target.settings import GatewaySettings, load
from reference_target.switches import SwitchValues, parse_switches

names = st.sampled_from(["a", "b", "c"])
some = st.frozensets(names)
filters = st.builds(Filter, channels=some, patterns=some, symbols=some)
events = st.tuples(names, st.none() | names, st.none() | names)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.none() | filters, events), max_size=60))
def test_remembered_matches_equal_a_fresh_look(
    steps: list[tuple[int, Filter | None, tuple[str, str | None, str | None]]],
) -> None:
    rooms: Rooms[int] = Rooms()
    wanted: dict[int, Filter] = {}
    for client, change, event in steps:
        if change is None:
            assert rooms.leave(client) == (wanted.pop(client, None) is not None)
        else:
            rooms.join(client, change, socketio=bool(client % 2))
            wanted[client] = change
        reached = [member for room in rooms.match(*event) for member in room.clients()]
        assert sorted(reached) == sorted(c for c, f in wanted.items() if f.passes(*event))
        assert rooms.subscribed == len(wanted)


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=300)), max_size=20), st.data())
def test_replies_do_not_depend_on_where_the_stream_is_torn(
    pairs: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    stream = b"+OK\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
    for channel, payload in pairs:
        stream += b"*3\r\n" + bulk(b"message") + bulk(channel) + bulk(payload)
    stream += b"*2\r\n" + bulk(b"pong") + bulk(b"") + b"$-1\r\n"
    reader, replies, at = RespReader(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 64))
        replies += reader.feed(stream[at : at + size])
        at += size
    assert replies == [b"OK", [b"subscribe", b"c", 1], *(Message(*pair) for pair in pairs), [b"pong", b""], None]


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400\r\n", b":x\r\n", b"*3\r\n$7\r\nmessage\r\n$x\r\n\r\n", b"$1\r\nabc\r\n"]
)
def test_what_is_not_resp_is_refused(garbage: bytes) -> None:
    with pytest.raises(ProtocolError):
        RespReader().feed(garbage)


def test_commands() -> None:
    assert command("SUBSCRIBE", b"c") == b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n"


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_frames_have_the_shortest_length_field(size: int) -> None:
    from websockets.frames import Frame, Opcode

    assert frames.text_frame(b"x" * size) == Frame(Opcode.TEXT, b"x" * size).serialize(mask=False)


def test_switches_are_refused_with_a_reason() -> None:
    assert parse_switches('{"drop_every":3}', SwitchValues(delay_ms=1)) == SwitchValues(drop_every=3, delay_ms=1)
    for text in ('{"drop":3}', '{"drop_every":-1}', "[]", "x", '{"drop_every":"3"}'):
        with pytest.raises(ValueError, match=r"."):
            parse_switches(text, SwitchValues())


def test_settings_come_from_the_environment_and_options_win(capsys: pytest.CaptureFixture[str]) -> None:
    found = load(GatewaySettings, ["--gateway-port", "9"], {"GATEWAY_PORT": "8", "PG_USER": "u", "REDIS_PORT": ""})
    assert (found.port, found.postgres.user, found.redis_port) == (9, "u", 6379)
    with pytest.raises(SystemExit):
        load(GatewaySettings, [], {"GATEWAY_QUEUE": "0"})
    assert "GATEWAY_QUEUE='0': 0 is not positive" in capsys.readouterr().err


@pytest.mark.parametrize("module", sorted((ROOT / "reference_target").glob("*.py")), ids=lambda path: path.name)
def test_the_target_imports_nothing_of_the_load_tool(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.split(".")[0] == "loadtests" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] != "loadtests"
