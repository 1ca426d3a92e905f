"""Does the recovery oracle know when a consumer came back, and does it go red where the tool says otherwise?"""

from __future__ import annotations

from typing import Any

import pytest

from proof.bench import ProofError
from proof.recovery import (
    AmbiguousError,
    Comeback,
    RecoveryRole,
    Rules,
    SaidRecovery,
    comeback,
    compare,
    profile,
    read_table,
    roles,
    truths,
)
from tests.proof.sendings import MS, S, Sendings

HEALED, END = 4 * S, 9 * S
EVERY = 50 * MS
RULES = Rules(late_ns=S, hold_ns=800 * MS, limit_ns=3 * S, maybe_ns=200 * MS, silent_ns=400 * MS)


def of(book: Sendings, consumer: int = 0) -> Comeback:
    sent = book.sent()
    own = [c for c in sent.book.connections.values() if c.consumer == consumer]
    dues = {event.n: event.due_ns for event in sent.book.events}
    return comeback(
        sent.of_consumer(consumer), own, dues, origin_ns=sent.origin_ns, healed_ns=HEALED, end_ns=END, rules=RULES
    )


def stopped(until_ns: int, *, queued: bool = False) -> Sendings:
    """Nothing is sent from 3 s until then; held or queued."""
    book = Sendings()
    numbers = book.messages(0, END, EVERY)
    connection = book.connect(0, 0)
    for n in numbers:
        due = book.due(n)
        if not 3 * S <= due < until_ns:
            book.send(connection, n, due + MS)
        elif queued:
            book.send(connection, n, until_ns)
        else:
            book.lie("held", connection, 0, n, due)
    return book


def test_who_was_never_away_is_back_with_the_first_fresh_message() -> None:
    assert of(stopped(3 * S)) == Comeback(fresh_ns=HEALED + MS + 10_000, steady_ns=HEALED + MS + 10_000)


@pytest.mark.parametrize("back_ms", [150, 700, 2400])
def test_who_was_held_is_steady_with_the_first_message_that_is_not(back_ms: int) -> None:
    back = HEALED + back_ms * MS
    assert of(stopped(back)) == Comeback(fresh_ns=back + MS + 10_000, steady_ns=back + MS + 10_000)


def test_one_that_is_kept_back_later_counts_when_it_was_due() -> None:
    book = Sendings()
    numbers = book.messages(0, END, EVERY)
    connection = book.connect(0, 0)
    for n in numbers:
        if book.due(n) == HEALED + 550 * MS:
            book.lie("lost", connection, 0, n, book.due(n) + 30 * MS)
        else:
            book.send(connection, n, book.due(n) + MS)
    assert of(book) == Comeback(fresh_ns=HEALED + MS + 10_000, steady_ns=HEALED + 550 * MS)


def test_a_queue_is_late_until_it_is_empty() -> None:
    back = HEALED + 500 * MS
    found = of(stopped(back, queued=True))
    assert found.fresh_ns == back + 10_000
    assert found.steady_ns == back + 10_000


def test_a_second_stop_begins_the_hold_again() -> None:
    book = Sendings()
    numbers = book.messages(0, END, EVERY)
    connection = book.connect(0, 0)
    for n in numbers:
        due = book.due(n)
        if not (3 * S <= due < HEALED + 100 * MS or HEALED + 600 * MS <= due < HEALED + 1200 * MS):
            book.send(connection, n, due + MS)
    found = of(book)
    assert found.fresh_ns == HEALED + 101 * MS + 10_000
    assert found.steady_ns == HEALED + 1201 * MS + 10_000


def test_a_lost_connection_is_no_steadiness() -> None:
    book = Sendings()
    numbers = book.messages(0, END, EVERY)
    first = book.connect(0, 0, closed_ns=3 * S)
    second = book.connect(0, HEALED + 320 * MS, epoch=1)
    for n in numbers:
        due = book.due(n)
        if due < 3 * S:
            book.send(first, n, due + MS)
        elif due >= HEALED + 320 * MS:
            book.send(second, n, due + MS)
    found = of(book)
    assert found.fresh_ns == found.steady_ns == HEALED + 351 * MS + 10_000


def test_who_never_comes_back_has_no_moment_and_a_pause_of_the_machine_says_nothing() -> None:
    assert of(stopped(END)) == Comeback(fresh_ns=None, steady_ns=None)
    assert of(stopped(HEALED + 3100 * MS)) == Comeback(fresh_ns=None, steady_ns=None), "beyond the limit"
    book = Sendings()
    connection = book.connect(0, 0)
    for n in book.messages(0, END, EVERY):
        if not 5 * S <= book.due(n) < 5 * S + 250 * MS:
            book.send(connection, n, book.due(n) + MS)
    with pytest.raises(AmbiguousError, match="300 ms without a message"):
        of(book)


# -- the comparison

PLANNED = [
    RecoveryRole(consumer=0, kind="untouched", back_s=0.0),
    RecoveryRole(consumer=1, kind="held", back_s=0.5),
    RecoveryRole(consumer=2, kind="held", back_s=None),
]
TRUTH = {
    0: SaidRecovery(fresh_s=0.01, steady_s=0.01),
    1: SaidRecovery(fresh_s=0.51, steady_s=0.56),
    2: SaidRecovery(fresh_s=None, steady_s=None),
}


def results(*, gone: int = 1, slowest: float = 0.51, limited: bool = True) -> dict[str, Any]:
    both = {"first_fresh": slowest, "steady": slowest + 0.05}
    beyond = {"max": 3.0} if limited else {}
    consumers = {name: {"max": None, "not_recovered": gone, "beyond_s": beyond} for name in both}
    distribution = {name: [0.01, most] for name, most in both.items()}
    check = {"name": "clients_not_back<=0 calm", "verdict": "FAIL" if gone else "PASS", "measured": float(gone)}
    return {
        "checks": [check],
        "recovery": [{"fault": "decoy-cut", "consumers": {**consumers, "distribution": distribution}}],
    }


def green(table: dict[int, SaidRecovery], found: dict[str, Any] | None = None) -> bool:
    return all(row.equal for row in compare(PLANNED, TRUTH, table, found or results()))


def test_within_fifty_milliseconds_is_equal_and_beyond_is_not() -> None:
    assert green(TRUTH)
    assert green({**TRUTH, 1: SaidRecovery(fresh_s=0.55, steady_s=0.52)})
    assert not green({**TRUTH, 1: SaidRecovery(fresh_s=0.57, steady_s=0.56)})
    assert not green({**TRUTH, 1: SaidRecovery(fresh_s=0.51, steady_s=0.50)})
    assert not green({**TRUTH, 0: SaidRecovery(fresh_s=0.01, steady_s=0.1)})


def test_who_is_said_to_be_back_and_is_not_and_the_other_way_round_is_seen() -> None:
    assert not green({**TRUTH, 2: SaidRecovery(fresh_s=1.0, steady_s=1.0)})
    assert not green({**TRUTH, 2: SaidRecovery(fresh_s=None, steady_s=1.0)})
    assert not green({**TRUTH, 1: SaidRecovery(fresh_s=None, steady_s=None)})
    assert not green({consumer: said for consumer, said in TRUTH.items() if consumer != 2})
    assert not green(TRUTH, results(gone=0))
    assert not green(TRUTH, results(slowest=0.7))
    assert not green(TRUTH, results(limited=False))
    assert not green(TRUTH, {"checks": [], "recovery": []})
    assert not green(TRUTH, results() | {"checks": []})


def test_a_gateway_that_did_not_stay_silent_is_no_proof() -> None:
    with pytest.raises(ProofError, match="were to stay away"):
        compare(PLANNED, {**TRUTH, 2: TRUTH[0]}, TRUTH, results())
    assert truths([PLANNED[0]], stopped(3 * S).sent(), HEALED, END)[0].fresh_s == pytest.approx(0.00101)


def test_every_kind_of_comeback_is_planned_on_both_transports_and_the_profile_is_valid() -> None:
    from loadtests.model.profile.reading import read_profile

    planned = roles()
    kinds = {"untouched", "held", "queued", "refused", "lossy"}
    half = len(planned) // 2
    for part in (planned[:half], planned[half:]):
        assert {role.kind for role in part} >= kinds - {"untouched"}
    assert {role.kind for role in planned} == kinds
    assert sum(role.back_s is None for role in planned) == 4
    target = '[target]\nkind = "external"\nredis = "127.0.0.1:1"\ngateway = "127.0.0.1:2"\n'
    text = profile(target, "127.0.0.1:3", len(planned))
    assert sum(g.count for g in read_profile(text, file="p", environment={}).profile.consumers) == len(planned)


def test_the_table_is_read_as_it_is_written() -> None:
    head = "fault,consumer,group,detected_s,first_byte_s,first_fresh_s,steady_s\n"
    text = head + "decoy-cut,3,plain,,0.1,0.25,\nother,4,plain,,,,\n"
    assert read_table(text) == {3: SaidRecovery(fresh_s=0.25, steady_s=None)}
