"""Has every read the same chance to be looked at, whoever's it is?"""

from __future__ import annotations

import random
from collections import Counter
from itertools import accumulate, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.tally.drawing import gaps


@pytest.mark.parametrize("clients", [16, 32, 64, 128])
def test_fan_out_does_not_choose_who_is_sampled(clients: int) -> None:
    """One message goes to n clients, in turn, again and again: a fixed distance of 64 would meet few of them."""
    chosen = Counter(at % clients for at in islice(accumulate(gaps(random.Random(1), 64)), 200 * clients))
    assert len(chosen) == clients
    assert max(chosen.values()) < 300, "five standard deviations"
    assert min(chosen.values()) > 120


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(0, 2**32))
def test_gaps_are_geometric_and_the_seeds_own(one_in: int, seed: int) -> None:
    count = 4000
    found = list(islice(gaps(random.Random(seed), one_in), count))
    assert found == list(islice(gaps(random.Random(seed), one_in), count))
    assert min(found) >= 1
    error = 6 * (one_in * (one_in - 1) / count) ** 0.5
    assert abs(sum(found) / count - one_in) <= error
    at_once = sum(gap == 1 for gap in found) / count
    assert abs(at_once - 1 / one_in) <= 6 * (1 / one_in / count) ** 0.5


def test_every_read_where_all_are_wanted() -> None:
    assert list(islice(gaps(random.Random(0), 1), 5)) == [1] * 5
