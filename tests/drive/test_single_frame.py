"""Is what the short way accounts what the whole way would, and does it leave to it all that is odd?"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.drive.consume.chunks import Chunks
from loadtests.drive.consume.frames import Cutter, wire
from loadtests.drive.consume.integrity import Integrity, IntegritySampling
from loadtests.drive.consume.read_accounting import account_read
from loadtests.drive.consume.single_frame import GIVEN_UP, SingleFrame, single_frame
from loadtests.drive.consume.socketio import SocketIoDialect
from loadtests.drive.consume.websocket import PlainDialect
from loadtests.model.content import check_value, shape_of
from loadtests.model.ids import NS_PER_MS, SLICE_NS, pack_stream
from loadtests.model.profile.tables import Identity
from loadtests.model.records import Record
from loadtests.model.registry import TRANSPORTS
from loadtests.tally.account import Account
from loadtests.tally.accountant import Accountant
from loadtests.tally.identity import encode, probe_run
from tests.examples import examples

RUN, OTHER = "20260102-030405-test-0001", "20260102-030405-test-0002"
BEGIN = 50 * SLICE_NS
CONTENT = {"symbol": "A", "price": 1}
SHAPE = shape_of(CONTENT)
ODD = (
    "as it is",
    "again",
    "a gap",
    "late",
    "moved",
    "another run",
    "a probe",
    "twice",
    "in two reads",
    "two in a read",
    "behind a ping",
    "binary",
    "masked",
    "another route",
    "no identity",
    "cut off",
    "lines",
)
READS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([*["as it is"] * 20, *ODD]), st.integers(0, 60), st.integers(0, 300)),
    min_size=1,
    max_size=80,
)  # consumer, what comes, ms later, bytes of its own


class Line:
    """One consumer's connection without a socket."""

    def __init__(self, account: Account, chunks: Chunks) -> None:
        self.account, self.chunks, self.cached = account, chunks, chunks.cached
        self.cutter, self.clean = Cutter(), True


class Side:
    """A tally, with the short way or without it."""

    def __init__(self, transport: str, *, short: bool) -> None:
        self.short, self.taken = short, 0
        self.tally = Accountant(
            family_of_route=[0, 0, 0], copies_of_family=[1], consumer_groups=1, exceptions_per_s=10_000, now_ns=BEGIN
        )
        dialect = {"websocket": PlainDialect, "socketio": SocketIoDialect}[transport]("tickstorm", "object")
        row, self.sampling = TRANSPORTS[transport], IntegritySampling(1)
        integrity = Integrity([SHAPE], row.envelope, self.sampling)
        chunks = Chunks(dialect, self.tally.streams, RUN, integrity=integrity)
        self.single: SingleFrame = single_frame(
            row, Identity(), RUN, self.tally, self.sampling, checked=[True], most_bytes=1 << 20, seed="s"
        )
        routes = frozenset({0, 1})
        self.lines = [
            Line(self.tally.account(consumer=n, epoch=0, group=0, routes=routes, transport=transport), chunks)
            for n in range(3)
        ]
        if short:  # trying to follow is given up, for long
            kin = self.lines[0].account.kin
            kin.pause, kin.level = 10**9, GIVEN_UP

    def read(self, consumer: int, chunk: bytes, now_ns: int) -> None:
        line = self.lines[consumer]
        account = line.account
        free = account.reference is None and not account.ahead and line.clean
        if self.short and free and self.single(account, chunk, now_ns):
            self.taken += 1
            return
        account_read(self.tally, line, chunk, now_ns)

    def records(self, now_ns: int) -> list[Record]:
        for line in self.lines:
            self.tally.close_account(line.account)
        found = list(self.tally.flush(now_ns, final=True))
        assert self.tally.miscounted == []
        return found


class Target:
    """Writes frames that differ for each consumer."""

    def __init__(self, transport: str) -> None:
        self.transport = transport
        self.seqs = [dict.fromkeys(range(3), 0) for _ in range(3)]

    def frame(self, consumer: int, seq: int, now_ns: int, own: int, route: int = 0, **changes: Any) -> bytes:
        due = BEGIN + seq * NS_PER_MS
        content = check_value(CONTENT, SHAPE)
        who = json.loads(encode("object", changes.pop("run", RUN), pack_stream(0, 0, route), seq, due, due, content))
        who |= changes.pop("who", {})
        event = {**CONTENT, **changes, "tickstorm": who, "for": f"consumer {consumer}" + "x" * own}
        if self.transport == "socketio":
            return b"42" + json.dumps(["event", event]).encode()
        return json.dumps({"event": "event", "data": event}).encode()

    def reads(self, consumer: int, what: str, now_ns: int, own: int) -> list[bytes]:
        route = {"another route": 2}.get(what, own % 2)
        seqs = self.seqs[consumer]
        if what == "a gap":
            seqs[route] += 1
        seq = seqs[route] - 1 if what == "again" and seqs[route] else seqs[route]
        seqs[route] = max(seqs[route], seq + 1)
        if what == "late":
            seq = max(0, seq - 3)
        changes: dict[str, dict[str, Any]] = {
            "moved": {"who": {"d": BEGIN}}, "another run": {"run": OTHER},
            "a probe": {"run": probe_run(RUN)}, "no identity": {"who": {"s": "none"}},
        }  # fmt: skip
        payload = self.frame(consumer, seq, now_ns, own, route, **changes.get(what, {}))
        whole = wire(payload)
        match what:
            case "twice":
                return [wire(payload.replace(b'"symbol"', b'"ours":{"r":"%b"},"symbol"' % RUN.encode(), 1))]
            case "in two reads":
                return [whole[:30], whole[30:]]
            case "two in a read":
                seqs[route] = seq + 2
                return [whole + wire(self.frame(consumer, seq + 1, now_ns, own, route))]
            case "behind a ping":
                return [b"\x89\x00" + whole]
            case "binary":
                return [b"\x82" + whole[1:]]
            case "masked":
                return [bytes((whole[0], whole[1] | 0x80)) + whole[2:]]
            case "cut off":
                return [wire(payload[:-3])]
            case "lines":
                return [wire(payload + b"\n" + payload)]
        return [whole]


@pytest.mark.parametrize("transport", ["websocket", "socketio"])
@settings(max_examples=examples(400), deadline=None)
@given(READS)
def test_both_ways_write_the_same_records(transport: str, reads: list[tuple[int, str, int, int]]) -> None:
    sides = Side(transport, short=True), Side(transport, short=False)
    target, now = Target(transport), BEGIN
    broken: set[int] = set()
    for consumer, what, later_ms, own in reads:
        now += later_ms * NS_PER_MS
        for chunk in target.reads(consumer, what, now, own):
            if consumer in broken:
                continue
            for side in sides:
                side.read(consumer, chunk, now)
            if sides[1].lines[consumer].cutter.broken is not None:
                broken.add(consumer)
    found = [side.records(now) for side in sides]
    assert found[0] == found[1]
    frames = [side.sampling.take()[0] for side in sides]
    assert frames[0] == frames[1]


@pytest.mark.parametrize("transport", ["websocket", "socketio"])
def test_nearly_all_of_a_calm_stream_goes_the_short_way(transport: str) -> None:
    side, target = Side(transport, short=True), Target(transport)
    for seq in range(400):
        for consumer in range(3):
            for chunk in target.reads(consumer, "as it is", BEGIN, 2 * seq % 40):
                side.read(consumer, chunk, BEGIN + SLICE_NS)
    frames, checked = side.sampling.take()
    assert frames == 1200
    assert 400 <= checked <= 450  # the first of each message, and a few at random
    assert 700 <= side.taken <= 800


def test_a_frame_that_is_its_recipients_own_alone_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def counting(path: str) -> Callable[[Any], Any]:
        leaf = operator.attrgetter(path)
        return lambda found: (decoded.append(1), leaf(found))[1]

    monkeypatch.setattr("loadtests.drive.consume.single_frame.attrgetter", counting)
    side, target = Side("websocket", short=True), Target("websocket")
    for _ in range(2000):
        for consumer in range(3):
            for chunk in target.reads(consumer, "as it is", BEGIN, 0):
                side.read(consumer, chunk, BEGIN + SLICE_NS)
    # The first of each message is tried here and goes the whole way; the second is decoded here, the third is not.
    assert 3500 < len(decoded) < 4200
    assert all(line.account.own.endswith(b"%d" % number) for number, line in enumerate(side.lines) if number)
