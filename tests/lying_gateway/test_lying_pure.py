"""Do the parts without a socket keep their laws: cutting at any place, choosing by the seed alone?"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from lying_gateway.client import Client
from lying_gateway.event import Event
from lying_gateway.frames import BadFrameError, ClientFrames, frame
from lying_gateway.plan import PlanError, Rule, read_plan
from lying_gateway.redis_feed import RedisReplies
from lying_gateway.spurious import Spurious

places = st.lists(st.integers(0, 1 << 20), max_size=8)


def split(data: bytes, at: list[int]) -> list[bytes]:
    cuts = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(cuts)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=70_000), max_size=4), places)
def test_a_clients_frames_are_cut_alike_wherever_they_are_torn(payloads: list[bytes], at: list[int]) -> None:
    sent: list[tuple[int, bytes]] = []
    stream = b""
    for number, payload in enumerate(payloads):
        if number % 2:  # in two fragments with a ping between them
            half = len(payload) // 2
            parts = [
                (Opcode.TEXT, payload[:half], False),
                (Opcode.PING, b"p", True),
                (Opcode.CONT, payload[half:], True),
            ]
            sent.append((Opcode.PING, b"p"))
        else:
            parts = [(Opcode.TEXT, payload, True)]
        sent.append((Opcode.TEXT, payload))
        stream += b"".join(Frame(opcode, data, fin).serialize(mask=True) for opcode, data, fin in parts)
    cutter = ClientFrames()
    assert [found for piece in split(stream, at) for found in cutter.feed(piece)] == sent


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (Frame(Opcode.TEXT, b"x").serialize(mask=False), 1002),
        (Frame(Opcode.CONT, b"x").serialize(mask=True), 1002),
        (bytes((0xC1, 0x80, 0, 0, 0, 0)), 1002),
        (bytes((0x82, 0xFF)) + (1 << 40).to_bytes(8, "big"), 1009),
    ],
)
def test_a_client_that_breaks_the_protocol_is_told_how(data: bytes, code: int) -> None:
    with pytest.raises(BadFrameError) as error:
        ClientFrames().feed(data)
    assert error.value.code == code


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=300), max_size=4), max_size=6), places)
def test_replies_are_cut_alike_wherever_they_are_torn(replies: list[list[bytes]], at: list[int]) -> None:
    stream = b"".join(
        b"*%d\r\n" % len(reply) + b"".join(b"$%d\r\n%b\r\n" % (len(item), item) for item in reply) for reply in replies
    )
    cutter = RedisReplies()
    assert [found for piece in split(stream, at) for found in cutter.feed(piece)] == replies


def message(stream: int, seq: int) -> Event:
    who = {"r": "run", "s": stream, "q": seq, "d": 0, "t": 0}
    return Event(0, "c", json.dumps({"event_type": "t", "tickstorm": who}).encode(), 0)


def rule(text: str, seed: int = 0) -> Rule:
    return read_plan(json.dumps({"seed": seed, "lies": [json.loads(text)]})).rules[0]


def test_every_nth_is_every_nth_of_each_stream_and_consumers_differ() -> None:
    every = rule('{"kind": "lost", "every": 10}')
    phases = {consumer: every.phase(consumer) for consumer in range(200)}
    assert len(set(phases.values())) == 10
    for stream in (0, 1 << 32, 1 << 32 | 7):
        chosen = [seq for seq in range(100) if every.residue(message(stream, seq)) == phases[3]]
        assert len(chosen) == 10
        assert {b - a for a, b in itertools.pairwise(chosen)} == {10}


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_a_share_is_kept_over_consumers_and_over_messages(share: float) -> None:
    some = rule(f'{{"kind": "lost", "share": {share}}}', seed=3)
    marks = [(consumer, some.mark(consumer)) for consumer in range(500)]
    hits = [(consumer, seq) for seq in range(500) for consumer in some.chosen(marks, message(9, seq))]
    assert len(hits) == pytest.approx(250_000 * share, rel=0.1)
    for counts in (Counter(c for c, _ in hits), Counter(q for _, q in hits)):
        assert max(counts.values()) < 500 * share * 2 + 15
    again = {(c, q) for q in range(500) for c in some.chosen(marks[100:200], message(9, q))}
    assert again == {(c, q) for c, q in hits if 100 <= c < 200}, "who else is there does not matter"


def test_what_is_changed_is_changed_so_and_in_nothing_else() -> None:
    who = {"r": "run", "s": 1, "q": 2, "d": 3, "t": 4, "c": "seal"}
    body = {"event_type": "t", "pattern": "Doji", "price": 1.5, "tickstorm": who}
    event, client = Event(0, "c", json.dumps(body).encode(), 0), cast(Client, SimpleNamespace(transport="websocket"))

    def changed(text: str) -> bytes:
        data = Spurious.changed(rule(text), client, event)
        head = 2 if data[1] < 126 else 4 if data[1] == 126 else 10
        assert frame(data[head:]) == data
        return data[head:]

    told = json.loads(changed('{"kind": "altered"}'))
    assert told == {"event": "t", "channel": "c", "data": {"event_type": "t", "tickstorm": who}}
    told = json.loads(changed('{"kind": "restamped", "ms": 500}'))
    assert told["data"] == body | {"tickstorm": who | {"d": 500_000_003, "t": 500_000_004}}
    text = changed('{"kind": "oversize", "bytes": 80000}')
    assert json.loads(text)["data"] == body
    assert len(text) > 80_000


def test_a_plan_may_be_empty_and_must_be_an_object() -> None:
    assert read_plan("{}").rules == ()
    for text in (
        "",
        "[]",
        '{"lies": {}}',
        '{"lies": [{"kind": "lost", "every": 2, "share": 0.5}]}',
        '{"lies": [{"kind": "restamped"}]}',
        '{"lies": [{"kind": "oversize", "bytes": 0}]}',
        '{"rules": []}',
        '{"health": "ill"}',
        '{"ping_interval_ms": 0}',
        '{"ping_timeout_ms": 1.5}',
    ):
        with pytest.raises(PlanError):
            read_plan(text)
