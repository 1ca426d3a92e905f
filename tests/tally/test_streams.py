"""Can a target that makes up streams fill the memory, or spoil what is counted of the true ones?"""

from __future__ import annotations

from types import SimpleNamespace

from loadtests.drive.consume.chunks import STREAMS, Chunks, Control
from loadtests.drive.consume.frames import Cutter, wire
from loadtests.drive.consume.read_accounting import account_read
from loadtests.drive.consume.websocket import PlainDialect
from loadtests.model.ids import SLICE_NS, pack_stream
from loadtests.model.records import Closing, Strange
from loadtests.tally.accountant import Accountant
from loadtests.tally.identity import encode
from loadtests.tally.streams import FOREIGN, STREAMS_KEPT, TOO_MANY, Streams

BEGIN = 50 * SLICE_NS


def test_a_stream_too_many_is_not_kept_and_the_known_ones_stay() -> None:
    streams = Streams([0], kept=3)
    assert [streams.index_of(pack_stream(slot, 0, 0)) for slot in range(6)] == [0, 1, 2, TOO_MANY, TOO_MANY, TOO_MANY]
    assert streams.index_of(pack_stream(0, 0, 1)) == FOREIGN, "that route nobody has"
    assert [streams.index_of(pack_stream(slot, 0, 0)) for slot in (2, 0)] == [2, 0]
    assert len(streams) == len(streams.route) == len(streams.family) == 3


def test_made_up_streams_are_bounded_without_being_asked() -> None:
    streams = Streams([0])
    found = [streams.index_of(pack_stream(n >> 12, n & 4095, 0)) for n in range(STREAMS_KEPT + 10)]
    assert found.count(TOO_MANY) == 10
    assert len(streams) == STREAMS_KEPT


def test_streams_beyond_those_kept_are_told_and_true_ones_counted_exactly() -> None:
    tally = Accountant(
        family_of_route=[0],
        copies_of_family=[1],
        consumer_groups=1,
        exceptions_per_s=9,
        now_ns=BEGIN,
        streams_kept=20,
    )
    chunks = Chunks(PlainDialect("tickstorm", "object"), tally.streams, "run")
    account = tally.account(consumer=4, epoch=0, group=0, routes=frozenset({0}))
    line = SimpleNamespace(account=account, chunks=chunks, cached=chunks.cached, cutter=Cutter(), clean=True)

    told = []

    def come(slot: int, seq: int) -> None:
        identity = encode("object", "run", pack_stream(slot, 0, 0), seq, BEGIN, BEGIN)
        told.extend(account_read(tally, line, wire(b'{"data":{"tickstorm":%b}}' % identity), BEGIN))

    for seq in range(100):
        come(0, seq)
        come(1 + seq, seq)
    tally.close_account(account)
    found = list(tally.flush(BEGIN, final=True))
    assert not [r for r in found if isinstance(r, Strange)]
    assert told == [Control("cannot", STREAMS)] * 81
    closing = next(r for r in found if isinstance(r, Closing))
    assert closing.unique == [100] + [1] * 19
    assert len(account.last) == 20
