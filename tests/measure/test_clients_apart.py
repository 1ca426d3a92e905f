"""Does a percentile speak for all clients?  Samples that contradict all reads, and clients that are slow alone."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.measure.deliveries import Deliveries, across_limit_ms, contradicts, deliveries, judged
from loadtests.measure.history_tables import HistoryTables
from loadtests.measure.judge import judge
from loadtests.model import records as r
from loadtests.model.codec import MAX_BODY, Frame
from loadtests.model.results import Check, Results, Verdict
from loadtests.tally.client_latency import COARSE, COARSE_BITS, ClientLatencies, coarse_bounds_ms
from loadtests.tally.histogram import BUCKETS, bounds_us, bucket_of
from tests.examples import examples
from tests.measure.simulate import MS, S, World, profile


def check_of(results: Results, start: str) -> Check:
    return next(c for c in results.checks if c.name.startswith(start))


def dense(latencies_ms: list[float]) -> Any:
    return np.bincount([bucket_of(round(ms * MS)) for ms in latencies_ms], minlength=BUCKETS).astype(np.int64)


# -- the sampled reads beside all of them


def pooled(dice: random.Random, clients: int, slow: int, messages: int) -> list[list[float]]:
    """Latencies in ms by message and client; some clients are slow by 400 ms."""
    return [
        [dice.lognormvariate(1, 0.5) + (400 if client < slow else 0) for client in range(clients)]
        for _ in range(messages)
    ]


def test_every_64th_read_of_64_clients_is_contradicted_and_a_random_part_is_not() -> None:
    dice = random.Random(1)
    rows = pooled(dice, 64, 8, 600)
    everything = [ms for row in rows for ms in row]
    same_client = [row[63] for row in rows]
    at_random = [ms for ms in everything if dice.random() < 1 / 64]
    whole = dense(everything)
    assert contradicts(dense(same_client), whole, 0.95, len(same_client))
    assert not contradicts(dense(at_random), whole, 0.95, len(at_random))
    spread = judged(dense(same_client), whole, whole=whole, sampled=dense(same_client), reads=len(same_client))
    assert "p95" in spread.contradicted
    assert spread.p95 is not None
    assert spread.p95 > 400
    assert spread.p99 is not None, "by the read clock as well: percentiles never fall"
    assert spread.p99 >= spread.p95
    honest = judged(dense(at_random), whole, whole=whole, sampled=dense(at_random), reads=len(at_random))
    assert not honest.contradicted


@settings(max_examples=examples(30), deadline=None)
@given(
    seed=st.integers(0, 10**6),
    clients=st.sampled_from([1, 20, 64, 200]),
    slow=st.integers(0, 20),
    a_read=st.sampled_from([1, 3, 10]),
)
def test_a_random_part_of_the_reads_is_never_contradicted(seed: int, clients: int, slow: int, a_read: int) -> None:
    """Messages that come in one read are drawn together: as many draws as reads, not as messages."""
    dice = random.Random(seed)
    reads = [
        [base + (400 if client < slow else 0)] * a_read
        for _ in range(300)
        for base in [dice.lognormvariate(1, 0.8)]
        for client in range(clients)
    ]
    chosen = [read for read in reads if dice.random() < 1 / 16]
    sampled = dense([ms for read in chosen for ms in read]) if chosen else np.zeros(BUCKETS, dtype=np.int64)
    whole = dense([ms for read in reads for ms in read])
    assert not any(contradicts(sampled, whole, q, len(chosen)) for q in (0.5, 0.9, 0.95, 0.99, 0.999))


# -- single clients


@settings(max_examples=examples(20), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, BUCKETS - 1)), max_size=60))
def test_a_stretch_holds_every_delivery_of_every_consumer(rows: list[tuple[int, int]]) -> None:
    clients = ClientLatencies()
    assert clients.begin(7) == []
    for consumer, bucket in rows:
        clients.add(np.array([consumer], dtype=np.int64), np.array([bucket], dtype=np.int64))
    records = clients.take()
    if not rows:
        assert records == []
        return
    (record,) = records
    assert record.consumer == sorted({consumer for consumer, _ in rows})
    edges = [0, *np.cumsum(record.buckets).tolist()]
    for at, consumer in enumerate(record.consumer):
        span = slice(edges[at], edges[at + 1])
        expected = sorted(bucket >> COARSE_BITS for c, bucket in rows if c == consumer)
        pairs = zip(record.bucket[span], record.count[span], strict=True)
        assert sorted(b for b, n in pairs for _ in range(n)) == expected
    assert clients.take() == []


def ends_of(consumers: int, slices: int, cuts: list[int]) -> list[tuple[int, int]]:
    clients = ClientLatencies()
    for at in cuts:
        clients.cut(at)
    everybody, fast = np.arange(consumers), np.full(consumers, 500)
    found = []
    for slice_ in range(slices):
        found += clients.begin(slice_)
        clients.add(everybody, fast)
    return sorted({(record.first_slice, record.last_slice) for record in [*found, *clients.take()]})


def test_a_stretch_ends_with_the_warm_up_and_where_a_fault_is_announced_or_its_recovery_closed() -> None:
    assert ends_of(1, 40, [3, 25, 26]) == [(0, 2), (3, 12), (13, 22), (23, 24), (25, 25), (26, 35), (36, 39)]


def test_about_a_hundred_consumers_are_written_a_second_however_many_there_are() -> None:
    assert ends_of(300, 90, [45]) == [(0, 29), (30, 44), (45, 74), (75, 89)]


def test_a_record_of_many_consumers_fits_into_a_frame() -> None:
    clients = ClientLatencies()
    everybody = np.repeat(np.arange(50_000, 55_000), 60)
    clients.begin(0)
    clients.add(everybody, np.tile(np.arange(60) * 37 + 600, 5000))
    records = clients.take()
    assert sorted(c for record in records for c in record.consumer) == list(range(50_000, 55_000))
    assert max(len(msgspec.msgpack.encode(record)) for record in records) < MAX_BODY
    assert clients._counts.nbytes / 5000 < 1000, "so many bytes does a consumer cost"


def test_a_coarse_bucket_holds_the_fine_ones_that_are_counted_in_it() -> None:
    for fine in range(0, BUCKETS, 7):
        low, high = coarse_bounds_ms(fine >> COARSE_BITS)
        assert low <= bounds_us(fine)[0] / 1000 < bounds_us(fine)[1] / 1000 <= high
    assert COARSE * 4 < 1000, "so many bytes does a consumer cost"


def crowd(slow: int, **threshold: Any) -> World:
    """Sixty-four consumers of which some are late by 400 ms."""
    limits = [{"phases": ["all"], **threshold}]
    world = World(profile(consumers=[{"name": "plain", "count": 64}], thresholds=limits))
    world.publish()
    world.subscribe()
    world.deliver(None, lambda m, stay: 400 * MS if stay.consumer < slow else 0)
    return world


@pytest.mark.parametrize(("slow", "pooled_"), [(3, Verdict.PASS), (8, Verdict.FAIL)])
def test_three_slow_clients_of_sixty_four_are_hidden_in_the_pool_and_found_by_themselves(
    slow: int, pooled_: Verdict
) -> None:
    world = crowd(slow, measure="slowest_client_p95_ms", at_most=100.0)
    results = judge(world.profile, world.history())
    check = check_of(results, "slowest_client_p95_ms")
    assert check.verdict is Verdict.FAIL
    assert f"{slow} of 64 consumers are beyond it" in check.summary
    assert "consumer 0 (plain)" in check.evidence[0]
    other = crowd(slow, measure="latency_p95_ms", at_most=100.0)
    assert check_of(judge(other.profile, other.history()), "latency_p95_ms").verdict is pooled_


def test_without_enough_deliveries_or_the_records_nothing_is_said() -> None:
    world = crowd(0, measure="slowest_client_p95_ms", at_most=100.0)
    history = world.history()
    old = [
        (n, Frame(f.number, [x for x in f.records if not isinstance(x, r.ClientLatency)])) for n, f in history
    ]  # fmt: skip
    check = check_of(judge(world.profile, old), "slowest_client_p95_ms")
    assert check.verdict is Verdict.UNKNOWN
    assert "no latencies of single consumers" in check.summary
    short = World(
        profile(
            run={"duration_s": 1.0, "warm_up_s": 1.0, "drain_s": 2.0, "late_s": 0.5, "settle_ms": 100},
            thresholds=[{"measure": "slowest_client_p95_ms", "at_most": 100.0, "phases": ["all"]}],
        )
    ).calm()
    few = check_of(judge(short.profile, short.history()), "slowest_client_p95_ms")
    assert few.verdict is Verdict.UNKNOWN
    assert "fewer than 200 deliveries" in few.summary


def test_stretches_in_which_we_could_not_keep_up_do_not_count() -> None:
    world = crowd(0, measure="slowest_client_p95_ms", at_most=100.0)
    history = [
        (
            n,
            f._replace(
                records=[
                    msgspec.structs.replace(x, saturated=True)
                    if isinstance(x, r.HarnessSecond) and x.at_ns > world.warm + S
                    else x
                    for x in f.records
                ]
            ),
        )
        for n, f in world.history()
    ]
    assert check_of(judge(world.profile, history), "slowest_client_p95_ms").verdict is Verdict.UNKNOWN


CALM = {"measure": "slowest_client_p95_ms", "at_most": 100.0}


def late(world: World, delay: Any) -> World:
    world.publish()
    world.subscribe()
    world.deliver(None, delay)
    return world


def test_a_short_run_with_thirteen_messages_a_second_has_enough_of_each_client() -> None:
    """20 s at 13/s are 260 deliveries: the stretches at either end of the plan must not cost a quarter of them."""
    world = World(
        profile(
            run={"duration_s": 20.0, "warm_up_s": 2.0, "drain_s": 3.0, "late_s": 2.0, "settle_ms": 100},
            publishers=[{"name": "market", "count": 1, "families": ["patterns", "ranks"],
                         "shape": {"kind": "constant", "rate_per_s": 13.0}}],
            consumers=[{"name": "plain", "count": 64}],
            thresholds=[CALM],
        )
    )  # fmt: skip
    late(world, lambda m, stay: 410 * MS if stay.consumer < 3 else 0)
    check = check_of(judge(world.profile, world.history()), "slowest_client_p95_ms")
    assert check.verdict is Verdict.FAIL, check.summary
    assert "3 of 64 consumers are beyond it" in check.summary
    assert "too few" not in check.summary


def test_what_the_warm_up_or_our_own_pace_delayed_is_nobodys_lateness() -> None:
    world = late(World(profile(thresholds=[CALM])), lambda m, stay: 700 * MS if m.sent < 3 * S - 800 * MS else 0)
    assert check_of(judge(world.profile, world.history()), "slowest_client_p95_ms").verdict is Verdict.PASS
    groups = [{"name": "plain", "count": 4}, {"name": "dawdlers", "count": 2, "read_bytes_per_s": 2000}]
    paced = late(
        World(profile(consumers=groups, thresholds=[CALM])), lambda m, stay: 900 * MS if stay.consumer >= 4 else 0
    )
    assert check_of(judge(paced.profile, paced.history()), "slowest_client_p95_ms").verdict is Verdict.PASS


def test_a_client_is_not_blamed_for_our_own_lag_nor_for_clocks_that_do_not_agree() -> None:
    def said(change: Any) -> str:
        world = World(profile(thresholds=[CALM]))
        world.own_lag_ns = change.get("own_lag_ns", world.own_lag_ns)
        late(world, lambda m, stay: 400 * MS if stay.consumer == 1 else 0)
        history = [
            (n, f._replace(records=[msgspec.structs.replace(x, clock_error_ns=change.get("error_ns", 0))
                                    if isinstance(x, r.Header) else x for x in f.records]))
            for n, f in world.history()
        ]  # fmt: skip
        check = check_of(judge(world.profile, history), "slowest_client_p95_ms")
        return check.summary if check.verdict is Verdict.UNKNOWN else check.verdict.value

    assert said({}) == "FAIL"
    assert "own lag" in said({"own_lag_ns": 90 * MS})
    assert "clocks agree" in said({"error_ns": 20 * MS})


# -- a limit between what the sampled reads say and what all say


def fanned_out(slow: int, late_samples: int, *, samples: int = 300) -> tuple[Check, Check]:
    """p95 and p50 where some of 24 clients are late; of the sampled reads so many are theirs."""
    limits = [{"measure": f"latency_{name}_ms", "at_most": 100.0} for name in ("p95", "p50")]
    world = World(profile(consumers=[{"name": "plain", "count": 24}], thresholds=limits))
    late(world, lambda m, stay: 410 * MS if stay.consumer < slow else 0)
    calm = [(m.stream, m.seq, stay.consumer) for stay in world.stays for _, m in stay.got if m.due >= world.warm]
    dice = random.Random(1)
    chosen = set(dice.sample([x for x in calm if x[2] < slow], late_samples))
    chosen |= set(dice.sample([x for x in calm if x[2] >= slow], samples - late_samples))
    world.stamped = lambda m, stay: (m.stream, m.seq, stay.consumer) in chosen
    results = judge(world.profile, world.history())
    return check_of(results, "latency_p95_ms"), check_of(results, "latency_p50_ms")


@pytest.mark.parametrize(
    ("slow", "late_samples", "verdict", "by_all"),
    [
        (2, 12, Verdict.FAIL, True),  # 8.3 % are late, of the sampled ones 4 %: one run in two hundred
        (1, 18, Verdict.PASS, True),  # 4.2 % are late, of the sampled ones 6 %
        (2, 24, Verdict.FAIL, False),
        (1, 12, Verdict.PASS, False),
    ],
)
def test_a_limit_is_neither_kept_nor_broken_by_the_luck_of_few_samples(
    slow: int, late_samples: int, verdict: Verdict, by_all: bool
) -> None:
    """No chance contradicts such a sample, but all reads are there to be asked."""
    p95, p50 = fanned_out(slow, late_samples)
    assert p95.verdict is verdict, p95.summary
    assert ("too few for this limit" in p95.summary) is by_all
    assert "contradict" not in p95.summary
    assert "too few for this limit" not in p50.summary


def test_what_our_own_reading_added_is_no_lateness() -> None:
    """All reads lie beyond the limit by the read clock, the sampled ones as well, whose stamps say 95 ms."""

    def judged_by(table: Deliveries, slow_read: bool = False) -> float | None:
        rows = np.ones(len(table.due), dtype=np.bool_)
        return across_limit_ms(table, rows, rows & slow_read, 0.95, 95.0, 100.0)

    def table(by_stamp: int, sampled: int, everything: int) -> Deliveries:
        common: dict[str, Any] = {"group": 0, "due_slice": 40, "received_slice": 41, "bytes": 0, "negative": 0}
        facts = HistoryTables()
        facts.add("main", Frame(0, [
            r.Consumed(clock="kernel", unique=0, repeated=0, reads=1000, latency=([bucket_of(by_stamp * MS)], [1000]),
                       sampled_read=([bucket_of(sampled * MS)], [1000]), **common),
            r.Consumed(clock="read", unique=64_000, repeated=0, reads=64_000,
                       latency=([bucket_of(everything * MS)], [64_000]), **common),
        ]))  # fmt: skip
        return deliveries(facts, 1)

    assert judged_by(table(95, 120, 120)) is None
    assert judged_by(table(95, 96, 120)) == pytest.approx(120, rel=0.01)
    assert judged_by(table(95, 96, 105)) is None, "a tenth of the limit is what our reading may add"
    assert judged_by(table(95, 96, 120), slow_read=True) is None
