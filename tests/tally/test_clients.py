"""Does the tally know how long each single consumer waited, and where one stretch ends and the next begins?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.model.ids import NS_PER_MS, SLICE_NS, pack_stream
from loadtests.model.records import ClientLatency, Consumed, Record
from loadtests.tally.accountant import Accountant
from loadtests.tally.batch import Batch, message
from loadtests.tally.clients import ClientLatencies
from loadtests.tally.histogram import COARSE_BITS, COARSE_BUCKETS, bucket_of, coarse_middle_ms
from tests.tally.test_tally_laws import BEGIN, Read, hand_over, worlds


def counted(found: Iterable[Record]) -> Counter[tuple[int, int]]:
    """(consumer, coarse bucket) -> count, over all stretches."""
    sums: Counter[tuple[int, int]] = Counter()
    for record in found:
        if isinstance(record, ClientLatency):
            assert sum(record.entries) == len(record.bucket) == len(record.count)
            who = [c for c, n in zip(record.consumer, record.entries, strict=True) for _ in range(n)]
            for consumer, bucket, count in zip(who, record.bucket, record.count, strict=True):
                sums[consumer, bucket] += count
    return sums


@settings(max_examples=60, deadline=None)
@given(worlds(), st.sets(st.integers(0, 24)))
def test_each_consumer_has_the_latencies_of_all_its_reads(world: list[Read], flushes: set[int]) -> None:
    expected: Counter[tuple[int, int]] = Counter()
    for read in world:
        for _, _, ms in read.came:
            if ms >= 0:
                expected[read.consumer, bucket_of(ms * NS_PER_MS) >> COARSE_BITS] += 1
    found = hand_over_all(world, flushes)
    assert counted(found) == expected
    assert all(r.from_slice <= r.to_slice for r in found if isinstance(r, ClientLatency))


def hand_over_all(world: list[Read], flushes: set[int]) -> list[Record]:
    return hand_over(_accountant(), world, flush_after=frozenset(flushes))


def _accountant() -> Accountant:
    return Accountant(
        family_of_route=[0, 1], copies_of_family=[1, 1], consumer_groups=2, exceptions_per_s=1000, now_ns=BEGIN
    )


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_consumers_together_are_what_their_groups_got(world: list[Read]) -> None:
    found = hand_over(_accountant(), world)
    groups: Counter[int] = Counter()
    for record in found:
        if isinstance(record, Consumed) and record.clock == "read":
            for bucket, count in zip(*record.latency, strict=True):
                groups[bucket >> COARSE_BITS] += count
    own: Counter[int] = Counter()
    for (_, bucket), count in counted(found).items():
        own[bucket] += count
    assert own == groups


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_coarse_bucket_errs_by_three_per_cent_or_four_microseconds(us: int) -> None:
    bucket = bucket_of(us * 1000) >> COARSE_BITS
    assert bucket < COARSE_BUCKETS
    assert abs(coarse_middle_ms(bucket) * 1000 - us) <= max(4, us / 31 + 1)


def stretches(found: Iterable[Record]) -> list[tuple[int, int]]:
    return sorted({(r.from_slice, r.to_slice) for r in found if isinstance(r, ClientLatency)})


def take_each_slice(tally: Accountant, slices: range, consumers: int = 1) -> None:
    accounts = [tally.account(consumer=c, epoch=0, group=0, routes=frozenset({0, 1})) for c in range(consumers)]
    index = tally.streams.index_of(pack_stream(0, 0, 0))
    for number, at in enumerate(slices):
        now = at * SLICE_NS
        came = message(index=index, seq=number, due_ns=now - NS_PER_MS, sent_ns=now, family=0, size=1)
        for account in accounts:
            tally.take(account, Batch([came]), now)


def test_a_stretch_ends_where_a_fault_is_announced_its_recovery_closed_and_the_warm_up_over() -> None:
    tally = _accountant()
    first = BEGIN // SLICE_NS
    tally.warm(BEGIN + 3 * SLICE_NS + 1)
    take_each_slice(tally, range(first, first + 8))
    tally.open_touch((first + 8) * SLICE_NS)
    take_each_slice(tally, range(first + 8, first + 20))
    tally.close_touch((first + 20) * SLICE_NS)
    take_each_slice(tally, range(first + 20, first + 22))
    found = list(tally.flush((first + 21) * SLICE_NS, final=True))
    ends = [(0, 3), (4, 7), (8, 17), (18, 19), (20, 21)]
    assert stretches(found) == [(first + a, first + b) for a, b in ends]


def test_many_consumers_are_written_less_often() -> None:
    tally = _accountant()
    first = BEGIN // SLICE_NS
    take_each_slice(tally, range(first, first + 60), consumers=300)
    found = list(tally.flush((first + 60) * SLICE_NS, final=True))
    assert stretches(found) == [(first, first + 29), (first + 30, first + 59)]
    a_row = sum(len(msgspec.msgpack.encode(r)) for r in found if isinstance(r, ClientLatency)) / 600
    assert a_row < 20


def test_a_count_never_outgrows_its_place() -> None:
    """A place holds 65,535: whoever gets more of one latency in one stretch is written before."""
    table = ClientLatencies(0)
    row = table.row(7)
    found: list[ClientLatency] = []
    piece = np.full(8000, 500, dtype=np.int64)
    for _ in range(30):
        if table.full:
            found += table.records()
        table.add(np.full(8000, row, dtype=np.int64), piece)
    found += table.records()
    assert len(found) > 1
    assert counted(found) == {(7, 500 >> COARSE_BITS): 240_000}


@pytest.mark.parametrize("consumers", [1000, 1025, 5000])
def test_a_consumer_takes_no_more_than_a_kilobyte(consumers: int) -> None:
    table = ClientLatencies(0)
    for consumer in range(consumers):
        table.row(consumer)
    assert table._counts.nbytes / consumers <= 1024
