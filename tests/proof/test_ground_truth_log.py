"""Is a book read as it was written, and refused where it is not whole?"""

from __future__ import annotations

import json
from collections import Counter

import pytest
from books import DOJI, HAMMER, JOB, MS, ORIGIN, RUN, Written

from proof.ground_truth_log import BookError, read_book
from proof.history import FoundAccount
from proof.truth import Truth

END = json.dumps({"book": "end", "deliveries": 0, "at_ns": 1})


def test_events_connections_and_lies_are_read() -> None:
    w = Written()
    c = w.join(0)
    n = w.event(DOJI, 100, got_ms=103)
    w.lie(c, "delayed", n, DOJI, 0, out_ns=ORIGIN + 900 * MS, after=2, why="in time")
    w.leave(c, 2000)
    book = w.book()
    (event,), connection = book.events, book.connections[c]
    assert (event.run, event.stream, event.seq, event.got_ns) == (RUN, DOJI, 0, ORIGIN + 103 * MS)
    assert (connection.place, connection.first, connection.end, connection.why) == ((0, 0), 0, 1, "client closed")
    (lie,) = connection.lies
    assert (lie.kind, lie.never, lie.after, lie.out_ns) == ("delayed", False, 2, ORIGIN + 900 * MS)
    assert book.planted() == {"delayed": 1}


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "no end"),
        ([END, END], "behind the end"),
        (["{"], "line 1"),
        ([json.dumps({"book": "closed", "connection": 9, "why": "", "unsent": [], "at_ns": 0}), END], "KeyError"),
    ],
)
def test_a_book_that_is_not_whole_is_refused(lines: list[str], why: str) -> None:
    with pytest.raises(BookError, match=why):
        read_book(lines)


def test_a_gateway_that_lost_redis_while_somebody_listened_has_no_truth() -> None:
    w = Written()
    c = w.join(0)
    lost = {"book": "redis", "state": "lost", "n": 0, "at_ns": 0}
    with pytest.raises(BookError, match="lost Redis"):
        read_book([*w.lines, json.dumps(lost), END])
    w.leave(c, 5)
    assert not read_book([*w.lines, json.dumps(lost), END]).events


def test_events_that_are_not_numbered_one_by_one_are_refused() -> None:
    w = Written()
    w.event(DOJI, 1)
    w.n += 1
    w.event(DOJI, 2)
    with pytest.raises(BookError, match="numbered"):
        w.book()


def test_a_stream_that_does_not_begin_at_0_is_no_truth() -> None:
    w = Written()
    w._seqs[DOJI] = 3
    w.event(DOJI, 1)
    with pytest.raises(BookError, match="gapless"):
        w.truth()


def account_of(w: Written, connection: int, stream: int) -> FoundAccount:
    truth: Truth = w.truth()
    (found,) = (g for g in truth.got(truth.connections[divmod(connection, 100)]) if g.stream.packed == stream)
    return found.account


LIES = {
    "lost": ({}, FoundAccount(first=0, last=4, unique=4, skipped={2})),
    "held": ({}, FoundAccount(first=0, last=4, unique=4, skipped={2})),
    "repeated": ({"times": 3}, FoundAccount(first=0, last=4, unique=5, repeated=Counter({2: 3}))),
    "reordered": (
        {"out_ns": ORIGIN, "after": 1, "why": "in time"},
        FoundAccount(first=0, last=4, unique=5, skipped={2}, filled=Counter({2: 1})),
    ),
    "delayed": ({"out_ns": ORIGIN, "after": 0, "why": "in time"}, FoundAccount(first=0, last=4, unique=5)),
    "queued": ({"out_ns": None, "after": 0, "why": "limit"}, FoundAccount(first=0, last=4, unique=4, skipped={2})),
    "conflated": (
        {"out_ns": None, "after": 0, "why": "replaced"},
        FoundAccount(first=0, last=4, unique=4, skipped={2}),
    ),
    "foreign-run": ({"instead": False, "sent_run": "x"}, FoundAccount(first=0, last=4, unique=5)),
    "no-identity": ({"instead": True}, FoundAccount(first=0, last=4, unique=4, skipped={2})),
    "truncated": ({"instead": True}, FoundAccount(first=0, last=4, unique=4, skipped={2})),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_lie_makes_the_account_that_it_must(kind: str) -> None:
    more, account = LIES[kind]
    w = Written()
    c = w.join(0)
    for at in range(5):
        n = w.event(DOJI, at * 10)
        if at == 2:
            w.lie(c, kind, n, DOJI, at, **more)
    w.leave(c, 900)
    assert account_of(w, c, DOJI) == account


def test_what_was_sent_before_it_joined_or_after_it_left_is_not_its_own() -> None:
    w = Written()
    w.event(DOJI, 1)
    c = w.join(0)
    w.event(DOJI, 2)
    w.leave(c, 3)
    w.event(DOJI, 4)
    assert account_of(w, c, DOJI) == FoundAccount(first=1, last=1, unique=1)


def test_frames_that_the_kernel_did_not_take_did_not_arrive() -> None:
    w = Written()
    c = w.join(0)
    kept = w.event(DOJI, 1)
    gone = w.event(DOJI, 2)
    w.lie(c, "repeated", kept, DOJI, 0, times=1)
    w.leave(c, 3, "peer gone", unsent=(kept, gone))
    assert account_of(w, c, DOJI) == FoundAccount(first=0, last=0, unique=1)


def test_a_replayed_message_belongs_to_the_connection_that_got_it() -> None:
    w = Written()
    c = w.join(0)
    w.event(JOB, 1)
    w.leave(c, 2, "dropped")
    n = w.event(JOB, 3)
    again = w.join(0, 1)
    w.lie(again, "replayed", n, JOB, 1, out_ns=ORIGIN, after=0, why="in time")
    w.event(JOB, 5)
    assert account_of(w, again, JOB) == FoundAccount(first=1, last=2, unique=2)


def test_filters_are_the_targets() -> None:
    w = Written()
    c = w.join(2)  # Doji only
    w.event(HAMMER, 1)
    w.event(DOJI, 2)
    w.event(JOB, 3)
    truth = w.truth()
    assert [got.stream.packed for got in truth.got(truth.connections[divmod(c, 100)])] == [DOJI]


def test_deliveries_by_the_lines_must_be_those_that_the_gateway_counted() -> None:
    w = Written()
    w.join(0)
    w.event(DOJI, 1)
    w.event(DOJI, 2)
    w.deliveries = 2
    assert w.truth().check() == 2
    w.deliveries = 3
    with pytest.raises(BookError, match="2 \\+ 0 deliveries"):
        w.truth().check()


def test_what_was_strange_is_counted_by_consumer_and_kind() -> None:
    w = Written()
    c = w.join(1)
    for _ in range(3):
        w.lie(c, "foreign-run", w.event(DOJI, 1), DOJI, 0, instead=False, sent_run="x")
    assert w.truth().strange() == {(1, "foreign-run"): 3}
