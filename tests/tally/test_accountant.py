"""Does the tally say exactly what came, whatever the order, the losses and the repeats?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.model.ids import NS_PER_MS, SLICE_NS, pack_stream
from loadtests.model.records import Closing, Consumed, Deviations, FirstAfter, Record, Strange, Touched
from loadtests.tally.account import Account
from loadtests.tally.accountant import Accountant
from loadtests.tally.batch import Batch, Message, message
from tests.examples import examples

STREAMS = [pack_stream(slot, 0, route) for slot, route in ((0, 0), (1, 0), (1, 1), (2, 1))]
BEGIN = 50 * SLICE_NS

deliveries = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(-2, 400)), max_size=120)
"""Stream, seq, latency in ms: any interleaving with losses, repeats and reorderings."""


def accountant(budget: int = 1000, copies: int = 1, ranges_kept: int = 1000) -> Accountant:
    return Accountant(
        family_of_route=[0, 1],
        copies_of_family=[copies, copies],
        consumer_groups=2,
        exceptions_per_s=budget,
        now_ns=BEGIN,
        ranges_kept=ranges_kept,
    )


def open_account(tally: Accountant, consumer: int = 7) -> Account:
    return tally.account(consumer=consumer, epoch=3, group=1, routes=frozenset({0, 1}))


def made(tally: Accountant, stream: int, seq: int, due_ns: int) -> Message:
    index = tally.streams.index_of(STREAMS[stream])
    family = tally.streams.family[index]
    return message(index=index, seq=seq, due_ns=due_ns, sent_ns=due_ns, family=family, size=10)


def feed(tally: Accountant, account: Account, came: Iterable[tuple[int, int, int]], reads: Iterator[int]) -> int:
    """Hand the deliveries over in reads of the given lengths; the time of the last read."""
    now, came = BEGIN, list(came)
    while came:
        size = next(reads)
        read, came = came[:size], came[size:]
        now += 7 * NS_PER_MS
        tally.take(account, Batch([made(tally, s, q, now - ms * NS_PER_MS) for s, q, ms in read]), now)
    return now


def finish(tally: Accountant, account: Account, now: int) -> list[Record]:
    tally.close_account(account)
    found = list(tally.flush(now, final=True))
    assert tally.miscounted == []
    return found


def rows(found: Iterable[Record], kind: str) -> list[tuple[int, int, int]]:
    return [
        (stream, first, last)
        for record in found
        if isinstance(record, Deviations)
        for k, stream, first, last in zip(record.kind, record.stream, record.first, record.last, strict=True)
        if k == kind
    ]


def numbers(found: Iterable[Record], kind: str) -> Counter[tuple[int, int]]:
    return Counter((stream, seq) for stream, first, last in rows(found, kind) for seq in range(first, last + 1))


@settings(max_examples=examples(40), deadline=None)
@given(came=deliveries, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_any_interleaving_has_an_exact_account(came: list[tuple[int, int, int]], sizes: list[int]) -> None:
    def reads() -> Iterator[int]:
        while True:
            yield from sizes

    tally = accountant()
    account = open_account(tally)
    found = finish(tally, account, feed(tally, account, came, reads()))

    seen: dict[int, Counter[int]] = defaultdict(Counter)
    for stream, seq, _ in came:
        seen[STREAMS[stream]][seq] += 1
    closing = [r for r in found if isinstance(r, Closing)]
    kept = {
        s: (first, last, u)
        for c in closing
        for s, first, last, u in zip(c.stream, c.first, c.last, c.unique, strict=True)
    }
    assert kept == {s: (min(c), max(c), len(c)) for s, c in seen.items()}
    unfilled = numbers(found, "gap") - numbers(found, "filled")
    assert numbers(found, "gap") >= numbers(found, "filled")
    missing = {(s, q) for s, c in seen.items() for q in range(min(c), max(c)) if q not in c}
    assert set(unfilled) == missing
    assert set(unfilled.values()) <= {1}
    assert numbers(found, "repeated") == Counter(
        {(s, q): n - 1 for s, c in seen.items() for q, n in c.items() if n > 1}
    )

    cells = [r for r in found if isinstance(r, Consumed)]
    assert sum(c.unique for c in cells) == sum(len(c) for c in seen.values())
    assert sum(c.unique + c.repeated for c in cells) == len(came)
    assert sum(c.negative for c in cells) == sum(ms < 0 for *_, ms in came)
    assert sum(sum(c.latency[1]) for c in cells) == sum(ms >= 0 for *_, ms in came)
    assert sum(c.bytes for c in cells) == 10 * len(came)
    assert tally.sums().missing == 0, "closed accounts owe nothing any more"


@settings(max_examples=examples(40), deadline=None)
@given(came=deliveries)
def test_one_read_equals_many(came: list[tuple[int, int, int]]) -> None:
    whole, single = accountant(), accountant()
    one, many = open_account(whole), open_account(single)
    whole.take(one, Batch([made(whole, s, q, BEGIN) for s, q, _ in came]), BEGIN)
    for s, q, _ in came:
        single.take(many, Batch([made(single, s, q, BEGIN)]), BEGIN)
    assert one.vector() == many.vector()
    for a, b in zip(finish(whole, one, BEGIN), finish(single, many, BEGIN), strict=True):
        if isinstance(a, Consumed) and isinstance(b, Consumed):
            assert (a.unique, a.repeated, a.latency, a.due_slice) == (b.unique, b.repeated, b.latency, b.due_slice)
        else:
            assert a == b


def test_a_route_not_subscribed_is_never_accounted() -> None:
    tally = accountant()
    account = tally.account(consumer=1, epoch=0, group=0, routes=frozenset({0}))
    tally.take(account, Batch([made(tally, 0, 0, BEGIN), made(tally, 2, 0, BEGIN), made(tally, 0, 1, BEGIN)]), BEGIN)
    tally.take(account, Batch([made(tally, 2, 1, BEGIN)]), BEGIN)
    found = finish(tally, account, BEGIN)
    strange = [r for r in found if isinstance(r, Strange)]
    assert [(s.kind, s.consumer, s.count) for s in strange] == [(["foreign route"], [1], [2])]
    closing = [r for r in found if isinstance(r, Closing)]
    assert [(c.stream, c.unique) for c in closing] == [([STREAMS[0]], [2])]
    assert tally.sums().unique == 2


def test_rows_beyond_the_seconds_budget_come_later_and_none_is_lost() -> None:
    tally = accountant(budget=10)
    account = open_account(tally)
    tally.take(account, Batch([made(tally, 0, 2 * n, BEGIN) for n in range(40)]), BEGIN)
    first = list(tally.flush(BEGIN + SLICE_NS))
    assert len(rows(first, "gap")) == 10
    second = list(tally.flush(BEGIN + 2 * SLICE_NS))
    assert len(rows(second, "gap")) == 10
    rest = finish(tally, account, BEGIN + 3 * SLICE_NS)
    gaps = [seq for found in (first, second, rest) for _, seq, _ in rows(found, "gap")]
    assert gaps == list(range(1, 78, 2))


def test_a_backlog_of_rows_is_bounded_and_counted() -> None:
    tally = accountant(budget=1)
    account = open_account(tally)
    tally.take(account, Batch([made(tally, 0, 2 * n, BEGIN) for n in range(100)]), BEGIN)
    found = finish(tally, account, BEGIN)
    kept, more = rows(found, "gap"), sum(r.more for r in found if isinstance(r, Deviations))
    assert (len(kept), more) == (50, 49)
    assert [c.unique for c in found if isinstance(c, Closing)] == [[100]]


def test_ranges_beyond_memory_make_the_account_a_lower_bound() -> None:
    tally = accountant(ranges_kept=3)
    account = open_account(tally)
    tally.take(account, Batch([made(tally, 0, 2 * n, BEGIN) for n in range(6)]), BEGIN)
    tally.take(account, Batch([made(tally, 0, 9, BEGIN)]), BEGIN)
    closing = [r for r in finish(tally, account, BEGIN) if isinstance(r, Closing)]
    assert [(c.unique, c.at_least) for c in closing] == [([6], True)]


def test_copies_of_the_contract_are_no_deviation() -> None:
    tally = accountant(copies=2)
    account = open_account(tally)
    for seq in (0, 0, 1, 1, 1):
        tally.take(account, Batch([made(tally, 0, seq, BEGIN)]), BEGIN)
    found = finish(tally, account, BEGIN)
    assert rows(found, "repeated") == [(STREAMS[0], 1, 1)]
    assert sum(c.repeated for c in found if isinstance(c, Consumed)) == 3


def test_a_miscounted_account_is_named() -> None:
    tally = accountant()
    account = open_account(tally)
    tally.take(account, Batch([made(tally, 0, 0, BEGIN), made(tally, 0, 1, BEGIN)]), BEGIN)
    account.last[0] = 5  # as an error in the loop might
    tally.close_account(account)
    list(tally.flush(BEGIN, final=True))
    assert tally.miscounted == [7]


def test_equal_vectors_share_one_closing() -> None:
    tally = accountant()
    accounts = [open_account(tally, consumer) for consumer in range(5)]
    for account in accounts:
        tally.take(account, Batch([made(tally, 0, seq, BEGIN) for seq in range(3 if account.consumer else 2)]), BEGIN)
        tally.close_account(account)
    closing = [r for r in tally.flush(BEGIN, final=True) if isinstance(r, Closing)]
    assert sorted((c.consumer, c.unique) for c in closing) == [([0], [2]), ([1, 2, 3, 4], [3])]


def test_kernel_cells_repeat_the_deliveries_and_count_none() -> None:
    tally = accountant()
    account = open_account(tally)
    due = BEGIN - 30 * NS_PER_MS
    for_sample = Batch([made(tally, 0, 0, due)])
    tally.take(account, for_sample, BEGIN)
    tally.sampled(account, for_sample, BEGIN, BEGIN - 10 * NS_PER_MS)
    for_sample = Batch([made(tally, 0, 1, due)])
    tally.take(account, for_sample, BEGIN)
    tally.sampled(account, for_sample, BEGIN, None)
    cells = {c.clock: c for c in finish(tally, account, BEGIN) if isinstance(c, Consumed)}
    kernel, read = cells["kernel"], cells["read"]
    assert (read.unique, sum(read.latency[1]), read.reads, sum(read.service[1])) == (2, 2, 2, 1)
    assert (kernel.unique, kernel.bytes, kernel.reads, sum(kernel.latency[1])) == (0, 0, 1, 1)
    assert kernel.latency[0] < read.latency[0]
    assert sum(kernel.service[1]) == sum(kernel.read_delay[1]) == 1
    assert kernel.received_slice == read.received_slice - 1


def touched(found: Iterable[Record]) -> list[Touched]:
    return [r for r in found if isinstance(r, Touched)]


@settings(max_examples=examples(20), deadline=None)
@given(st.integers(0, 40), st.integers(1, 30))
def test_an_announced_fault_finds_the_last_two_seconds(quiet: int, last: int) -> None:
    """One message a slice; the fault is announced in slice `quiet` and closed `last` slices later."""
    tally = accountant()
    account = open_account(tally)
    found: list[Record] = []
    for number in range(quiet + last + 5):
        now = BEGIN + number * SLICE_NS
        if number % 10 == 0:
            found += tally.flush(now)
        if number == quiet:
            tally.open_touch(now)
        if number == quiet + last:
            tally.close_touch(now)
        tally.take(account, Batch([made(tally, 0, number, now - 5)]), now)
    found += finish(tally, account, now)
    slices = [t.received_slice - BEGIN // SLICE_NS for t in touched(found)]
    assert slices == list(range(max(0, quiet - 20), quiet + last + 1))
    assert all(t.complete and t.consumer == [7] and t.count == [1] for t in touched(found))
    assert all(t.worst_latency_ns == [5] and t.greatest_due_ns == [t.last_ns[0] - 5] for t in touched(found))


def test_silence_is_written_while_a_fault_is_open() -> None:
    tally = accountant()
    account = open_account(tally)
    tally.open_touch(BEGIN)
    tally.take(account, Batch([made(tally, 0, 0, BEGIN)]), BEGIN)
    later = BEGIN + 5 * SLICE_NS
    tally.take(account, Batch([made(tally, 0, 1, later)]), later)
    assert [t.consumer for t in touched(finish(tally, account, later))] == [[7], [], [], [], [], [7]]


def test_who_deviates_gets_a_row_at_any_time() -> None:
    tally = accountant()
    spoilt, calm = open_account(tally, 1), open_account(tally, 2)
    for account, seqs in ((spoilt, (0, 2)), (calm, (0, 1))):
        tally.take(account, Batch([made(tally, 0, seq, BEGIN) for seq in seqs]), BEGIN)
    rows_ = touched(finish(tally, spoilt, BEGIN))
    assert [(t.consumer, t.count, t.complete) for t in rows_] == [([1], [2], False)]


def test_read_delays_are_those_since_they_were_last_asked_for_whenever_a_flush_goes_on() -> None:
    """A flush lets others run: what was read meanwhile is told with its own time, not with the next second's."""
    tally = accountant()
    account = open_account(tally)

    def read(seq: int) -> None:
        batch = Batch([made(tally, 0, seq, BEGIN)])
        tally.take(account, batch, BEGIN + NS_PER_MS)
        tally.sampled(account, batch, BEGIN + 300 * NS_PER_MS, BEGIN)

    read(0)
    pieces = tally.pieces(BEGIN + 2 * SLICE_NS)
    for record in pieces:
        if isinstance(record, Consumed) and record.clock == "kernel":
            break
    read(1)
    for _ in pieces:
        pass
    assert sum(tally.take_read_delays().values()) == 2
    assert tally.take_read_delays() == {}


def test_a_healing_that_is_told_while_slices_are_written_finds_those_already_written() -> None:
    tally = accountant()
    account = open_account(tally)
    tally.open_touch(BEGIN)
    for n in range(6):
        now = BEGIN + n * SLICE_NS + NS_PER_MS
        tally.take(account, Batch([made(tally, 0, n, now)]), now)
    healed = BEGIN + 2 * SLICE_NS
    found = []
    for record in tally.pieces(BEGIN + 6 * SLICE_NS):
        if isinstance(record, Touched) and record.received_slice == healed // SLICE_NS + 1:
            tally.healed(healed, healed + 100 * SLICE_NS)
        found.append(record)
    found += tally.flush(BEGIN + 7 * SLICE_NS)
    firsts = [record for record in found if isinstance(record, FirstAfter)]
    assert [(f.kind, f.at_ns) for f in firsts] == [(["byte", "fresh"], [healed + NS_PER_MS] * 2)]
