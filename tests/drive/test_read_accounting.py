"""Do samples fall on every client alike, whatever the rhythm of the load?"""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.drive.consume.read_accounting import SampleGaps


def sampled(gaps: SampleGaps, reads: int) -> list[int]:
    found, at = [], gaps.draw() - 1
    while at < reads:
        found.append(at)
        at += gaps.draw()
    return found


@settings(max_examples=20, deadline=None)
@given(clients=st.sampled_from([8, 16, 32, 64, 128, 192]), seed=st.integers(0, 10_000))
def test_a_fan_out_in_a_fixed_order_is_sampled_at_every_client(clients: int, seed: int) -> None:
    """Every 64th read of 64 clients would be the same client's each time."""
    messages = 64 * 400 // clients * 10
    counts = Counter(at % clients for at in sampled(SampleGaps(64, str(seed)), clients * messages))
    mean = messages / 64
    assert len(counts) == clients
    assert max(counts.values()) < mean + 7 * mean**0.5 + 3
    assert sum(counts.values()) < clients * mean + 7 * (clients * mean) ** 0.5


def test_a_mean_of_one_takes_every_read() -> None:
    assert sampled(SampleGaps(1, "x"), 50) == list(range(50))


def test_the_same_seed_takes_the_same_reads_and_another_takes_others() -> None:
    first, again, other = (sampled(SampleGaps(64, seed), 10_000) for seed in ("a", "a", "b"))
    assert first == again != other
