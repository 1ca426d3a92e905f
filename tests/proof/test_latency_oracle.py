"""Does the latency oracle go red for a tool that is off by more than it may be, and only then?"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.model.contract import Contract
from loadtests.model.profile.reading import read_profile
from loadtests.model.records import Consumed
from loadtests.plan.replay import parse
from loadtests.tally.histogram import Histogram, bounds_us, bucket_of_us, middle_ms
from proof.bench import ProofError
from proof.latency import (
    DELAYS_MS,
    Latencies,
    bucket_ms,
    error_ms,
    excluded_rows,
    nearest_rank,
    percentile_row,
    profile,
    shared_reads,
    stall_row,
    truth_of,
)
from proof.timetable import RATE_PER_S, timetable
from tests.proof.sendings import MS, S, Sendings

TARGET = '[target]\nkind = "external"\nredis = "127.0.0.1:1"\ngateway = "127.0.0.1:2"\n'


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_bucket_is_known_from_its_middle(us: int) -> None:
    bucket = bucket_of_us(us)
    low, high = bounds_us(bucket)
    assert bucket_ms(middle_ms(bucket)) == pytest.approx((low / 1000, high / 1000))
    assert error_ms(middle_ms(bucket), us / 1000, us / 1000) == pytest.approx(0, abs=1e-9)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 600 * MS), min_size=20, max_size=300),
    st.integers(0, 10),
    st.sampled_from([0.5, 0.95]),
    st.integers(0, 2**32),
)
def test_messages_that_shared_a_read_move_a_quantile_by_no_more_ranks_than_there_are(
    true: list[int], shared: int, q: float, seed: int
) -> None:
    dice = random.Random(seed)
    found = list(true)
    for index in dice.sample(range(len(found)), min(shared, len(found))):
        found[index] += dice.randrange(0, 50 * MS)
    value = nearest_rank(sorted(found), q)
    assert nearest_rank(sorted(true), q) <= value
    if len(true) - q * len(true) > shared:
        assert value <= nearest_rank(sorted(true), q, shared)


def latencies(ms: float, count: int = 1200) -> Latencies:
    dice = random.Random(5)
    least = sorted(round((ms + dice.expovariate(2)) * MS) for _ in range(count))
    return Latencies(least=least, most=[one + 20_000 for one in least])


def spread(true: Latencies, *, p50: float = 0.0, p99: float = 0.0, count: int = 0) -> dict[str, Any]:
    histogram = Histogram()
    for one in true.least:
        histogram.add(one + 10_000)
    found = {name: histogram.quantile_ms(q) for name, q in (("p50", 0.5), ("p99", 0.99))}
    assert found["p50"] is not None
    assert found["p99"] is not None
    return {"p50": found["p50"] + p50, "p99": found["p99"] + p99, "count": len(true.least) + count}


@pytest.mark.parametrize("ms", DELAYS_MS)
def test_the_truth_is_green_and_what_is_beyond_the_allowed_error_is_red(ms: float) -> None:
    true = latencies(ms)
    grain = ms / 128
    assert percentile_row("x", ms, true, spread(true)).equal
    for wrong in (
        {"p50": 0.3 + grain},
        {"p50": -0.3 - grain},
        {"p99": 1.1 + grain},
        {"p99": -1.1 - grain},
        {"count": 1},
    ):
        assert not percentile_row("x", ms, true, spread(true, **wrong)).equal, wrong  # type: ignore[arg-type]
    assert not percentile_row("x", ms, true, None).equal
    assert not percentile_row("x", ms, true, {**spread(true), "p99": None}).equal


def test_a_gateway_that_did_not_delay_is_no_proof() -> None:
    with pytest.raises(ProofError, match="own book"):
        percentile_row("x", 50.0, latencies(5.0), None)
    with pytest.raises(ProofError, match="own book"):
        stall_row("x", latencies(5.0), None)


def test_a_stall_that_is_hidden_is_red() -> None:
    """A closed loop would have sent one message in the second, and seen one long latency."""
    true = Latencies(least=[n * 20 * MS for n in range(51)], most=[n * 20 * MS + 1000 for n in range(51)])
    whole = {"latency_ms": {"max": middle_ms(bucket_of_us(1_000_000))}, "late": 20}
    assert stall_row("x", true, whole).equal
    assert not stall_row("x", true, {**whole, "latency_ms": {"max": 950.0}}).equal
    assert not stall_row("x", true, {**whole, "latency_ms": {"max": None}}).equal
    lost = Latencies(least=true.least * 12, most=true.most * 12)
    assert not stall_row("x", lost, {**whole, "late": 1}).equal
    assert not stall_row("x", true, None).equal


def test_latencies_of_a_saturated_worker_may_not_count() -> None:
    table = timetable((20,), 1.0)
    book = Sendings()
    connection = book.connect(0, 0)
    numbers = book.messages(0, S, 20 * MS, pattern="beyond")
    for n in numbers:
        book.send(connection, n, book.due(n) + MS)
    sent = book.sent()
    assert len(truth_of(sent, [0], "beyond").least) == len(numbers) == 50
    assert truth_of(sent, [0], "beyond").least[0] == MS

    def rows(
        *, timed: int = 0, came: int = 50, saturated: float = 2.5, coverage: float = 0.7, verdict: str = "UNKNOWN"
    ) -> bool:
        routes = {"beyond/by-0-5-ms": {"unique": came, "latency_ms": {"count": timed}}}
        checks = [{"verdict": "UNKNOWN", "summary": "kept up in 70 %"}] if verdict == "UNKNOWN" else []
        harness = {"saturated_s": saturated, "clean_coverage": coverage}
        found = excluded_rows(table, sent, routes, {"harness": harness, "checks": checks, "verdict": verdict})
        return all(row.equal for row in found)

    assert rows()
    assert not rows(timed=1)
    assert not rows(came=49)
    assert not rows(saturated=0.0)
    assert not rows(coverage=1.0)
    assert not rows(verdict="PASS")


def test_reads_that_brought_several_messages_are_counted() -> None:
    def consumed(group: int, unique: int, reads: int, clock: Any = "read") -> Consumed:
        return Consumed(
            group=group, due_slice=0, received_slice=0, clock=clock, unique=unique, repeated=0, bytes=1,
            latency=([1], [unique]), negative=0, reads=reads,
        )  # fmt: skip

    found = shared_reads([consumed(0, 5, 5), consumed(6, 7, 4), consumed(6, 3, 3), consumed(6, 9, 0, "kernel")])
    assert +found == {(1, 2): 3}


def test_the_timetable_keeps_its_stretches_apart_and_is_a_replay_and_a_valid_profile(tmp_path: Path) -> None:
    table = timetable((20, 80), 2.0)
    for one, other in zip(table.stretches, table.stretches[1:], strict=False):
        assert one.to_s + DELAYS_MS[-1] / 1000 < other.from_s
    file = tmp_path / "messages.csv"
    file.write_text(table.replay(), encoding="utf-8")
    read = read_profile(profile(TARGET, table, file), file="p", environment={}).profile
    routes = Contract(read).routes
    events = parse(file.read_bytes(), routes=routes)
    assert len(events) == 1 + sum(len(list(s.due_s())) for s in table.stretches)
    assert events[-1].due_ns < table.end_s * S
    assert [routes[e.route or 0].key("pattern") for e in events[1:3]] == ["cpu-20"] * 2
    assert [f.name for f in read.families] == [s.name for s in table.stretches]
    assert RATE_PER_S * 2.0 * read.consumers[0].count >= 1000, "or the 99th percentile has no ten samples beyond it"
