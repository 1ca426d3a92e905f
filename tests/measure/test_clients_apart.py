"""Does a percentile speak for all clients?  Samples that contradict all reads, and clients that are slow alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.measure.deliveries import contradicts, judged
from loadtests.measure.judge import judge
from loadtests.model import records as r
from loadtests.model.codec import Frame
from loadtests.model.results import Check, Results, Verdict
from loadtests.tally.client_latency import COARSE, COARSE_BITS, ClientLatencies, coarse_bounds_ms
from loadtests.tally.histogram import BUCKETS, bounds_us, bucket_of
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
    honest = judged(dense(at_random), whole, whole=whole, sampled=dense(at_random), reads=len(at_random))
    assert not honest.contradicted


@settings(max_examples=30, deadline=None)
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


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, BUCKETS - 1)), max_size=60))
def test_a_stretch_holds_every_delivery_of_every_consumer(rows: list[tuple[int, int]]) -> None:
    clients = ClientLatencies()
    assert clients.begin(7) is None
    for consumer, bucket in rows:
        clients.add(np.array([consumer], dtype=np.int64), np.array([bucket], dtype=np.int64))
    record = clients.take()
    if not rows:
        assert record is None
        return
    assert record is not None
    assert record.consumer == sorted({consumer for consumer, _ in rows})
    edges = [0, *np.cumsum(record.buckets).tolist()]
    for at, consumer in enumerate(record.consumer):
        span = slice(edges[at], edges[at + 1])
        expected = sorted(bucket >> COARSE_BITS for c, bucket in rows if c == consumer)
        pairs = zip(record.bucket[span], record.count[span], strict=True)
        assert sorted(b for b, n in pairs for _ in range(n)) == expected
    assert clients.take() is None


def test_stretches_are_short_while_a_fault_and_its_recovery_are_open() -> None:
    clients = ClientLatencies()
    one = np.array([0], dtype=np.int64)
    clients.open(60)
    clients.close(90)
    ends = []
    for slice_ in range(200):
        record = clients.begin(slice_)
        if record is not None:
            ends.append((record.first_slice, record.last_slice))
        clients.add(one, one)
    assert ends == [(0, 49), (50, 59), (60, 69), (70, 79), (80, 89), (90, 139), (140, 189)]


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
    import msgspec

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
