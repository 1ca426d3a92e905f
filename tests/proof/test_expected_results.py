"""Is the delivery block what the measures define?  Small books with numbers that one can count by hand."""

from __future__ import annotations

import pytest
from books import DOJI, JOB, MS, ORIGIN, PRICE, Written

from proof.ground_truth_log import BookError
from proof.history import Edge, Place
from proof.truth import ExpectedDelivery, expected


def block_of(w: Written, edges: dict[Place, tuple[float, float, str]]) -> ExpectedDelivery:
    held = {
        place: Edge(from_ns=round(begin * MS), to_ns=round(end * MS), why=why)
        for place, (begin, end, why) in edges.items()
    }
    return expected(w.truth(), held, origin_ns=ORIGIN)


def numbers(block: ExpectedDelivery) -> dict[str, int]:
    return {name: block.total(name) for name in sorted({name for _, name in block.of}) if block.total(name)}


def test_a_calm_stay_is_owed_and_got_everything() -> None:
    w = Written()
    c = w.join(0)
    for at in range(1000, 2000, 100):
        w.event(DOJI, at)
    w.leave(c, 5000)
    assert numbers(block_of(w, {(0, 0): (0, 5000, "own")})) == {"owed": 10, "unique": 10}


def test_a_gap_is_a_defect() -> None:
    w = Written()
    c = w.join(0)
    for at in range(1000, 2000, 100):
        n = w.event(DOJI, at)
        if at == 1300:
            w.lie(c, "lost", n, DOJI, 3)
    w.leave(c, 5000)
    found = block_of(w, {(0, 0): (0, 5000, "own")})
    assert numbers(found) == {"owed": 10, "unique": 9, "defect": 1}


def test_what_was_sent_at_an_edge_is_undecided_unless_seen() -> None:
    w = Written()
    w.event(DOJI, 1010)  # before the target confirmed: in the slice of the tool's edge
    c = w.join(0)
    w.event(DOJI, 1050)
    w.event(DOJI, 1500)
    n = w.event(DOJI, 1950)
    w.lie(c, "lost", n, DOJI, 3)
    w.leave(c, 1990)
    w.event(DOJI, 1995)
    found = numbers(block_of(w, {(0, 0): (1040, 1990, "own")}))
    # 1010 lies in the slice of the first edge, 1950 and 1995 in that of the second; 1050 was seen.
    assert found == {"owed": 2, "unique": 2, "undecided": 3}


@pytest.mark.parametrize(
    ("why", "booked", "number"),
    [
        ("peer closed", "dropped", "disconnected"),
        ("own", "client closed", "undecided"),
        ("own", "dropped", "disconnected"),  # whatever the tool says of a connection that the gateway ended
    ],
)
def test_what_was_sent_in_a_slice_with_an_absence_is_of_who_ended_the_connection(
    why: str, booked: str, number: str
) -> None:
    w = Written()
    c = w.join(0)
    w.event(DOJI, 1000)
    w.leave(c, 2030, booked)
    w.event(DOJI, 2050)
    w.join(0, 1, 2070)
    found = numbers(block_of(w, {(0, 0): (0, 2030, why), (0, 1): (2070, 9000, "own")}))
    assert found == {"owed": 1, "unique": 1, number: 1}


def held_until_it_broke(*, later: bool) -> dict[str, int]:
    w = Written()
    c = w.join(0)
    for at in (1000, 1200, 1400):
        n = w.event(DOJI, at)
        if at == 1200 or (at == 1400 and not later):
            w.lie(c, "held", n, DOJI, (at - 1000) // 200)
    w.leave(c, 1700, "dropped")
    return numbers(block_of(w, {(0, 0): (0, 1700, "peer closed")}))


@pytest.mark.parametrize(
    ("later", "expected_"), [(False, {"unique": 1, "defect": 2}), (True, {"unique": 2, "defect": 1})]
)
def test_what_was_owed_before_the_target_broke_the_connection_is_its_loss(
    later: bool, expected_: dict[str, int]
) -> None:
    assert held_until_it_broke(later=later) == {"owed": 3, **expected_}


def test_a_connection_that_broke_long_after_takes_nothing() -> None:
    w = Written()
    c = w.join(0)
    w.event(DOJI, 1000)
    w.lie(c, "held", w.event(DOJI, 1200), DOJI, 1)
    w.leave(c, 5000, "dropped")
    assert numbers(block_of(w, {(0, 0): (0, 5000, "peer closed")})) == {"owed": 2, "unique": 1, "defect": 1}


def away(replayed: bool) -> dict[str, int]:
    w = Written()
    c = w.join(0)
    for stream in (DOJI, JOB):
        w.event(stream, 1000)
    w.leave(c, 2000, "dropped")
    missed = {stream: w.event(stream, 2500) for stream in (DOJI, JOB)}
    again = w.join(0, 1, 3000)
    if replayed:
        w.lie(again, "replayed", missed[JOB], JOB, 1, out_ns=ORIGIN + 3000 * MS, after=0, why="in time")
    w.leave(again, 9000)
    return numbers(block_of(w, {(0, 0): (0, 2000, "peer closed"), (0, 1): (3000, 9000, "own")}))


def test_what_was_missed_while_away_is_the_targets_doing_and_what_it_was_to_replay_is_owed() -> None:
    assert away(replayed=False) == {"owed": 3, "unique": 2, "not_replayed": 1, "disconnected": 1}


def test_a_replayed_message_is_owed_since_it_was_seen() -> None:
    assert away(replayed=True) == {"owed": 3, "unique": 3, "disconnected": 1}


def test_seen_over_two_connections_is_repeated() -> None:
    w = Written()
    c = w.join(0)
    n = w.event(JOB, 1000)
    w.leave(c, 2000, "dropped")
    again = w.join(0, 1, 3500)
    w.lie(again, "replayed", n, JOB, 0, out_ns=ORIGIN + 3500 * MS, after=0, why="in time")
    w.leave(again, 9000)
    found = numbers(block_of(w, {(0, 0): (0, 2000, "peer closed"), (0, 1): (3500, 9000, "own")}))
    assert found == {"owed": 1, "unique": 1, "repeated": 1, "late": 1}


@pytest.mark.parametrize(("newer_ms", "expected_"), [(1500, {"owed": 2}), (4000, {"owed": 3, "defect": 1})])
def test_of_the_latest_only_the_newest_is_owed_if_it_came_in_time(newer_ms: int, expected_: dict[str, int]) -> None:
    w = Written()
    c = w.join(0)
    w.event(PRICE, 1000)
    w.lie(c, "conflated", w.event(PRICE, 1100), PRICE, 1, out_ns=None, after=0, why="replaced", by=2)
    w.event(PRICE, newer_ms)
    w.leave(c, 9000)
    assert numbers(block_of(w, {(0, 0): (0, 9000, "own")})) == {"unique": 2, **expected_}


def test_a_newer_one_at_the_limit_itself_leaves_it_open() -> None:
    w = Written()
    c = w.join(0)
    w.event(PRICE, 1000)
    w.lie(c, "conflated", w.event(PRICE, 1100), PRICE, 1, out_ns=None, after=0, why="replaced", by=2)
    w.event(PRICE, 2500)
    w.leave(c, 9000)
    with pytest.raises(BookError, match="too near"):
        block_of(w, {(0, 0): (0, 9000, "own")})


@pytest.mark.parametrize(("out_ms", "late", "near"), [(1400, 0, 0), (2500, 0, 3), (3100, 3, 0)])
def test_late_is_what_was_sent_beyond_the_limit(out_ms: int, late: int, near: int) -> None:
    w = Written()
    c = w.join(0)
    n = w.event(DOJI, 1000)
    w.lie(c, "delayed", n, DOJI, 0, out_ns=ORIGIN + out_ms * MS, after=0, why="in time")
    w.lie(c, "repeated", n, DOJI, 0, times=2)
    w.leave(c, 9000)
    found = block_of(w, {(0, 0): (0, 9000, "own")})
    assert (found.total("late"), found.near.total()) == (late, near)
