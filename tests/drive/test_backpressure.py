"""Is a delay charged to who caused it?"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.drive.publish.slot import Backpressure

S = 1_000_000_000


def test_late_before_the_block_is_own_lag_the_block_is_not() -> None:
    backpressure = Backpressure()
    backpressure.block(10 * S)
    backpressure.block(11 * S)
    assert backpressure.of(9 * S, 12 * S) == 2 * S
    assert backpressure.of(11 * S, 12 * S) == S
    backpressure.release(13 * S)
    assert backpressure.of(12 * S, 14 * S) == 2 * S


def test_catching_up_is_the_block_s_doing_only_for_as_long_again() -> None:
    backpressure = Backpressure()
    backpressure.block(10 * S)
    backpressure.release(11 * S)
    assert backpressure.of(10 * S, 12 * S) == 2 * S
    assert backpressure.of(10 * S, 20 * S) == 2 * S  # the rest is own lag
    backpressure.block(20 * S)
    assert backpressure.of(10 * S, 21 * S) == S


def test_who_has_caught_up_starts_anew() -> None:
    backpressure = Backpressure()
    backpressure.block(1 * S)
    backpressure.caught_up()
    assert not backpressure.open
    assert backpressure.of(0, 9 * S) == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(("block", "release", "caught_up")), st.integers(0, S)), max_size=30))
def test_no_part_is_negative_or_longer_than_the_delay(steps) -> None:
    backpressure, now = Backpressure(), 0
    for step, gap in steps:
        now += gap
        backpressure.caught_up() if step == "caught_up" else getattr(backpressure, step)(now)
        dues = [0, now // 2, now]
        each = backpressure.of_each(np.array(dues), now)
        for number, due in enumerate(dues):
            assert 0 <= backpressure.of(due, now) <= now - due
            assert backpressure.of(due, now) == (0 if each is None else each[number])
