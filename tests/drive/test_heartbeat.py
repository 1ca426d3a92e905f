"""Does a consumer leave a Socket.IO server that pings no more, as its clients do, and only then?

The watch alone in virtual time, then a real server that pings once and falls silent.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receiving import RUN, Process, of, profile, records

from loadtests.drive.consume.receiver import Heartbeat
from loadtests.drive.consume.socketio import patience_ns
from loadtests.model.ids import NS_PER_MS, NS_PER_S, pack_stream
from loadtests.model.records import Subscription


class Fake:
    """As much of a connection as the watch looks at."""

    def __init__(self, patience_s: float, *, pace: int | None = None) -> None:
        self.sock, self.peer = socket.socketpair()
        self.patience_ns = round(patience_s * NS_PER_S)
        self.heard_ns = 0
        self.read_bytes_per_s = pace
        self.end = None
        self.held = False

    def close(self) -> None:
        self.sock.close()
        self.peer.close()


class Clock:
    now = 0

    def now_ns(self) -> int:
        return self.now

    def at_monotonic_ns(self, monotonic_ns: int) -> int:
        return monotonic_ns


@pytest.fixture
def fakes() -> Iterator[list[Fake]]:
    made: list[Fake] = []
    yield made
    for fake in made:
        fake.close()


def looks(fakes: list[Any], *moments_s: float, late_s: float = 0.0) -> list[bool]:
    """Whether the first was found silent at each moment; only the first look was late."""
    watch = Heartbeat(fakes, Clock(), held=lambda c: c.held, lost=lambda c, at: None)  # type: ignore[attr-defined]
    try:
        found = []
        for number, moment in enumerate(moments_s):
            silent = watch.silent(round(moment * NS_PER_S), round(late_s * NS_PER_S) if number == 0 else 0)
            found.append(bool(silent) and silent[0] is fakes[0])
        return found
    finally:
        watch.close()


def test_the_silent_are_found_when_their_time_is_up_and_not_before(fakes: list[Fake]) -> None:
    fakes += [Fake(45), Fake(0)]
    assert looks(fakes, 44.9, 45.1) == [False, True], "and a plain WebSocket never"


def test_a_ping_begins_the_time_anew(fakes: list[Fake]) -> None:
    fakes.append(Fake(45))
    fakes[0].heard_ns = 25 * NS_PER_S
    assert looks(fakes, 69.9, 70.1) == [False, True]


def test_our_own_stall_counts_for_nobody(fakes: list[Fake]) -> None:
    """What the hub slept through it could not answer either."""
    fakes.append(Fake(45))
    assert looks(fakes, 60, 74, 75.2, late_s=30) == [False, False, True]


def test_what_lies_in_the_kernel_is_read_first(fakes: list[Fake]) -> None:
    fakes.append(Fake(45))
    fakes[0].peer.send(b"2")
    assert looks(fakes, 46, 60) == [False, False]
    fakes[0].sock.recv(1)
    assert looks(fakes, 61) == [True], "it was no ping"


def test_whoever_we_hold_or_read_slowly_is_not_blamed_for_it(fakes: list[Fake]) -> None:
    fakes.append(Fake(45))
    fakes[0].held = True
    assert looks(fakes, 100) == [False]
    fakes[0].held = False
    assert looks(fakes, 144, 146) == [False, True], "from its release on the time runs anew"
    slow = [Fake(45, pace=1000)]
    fakes += slow
    slow[0].peer.send(b"x" * 100)
    assert looks(slow, 100) == [False]
    slow[0].sock.recv(100)
    assert looks(slow, 144, 146) == [False, True]


@pytest.mark.parametrize(
    ("session", "seconds"),
    [
        ({"pingInterval": 25000, "pingTimeout": 20000}, 45.0),
        ({"pingInterval": "25000", "pingTimeout": 20000.5}, 45.0005),
        ({"pingInterval": 1, "pingTimeout": 0}, 1.0),
        ({"pingInterval": 10**30, "pingTimeout": 1}, 86400.0),
        ({"pingInterval": 0, "pingTimeout": 0}, None),
        ({"pingInterval": -5, "pingTimeout": 20000}, None),
        ({"pingInterval": 25000}, None),
        ({}, None),
        ({"pingInterval": True, "pingTimeout": 1}, None),
        ({"pingInterval": "soon", "pingTimeout": 1}, None),
        ({"pingInterval": "nan", "pingTimeout": "inf"}, None),
        ({"pingInterval": [1], "pingTimeout": {}}, None),
        ({"pingInterval": 10**400, "pingTimeout": 1}, None),
    ],
)
def test_the_open_packet_says_how_long_to_wait(session: dict[str, Any], seconds: float | None) -> None:
    assert patience_ns(session) == (None if seconds is None else round(seconds * NS_PER_S))


@given(
    st.dictionaries(
        st.sampled_from(["pingInterval", "pingTimeout"]), st.none() | st.integers() | st.floats() | st.text()
    )
)
def test_whatever_it_says_the_time_is_bounded(session: dict[str, Any]) -> None:
    told = patience_ns(session)
    assert told is None or NS_PER_S <= told <= 86400 * NS_PER_S


def test_consumers_leave_a_server_that_fell_silent_and_return(tmp_path: Path) -> None:
    origin = time.monotonic_ns()
    common = {"run": RUN, "origin_ns": origin}
    tell = {"clients": 4, "streams": [pack_stream(0, 0, 0)], "count": 10, "rate": 1000, "ping_ms": 600}
    server = Process("broadcaster", common | tell)
    port = int(server.line().split()[1])
    shape = profile([{"name": "plain", "count": 2}, {"name": "sio", "count": 2, "transport": "socketio"}])
    tool = Process("consume_tool", common | {"profile": shape, "port": port, "out": str(tmp_path / "r")})
    try:
        tool.ask("connected 4")
        tool.ask("epoch 2 2")
        tool.ask("epoch 3 2")
        tool.ask("connected 4")
        report = tool.finish()
    finally:
        tool.stop()
        server.stop()
    found = of(Subscription, records(tmp_path / "r"))
    confirmed = {(s.consumer, s.epoch): s.at_ns for s in found if s.step == "confirmed"}
    left = [s for s in found if s.step == "left" and s.why not in ("own", "end")]
    assert {(s.consumer, s.epoch, s.why, s.detail) for s in left if s.epoch == 0} == {
        (consumer, 0, "no heartbeat", "no ping within 1.2 s") for consumer in (2, 3)
    }
    assert all(1.0 * NS_PER_S < s.at_ns - confirmed[s.consumer, s.epoch] < 10 * NS_PER_S for s in left)
    assert report["epochs"][:2] == [1, 1], "a plain WebSocket owes no heartbeat"
    assert report["troubles"] == []


def test_two_thousand_are_looked_after_in_no_time(fakes: list[Fake]) -> None:
    one = Fake(45)
    fakes.append(one)
    watch = Heartbeat([one] * 2000, Clock(), held=lambda c: False, lost=lambda c, at: None)  # type: ignore[list-item]
    try:
        began = time.process_time()
        for second in range(10):
            watch.silent(second * NS_PER_S, 0)
        assert (time.process_time() - began) / 10 * NS_PER_S < 20 * NS_PER_MS
    finally:
        watch.close()
