"""Does the tally keep its laws?  However reads, processes, flushes and budgets cut it, the sums are the same.

`world` is what consumers received, read by read; every law hands the same world over in another way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.model.ids import NS_PER_MS, SLICE_NS, pack_stream
from loadtests.model.records import (
    Closing,
    Consumed,
    Deviations,
    FirstAfter,
    Published,
    PublishTimes,
    Record,
    Settled,
    Touched,
)
from loadtests.tally.account import Account
from loadtests.tally.accountant import Accountant
from loadtests.tally.batch import Batch, Message, message
from loadtests.tally.histogram import Histogram
from loadtests.tally.publishing import PublishTally
from tests.examples import examples

BEGIN = 50 * SLICE_NS
STREAMS = [pack_stream(slot, 0, route) for slot, route in ((0, 0), (1, 1), (2, 1))]
CONSUMERS = 4


@dataclass(frozen=True)
class Read:
    """What one consumer got at one moment: (stream, seq, latency in ms)."""

    consumer: int
    now_ns: int
    came: tuple[tuple[int, int, int], ...]


@st.composite
def worlds(draw: st.DrawFn) -> list[Read]:
    """Reads in order of time: gaps, repeats, reorderings and negative latencies are all possible."""
    now, found = BEGIN, []
    for _ in range(draw(st.integers(1, 25))):
        now += draw(st.integers(0, 2 * SLICE_NS // NS_PER_MS)) * NS_PER_MS
        came = draw(
            st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(-2, 400)), min_size=1, max_size=6)
        )
        found.append(Read(draw(st.integers(0, CONSUMERS - 1)), now, tuple(came)))
    return found


def accountant(*, budget: int = 1000, ranges_kept: int = 10_000) -> Accountant:
    return Accountant(
        family_of_route=[0, 1],
        copies_of_family=[1, 1],
        consumer_groups=2,
        exceptions_per_s=budget,
        now_ns=BEGIN,
        ranges_kept=ranges_kept,
    )


def open_account(tally: Accountant, consumer: int) -> Account:
    return tally.account(consumer=consumer, epoch=0, group=consumer % 2, routes=frozenset({0, 1}))


def made(tally: Accountant, stream: int, seq: int, due_ns: int) -> Message:
    index = tally.streams.index_of(STREAMS[stream])
    return message(
        index=index, seq=seq, due_ns=due_ns, sent_ns=due_ns, family=tally.streams.family[index], size=10 + stream
    )


def batch_of(tally: Accountant, now_ns: int, came: Iterable[tuple[int, int, int]]) -> Batch:
    return Batch([made(tally, s, q, now_ns - ms * NS_PER_MS) for s, q, ms in came])


def hand_over(
    tally: Accountant,
    world: Sequence[Read],
    *,
    consumers: Iterable[int] = range(CONSUMERS),
    flush_after: frozenset[int] = frozenset(),
    single: bool = False,
    open_touch: bool = False,
) -> list[Record]:
    """All records of the consumers' part of a world."""
    accounts = {c: open_account(tally, c) for c in consumers}
    found: list[Record] = []
    if open_touch:
        tally.open_touch(BEGIN)
    for number, read in enumerate(world):
        if read.consumer in accounts:
            for part in [(m,) for m in read.came] if single else [read.came]:
                tally.take(accounts[read.consumer], batch_of(tally, read.now_ns, part), read.now_ns)
        if number in flush_after:
            found += tally.flush(read.now_ns)
    for account in accounts.values():
        tally.close_account(account)
    found += tally.flush(world[-1].now_ns, final=True)
    assert tally.miscounted == []
    return found


def cells(found: Iterable[Record]) -> dict[Any, Counter[Any]]:
    """Consumed rows added up by what they are keyed by; reads are no delivery."""
    sums: dict[Any, Counter[Any]] = defaultdict(Counter)
    for c in found:
        if isinstance(c, Consumed):
            total = sums[c.group, c.due_slice, c.received_slice, c.clock]
            total.update(unique=c.unique, repeated=c.repeated, bytes=c.bytes, negative=c.negative)
            for bucket, count in zip(*c.latency, strict=True):
                total["bucket", bucket] += count
    return sums


def vectors(found: Iterable[Record]) -> dict[tuple[int, int], dict[int, tuple[int, int, int]]]:
    """Closing per consumer and epoch, whoever shared a record with whom."""
    kept: dict[tuple[int, int], dict[int, tuple[int, int, int]]] = {}
    for c in found:
        if isinstance(c, Closing):
            for place in zip(c.consumer, c.epoch, strict=True):
                kept.setdefault(place, {}).update(
                    {s: v for s, *v in zip(c.stream, c.first, c.last, c.unique, strict=True)}  # type: ignore[misc]
                )
    return {place: {s: tuple(v) for s, v in vector.items()} for place, vector in kept.items()}  # type: ignore[misc]


def deviations(found: Iterable[Record]) -> Counter[tuple[str, int, int, int]]:
    """Kind, consumer, stream and seq of every number in a row."""
    return Counter(
        (kind, consumer, stream, seq)
        for d in found
        if isinstance(d, Deviations)
        for kind, consumer, stream, first, last in zip(d.kind, d.consumer, d.stream, d.first, d.last, strict=True)
        for seq in range(first, last + 1)
    )


def more(found: Iterable[Record]) -> int:
    return sum(d.more for d in found if isinstance(d, Deviations))


def same(one: list[Record], other: list[Record]) -> None:
    assert cells(one) == cells(other)
    assert vectors(one) == vectors(other)
    assert deviations(one) == deviations(other)


@settings(max_examples=examples(25), deadline=None)
@given(worlds(), st.sets(st.integers(0, 24)))
def test_when_it_is_flushed_changes_no_sum(world: list[Read], flushes: set[int]) -> None:
    flushed = hand_over(accountant(), world, flush_after=frozenset(flushes))
    same(hand_over(accountant(), world), flushed)


@settings(max_examples=examples(25), deadline=None)
@given(worlds())
def test_reads_of_many_equal_reads_of_one(world: list[Read]) -> None:
    same(hand_over(accountant(), world), hand_over(accountant(), world, single=True))


@settings(max_examples=examples(25), deadline=None)
@given(worlds(), st.lists(st.integers(0, 2), min_size=CONSUMERS, max_size=CONSUMERS))
def test_consumers_spread_over_processes_equal_one_process(world: list[Read], process_of: list[int]) -> None:
    apart: list[Record] = []
    for process in range(3):
        mine = [c for c in range(CONSUMERS) if process_of[c] == process]
        apart += hand_over(accountant(), world, consumers=mine)
    same(hand_over(accountant(), world), apart)


@settings(max_examples=examples(25), deadline=None)
@given(worlds())
def test_shared_batches_and_shared_closings_equal_those_of_one_consumer_each(world: list[Read]) -> None:
    """Every consumer gets what the world has, from one batch for all; as the fan-out of a target does."""
    tally = accountant()
    accounts = [open_account(tally, c) for c in range(CONSUMERS)]
    for read in world:
        batch = batch_of(tally, read.now_ns, read.came)
        for account in accounts:
            tally.take(account, batch, read.now_ns)
    for account in accounts:
        tally.close_account(account)
    together = list(tally.flush(world[-1].now_ns, final=True))
    apart: list[Record] = []
    for consumer in range(CONSUMERS):
        mine = [Read(consumer, r.now_ns, r.came) for r in world]
        apart += hand_over(accountant(), mine, consumers=[consumer])
    same(together, apart)
    assert len([r for r in together if isinstance(r, Closing)]) == 1


@settings(max_examples=examples(25), deadline=None)
@given(worlds(), st.integers(1, 3))
def test_a_budget_of_exceptions_changes_no_total(world: list[Read], budget: int) -> None:
    wide = hand_over(accountant(), world, flush_after=frozenset(range(25)))
    tight = hand_over(accountant(budget=budget), world, flush_after=frozenset(range(25)))
    assert cells(wide) == cells(tight)
    assert vectors(wide) == vectors(tight)
    assert deviations(tight) <= deviations(wide)
    assert (deviations(tight) == deviations(wide)) == (more(tight) == 0)


@settings(max_examples=examples(25), deadline=None)
@given(worlds(), st.integers(0, 3))
def test_memory_that_is_exceeded_changes_no_total_and_says_so(world: list[Read], ranges_kept: int) -> None:
    wide, tight = hand_over(accountant(), world), hand_over(accountant(ranges_kept=ranges_kept), world)
    came = {key: c["unique"] + c["repeated"] for key, c in cells(wide).items()}
    assert {key: c["unique"] + c["repeated"] for key, c in cells(tight).items()} == came
    bound = {
        place for c in tight if isinstance(c, Closing) and c.at_least for place in zip(c.consumer, c.epoch, strict=True)
    }
    exact = vectors(wide)
    for place, vector in vectors(tight).items():
        for stream, (first, last, unique) in vector.items():
            assert (first, last) == exact[place][stream][:2]
            assert unique <= exact[place][stream][2]
            assert unique == exact[place][stream][2] or place in bound
    assert sum(c["unique"] for c in cells(tight).values()) == sum(
        unique for vector in vectors(tight).values() for *_, unique in vector.values()
    ), "the sum closes with any memory"


@settings(max_examples=examples(25), deadline=None)
@given(worlds())
def test_slices_per_consumer_hold_what_the_cells_hold(world: list[Read]) -> None:
    found = hand_over(accountant(), world, open_touch=True)
    told: Counter[int] = Counter()
    worst: dict[int, int] = {}
    for t in found:
        if isinstance(t, Touched):
            assert t.complete
            told[t.received_slice] += sum(t.count)
            worst[t.received_slice] = max([worst.get(t.received_slice, 0), *t.worst_latency_ns])
    came: Counter[int] = Counter()
    for (_, _, received, _), c in cells(found).items():
        came[received] += c["unique"] + c["repeated"]
    assert +told == came
    for read in world:
        at = read.now_ns // SLICE_NS
        assert worst[at] >= max(ms for *_, ms in read.came) * NS_PER_MS


@settings(max_examples=examples(25), deadline=None)
@given(worlds(), st.integers(0, 20), st.integers(0, 19), st.sets(st.integers(0, 24)))
def test_firsts_since_a_healing_are_exact_whenever_it_is_told(
    world: list[Read], healed_slice: int, told_after_slices: int, flushes: set[int]
) -> None:
    """The order comes late, after the slices were written; the ring still has them for two seconds."""
    healed = BEGIN + healed_slice * SLICE_NS + 12_345
    told = healed + told_after_slices * SLICE_NS
    tally = accountant()
    accounts = {c: open_account(tally, c) for c in range(CONSUMERS)}
    found: list[Record] = []
    tally.open_touch(BEGIN)
    heard = False
    for number, read in enumerate(world):
        if not heard and read.now_ns >= told:
            heard = True
            found += tally.flush(told)
            tally.healed(healed, told + 1000 * SLICE_NS)
        tally.take(accounts[read.consumer], batch_of(tally, read.now_ns, read.came), read.now_ns)
        if number in flushes:
            found += tally.flush(read.now_ns)
    if not heard:
        tally.healed(healed, told + 1000 * SLICE_NS)
    found += tally.flush(max(world[-1].now_ns, told), final=True)
    said = {
        (kind, consumer): at
        for f in found
        if isinstance(f, FirstAfter)
        for kind, consumer, at in zip(f.kind, f.consumer, f.at_ns, strict=True)
    }
    assert len(said) == sum(len(f.kind) for f in found if isinstance(f, FirstAfter)), "each is said once"
    since = [r for r in world if r.now_ns >= healed]
    right: dict[tuple[str, int], int] = {}
    for read in since:
        right.setdefault(("byte", read.consumer), read.now_ns)
        if any(read.now_ns - ms * NS_PER_MS >= healed for *_, ms in read.came):
            right.setdefault(("fresh", read.consumer), read.now_ns)
    assert said == right


@settings(max_examples=examples(25), deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2**43), max_size=20), min_size=1, max_size=5), st.randoms(use_true_random=False)
)
def test_histograms_of_shards_merge_to_the_whole(shards: list[list[int]], dice: Any) -> None:
    whole = Histogram()
    parts = []
    for shard in shards:
        part = Histogram()
        for ns in shard:
            whole.add(ns)
            part.add(ns)
        parts.append(part)
    dice.shuffle(parts)
    merged = Histogram().merge_all(parts)
    assert merged.sparse() == whole.sparse()
    again = Histogram()
    for part in parts:
        again.merge(part.sparse())
    assert again.sparse() == whole.sparse()


@st.composite
def sends(draw: st.DrawFn) -> list[tuple[int, int, int, list[int], list[int]]]:
    """Batches in order: group, due slice, sent slice, stream of each message, outcome of each (0 is OK)."""
    due = sent = 0
    found = []
    for _ in range(draw(st.integers(1, 10))):
        due += draw(st.integers(0, 2))
        sent = max(sent, due) + draw(st.integers(0, 1))
        streams = draw(st.lists(st.integers(0, 2), min_size=1, max_size=6))
        ends = draw(st.lists(st.integers(0, 2), min_size=len(streams), max_size=len(streams)))
        found.append((draw(st.integers(0, 1)), due, sent, streams, ends))
    return found


@settings(max_examples=examples(25), deadline=None)
@given(sends(), st.booleans(), st.sets(st.integers(0, 9)))
def test_publishes_one_by_one_or_together_flushed_whenever_are_the_same(
    batches: list[tuple[int, int, int, list[int], list[int]]], single: bool, flushes: set[int]
) -> None:
    def run(*, single: bool, flushes: set[int]) -> tuple[Any, ...]:
        tally, found = PublishTally(), []
        seqs: dict[int, int] = defaultdict(int)
        for number, (group, due, sent, streams, ends) in enumerate(batches):
            mine = []
            for stream in streams:
                mine.append(seqs[stream])
                seqs[stream] += 1
            parts = [slice(i, i + 1) for i in range(len(streams))] if single else [slice(None)]
            for part in parts:
                lags = [7 * s for s in mine[part]]
                for stream, seq in zip(streams[part], mine[part], strict=True):
                    tally.row(stream, due, sent, seq, seq, 9)
                tally.sent(group, due, [10**9 - 1000 * lag for lag in lags], 10**9)
            for stream, seq, end in zip(streams, mine, ends, strict=True):
                if end:
                    tally.settled(stream, seq, "FAILED" if end == 1 else "UNKNOWN", 5)
                else:
                    tally.answered(group, due, 1, 1)
            if number in flushes:
                found += tally.records()
        return _published([*found, *tally.records()])

    assert run(single=single, flushes=flushes) == run(single=False, flushes=set())


def _published(found: Iterable[Record]) -> tuple[Any, ...]:
    rows: Counter[tuple[int, int, int, int]] = Counter()
    ends: Counter[tuple[int, int, str]] = Counter()
    times: dict[tuple[int, int], Counter[Any]] = defaultdict(Counter)
    size = 0
    for record in found:
        match record:
            case Published():
                for stream, due, sent, first, last in zip(
                    record.stream, record.due_slice, record.sent_slice, record.first, record.last, strict=True
                ):
                    rows.update((stream, due, sent, seq) for seq in range(first, last + 1))
                size += sum(record.bytes)
            case Settled():
                for stream, first, last, outcome in zip(
                    record.stream, record.first, record.last, record.outcome, strict=True
                ):
                    ends.update((stream, seq, outcome) for seq in range(first, last + 1))
            case PublishTimes():
                total = times[record.publishers, record.due_slice]
                total.update(sent=record.sent, not_offered=record.not_offered)
                total.update({("own", b): n for b, n in zip(*record.own_lag, strict=True)})
                total.update({("blocked", b): n for b, n in zip(*record.blocked, strict=True)})
    return rows, ends, dict(times), size
