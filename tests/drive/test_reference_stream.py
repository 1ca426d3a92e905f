"""Is an account that was kept by comparing bytes the one that is kept message by message?"""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.drive.consume.chunks import Chunks
from loadtests.drive.consume.frames import Cutter, wire
from loadtests.drive.consume.read_accounting import account_read
from loadtests.drive.consume.socketio import SocketIoDialect
from loadtests.drive.consume.websocket import PlainDialect
from loadtests.model.ids import NS_PER_MS, SLICE_NS, pack_stream
from loadtests.model.records import Consumed, Deviations, Record, Strange, Touched
from loadtests.tally import shared_prefix
from loadtests.tally.account import Account
from loadtests.tally.accountant import Accountant
from loadtests.tally.identity import encode

BEGIN = 50 * SLICE_NS
STREAMS = [pack_stream(slot, 0, route) for slot in range(5) for route in range(2)]
MIXTURE = random.Random(3).choices(range(len(STREAMS)), weights=[9, 9, 4, 2, 1, 1, 1, 1, 1, 1], k=40)
"""Some streams come often, some once or twice: a consumer that joins late knows of them or does not."""
CONSUMERS = 3

kinds = st.sampled_from(["lost", "twice", "swapped", "ping", "no identity", "undecodable", "left out for all"])
plans = st.lists(st.tuples(st.integers(0, 39), st.integers(0, CONSUMERS - 1), kinds), max_size=8)
"""At which message, for which consumer, what."""


@dataclass
class Line:
    """One consumer's connection without a socket."""

    account: Account
    chunks: Chunks
    cutter: Cutter
    clean: bool = True

    @property
    def cached(self):  # type: ignore[no-untyped-def]
        return self.chunks.cached


def messages() -> list[bytes]:
    """Forty frames of ten streams in a fixed mixture."""
    sent: dict[int, int] = {}
    frames: list[bytes] = []
    for n in range(40):
        stream = STREAMS[MIXTURE[n]]
        seq = sent[stream] = sent.get(stream, -1) + 1
        identity = encode("object", "run", stream, seq, BEGIN + n * NS_PER_MS - 5 * NS_PER_MS, BEGIN + n * NS_PER_MS)
        frames.append(wire(b'{"data":{"tickstorm":%b,"n":%d}}' % (identity, n)))
    return frames


def spoiled(plan: list[tuple[int, int, str]], consumer: int) -> list[bytes]:
    """The frames that a consumer gets; those of a place belong together."""
    frames = messages()
    out = [[frame] for frame in frames]
    for at, who, kind in plan:
        if kind == "left out for all":
            out[at] = []
        elif who == consumer:
            match kind:
                case "lost":
                    out[at] = []
                case "twice":
                    out[at] = out[at] * 2
                case "swapped" if at + 1 < len(out):
                    out[at], out[at + 1] = out[at + 1], out[at]
                case "ping":
                    out[at] = [b"\x89\x01x", *out[at]]
                case "no identity":
                    out[at] = [wire(b'{"data":{}}'), *out[at]]
                case "undecodable":
                    out[at] = [*out[at], wire(b"{nothing")]
    return [frame for place in out for frame in place]


def read(rest: list[bytes], frames: float) -> bytes:
    """Take so many frames, the last one in part."""
    chunk = b"".join(rest[: int(frames)])
    del rest[: int(frames)]
    part = max(1, int(len(rest[0]) * (frames % 1))) if rest and frames % 1 else 0
    if part:
        chunk += rest[0][:part]
        rest[0] = rest[0][part:]
        if not rest[0]:
            del rest[0]
    return chunk


def carried(
    plan: list[tuple[int, int, str]], sizes: list[float], order: list[int], late: int, *, kin: bool, copies: int = 1
) -> list[Record]:
    """What an accountant writes when consumers read in turn, in reads of the given sizes; the last one joins late."""
    tally = Accountant(
        family_of_route=[0, 1],
        copies_of_family=[copies, copies],
        consumer_groups=2,
        exceptions_per_s=1000,
        now_ns=BEGIN,
    )
    chunks = Chunks(PlainDialect("tickstorm", "object"), tally.streams, "run", cached=kin)
    lines: list[Line] = []
    rests: list[list[bytes]] = []
    for consumer in range(CONSUMERS):
        account = tally.account(
            consumer=consumer,
            epoch=0,
            group=consumer % 2,
            routes=frozenset({0, 1}),
            transport="" if kin else str(consumer),
        )
        lines.append(Line(account, chunks, Cutter()))
        frames = spoiled(plan, consumer)
        rests.append(frames[late:] if consumer == CONSUMERS - 1 else frames)
    now, turn = BEGIN, 0
    while any(rests):
        consumer = order[turn % len(order)] if any(rests[c] for c in order) else next(c for c in range(3) if rests[c])
        size = sizes[turn % len(sizes)]
        turn += 1
        chunk = read(rests[consumer], size)
        now += NS_PER_MS
        if chunk:
            account_read(tally, lines[consumer], chunk, now, sampled=turn % 5 == 0)
    for line in lines:
        tally.close_account(line.account)
    found = list(tally.flush(now, final=True))
    assert tally.miscounted == []
    return found


def comparable(found: list[Record]) -> list[object]:
    """Records in an order of their own; reads are those of whole chunks in both."""
    rows: list[object] = []
    for record in found:
        if isinstance(record, Consumed):
            rows.append((record.group, record.due_slice, record.received_slice, record.unique, record.repeated,
                         record.bytes, record.latency, record.negative))  # fmt: skip
        elif isinstance(record, Deviations):
            rows += list(zip(record.kind, record.consumer, record.stream, record.first, record.last, record.at_ns,
                             strict=True))  # fmt: skip
        elif isinstance(record, Strange):
            rows += list(zip(record.kind, record.consumer, record.count, strict=True))
        elif isinstance(record, Touched):
            rows.append((record.received_slice, record.consumer, record.count, record.greatest_due_ns))
        else:
            rows.append(record)
    return sorted(rows, key=str)


@settings(max_examples=75, deadline=None)
@given(
    plan=plans,
    sizes=st.lists(st.sampled_from([1, 1, 1, 2, 3, 7, 0.1, 0.5, 1.3, 5.6]), min_size=1, max_size=6),
    order=st.lists(st.integers(0, CONSUMERS - 1), min_size=3, max_size=7),
    late=st.integers(0, 30),
    steps=st.sampled_from([3, 10, 4096]),
)
def test_following_changes_no_account(
    plan: list[tuple[int, int, str]], sizes: list[float], order: list[int], late: int, steps: int
) -> None:
    kept = shared_prefix.STEPS
    shared_prefix.STEPS = steps  # type: ignore[misc]
    try:
        followed = carried(plan, sizes, order, late, kin=True)
        one_by_one = carried(plan, sizes, order, late, kin=False)
    finally:
        shared_prefix.STEPS = kept  # type: ignore[misc]
    assert comparable(followed) == comparable(one_by_one)


def test_calm_kin_are_followed_and_not_parsed() -> None:
    """Or the law above would compare one thing with itself."""
    tally = Accountant(
        family_of_route=[0, 1], copies_of_family=[1, 1], consumer_groups=1, exceptions_per_s=9, now_ns=BEGIN
    )
    chunks = Chunks(PlainDialect("tickstorm", "object"), tally.streams, "run")
    lines = [
        Line(tally.account(consumer=c, epoch=0, group=0, routes=frozenset({0, 1})), chunks, Cutter())
        for c in range(CONSUMERS)
    ]
    for n, frame in enumerate(messages()):
        for line in lines:
            account_read(tally, line, frame, BEGIN + n)
    assert all(line.account.reference is not None for line in lines)
    assert {line.account.at.number for line in lines} == {39}, "all stand at the last message; the first one founded it"
    assert all(line.account.taken == 1 for line in lines[1:]), "what was followed is written when somebody asks"


def test_a_newcomer_that_missed_a_message_cannot_lead_others_over_it() -> None:
    """To it, the stream begins there; to its kin, a number is missing."""
    tally = Accountant(
        family_of_route=[0, 1], copies_of_family=[1, 1], consumer_groups=1, exceptions_per_s=9, now_ns=BEGIN
    )
    chunks = Chunks(PlainDialect("tickstorm", "object"), tally.streams, "run")

    def line(consumer: int) -> Line:
        account = tally.account(consumer=consumer, epoch=0, group=0, routes=frozenset({0, 1}))
        return Line(account, chunks, Cutter())

    def frame(stream: int, seq: int) -> bytes:
        identity = encode("object", "run", STREAMS[stream], seq, BEGIN, BEGIN)
        return wire(b'{"data":{"tickstorm":%b}}' % identity)

    old, newcomer = line(0), line(1)
    for came in (frame(0, 0), frame(1, 0)):
        account_read(tally, old, came, BEGIN)
    account_read(tally, newcomer, frame(1, 0), BEGIN)
    assert newcomer.account.reference is old.account.reference is not None
    account_read(tally, newcomer, frame(0, 2), BEGIN)
    account_read(tally, old, frame(0, 2), BEGIN)
    tally.close_account(old.account)
    tally.close_account(newcomer.account)
    gaps = [
        (consumer, first, last)
        for record in tally.flush(BEGIN, final=True)
        if isinstance(record, Deviations)
        for consumer, first, last in zip(record.consumer, record.first, record.last, strict=True)
    ]
    assert gaps == [(0, 1, 1)]
    assert newcomer.account.vector() == ((0, 2, 2, 1), (1, 0, 0, 1))


@pytest.mark.parametrize("trouble", ["missing for all", "a ping for all", "a frame without identity for all", "noop"])
def test_after_any_trouble_all_follow_again(trouble: str) -> None:
    """Or the first fault of a run would end what makes it cheap; and a packet without a message is none."""
    tally = Accountant(
        family_of_route=[0, 1], copies_of_family=[1, 1], consumer_groups=1, exceptions_per_s=99, now_ns=BEGIN
    )
    chunks = Chunks(PlainDialect("tickstorm", "object"), tally.streams, "run")
    if trouble == "noop":
        chunks = Chunks(SocketIoDialect("tickstorm", "object"), tally.streams, "run")
    routes = frozenset({0, 1})
    lines = [
        Line(tally.account(consumer=c, epoch=0, group=0, routes=routes), chunks, Cutter()) for c in range(CONSUMERS)
    ]
    for seq in range(60):
        identity = encode("object", "run", STREAMS[0], seq, BEGIN, BEGIN)
        payload = (
            b'42["e",{"tickstorm":%b}]' % identity if trouble == "noop" else b'{"data":{"tickstorm":%b}}' % identity
        )
        for line in lines:
            frame = wire(payload)
            if seq == 20:
                match trouble:
                    case "missing for all":
                        continue
                    case "a ping for all":
                        frame = b"\x89\x00"
                    case "a frame without identity for all":
                        frame = wire(b'{"data":{}}')
                    case "noop":
                        frame = wire(b"6") + frame if line is lines[0] else wire(b"6")
            account_read(tally, line, frame, BEGIN + seq)
    assert all(line.account.reference is not None for line in lines)
    for line in lines:
        tally.close_account(line.account)
    list(tally.flush(BEGIN, final=True))
    uniques = [sum(unique for *_, unique in line.account.vector()) for line in lines]
    assert uniques == ([60, 59, 59] if trouble == "noop" else [59] * CONSUMERS)
