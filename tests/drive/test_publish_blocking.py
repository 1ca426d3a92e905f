"""Is a delay charged to who caused it?"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.drive.publish.backpressure import Blocking

S = 1_000_000_000


def test_late_before_the_block_is_own_lag_the_block_is_not() -> None:
    blocking = Blocking()
    blocking.block(10 * S)
    blocking.block(11 * S)
    assert blocking.of(9 * S, 12 * S) == 2 * S
    assert blocking.of(11 * S, 12 * S) == S
    blocking.release(13 * S)
    assert blocking.of(12 * S, 14 * S) == 2 * S


def test_catching_up_is_the_block_s_doing_only_for_as_long_again() -> None:
    blocking = Blocking()
    blocking.block(10 * S)
    blocking.release(11 * S)
    assert blocking.of(10 * S, 12 * S) == 2 * S
    assert blocking.of(10 * S, 20 * S) == 2 * S  # the rest is own lag
    blocking.block(20 * S)
    assert blocking.of(10 * S, 21 * S) == S


def test_who_has_caught_up_starts_anew() -> None:
    blocking = Blocking()
    blocking.block(1 * S)
    blocking.caught_up()
    assert not blocking.open
    assert blocking.of(0, 9 * S) == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(("block", "release", "caught_up")), st.integers(0, S)), max_size=30))
def test_no_part_is_negative_or_longer_than_the_delay(steps) -> None:
    blocking, now = Blocking(), 0
    for step, gap in steps:
        now += gap
        blocking.caught_up() if step == "caught_up" else getattr(blocking, step)(now)
        for due in (0, now // 2, now):
            assert 0 <= blocking.of(due, now) <= now - due
