"""Does the comparison see each way in which a tool can be wrong?  A tool that is right, then with one thing changed."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from books import CONTRACT, DOJI, HAMMER, JOB, MS, ORIGIN, RUN, Written

from loadtests.model import records as r
from loadtests.model.codec import pack
from proof.comparing import compare
from proof.history import Edge, Found, FoundAccount, Sum, read_history
from proof.sections import Row, SectionResult, compared
from proof.truth import LOST, NO_MESSAGE, NUMBERS, STRANGE, ExpectedDelivery, Truth, expected

STRETCH = (0, 0, DOJI)


def lying_book() -> Written:
    """Every kind of lie once, at consumer 0 or 1."""
    w = Written()
    a, b = w.join(0), w.join(1)
    for at in range(20):
        n = w.event(DOJI, 1000 + at * 10)
        out = {"out_ns": ORIGIN + (1000 + at * 10 + 2500) * MS, "after": 1, "why": "in time"}
        lies: dict[int, tuple[int, str, dict[str, Any]]] = {
            3: (a, "lost", {}),
            4: (a, "held", {}),
            5: (a, "repeated", {"times": 2}),
            6: (a, "reordered", {"out_ns": ORIGIN + 1080 * MS, "after": 1, "why": "in time"}),
            7: (a, "delayed", out),
            8: (a, "queued", {"out_ns": ORIGIN + 1090 * MS, "after": 0, "why": "in time"}),
            9: (a, "conflated", {"out_ns": None, "after": 0, "why": "replaced", "by": 1}),
            10: (a, "foreign-run", {"instead": False}),
            11: (b, "foreign-route", {"instead": False}),
            12: (b, "no-identity", {"instead": False}),
            13: (b, "undecodable", {"instead": False}),
            14: (a, "truncated", {"instead": True}),
        }
        if at in lies:
            connection, kind, more = lies[at]
            w.lie(connection, kind, n, DOJI, at, **more)
        w.event(HAMMER, 1005 + at * 10)
        w.event(JOB, 1005 + at * 10)
    w.lie(b, "dropped-connection", None, None, None, code=1006)
    w.leave(b, 3000, "dropped")
    w.leave(a, 9000)
    return w


def right_tool(truth: Truth) -> tuple[Found, dict[str, Any]]:
    """What a tool without a fault would have written about it."""
    found = Found(origin_ns=ORIGIN)
    for place, connection in truth.connections.items():
        why = "peer closed" if connection.why == "dropped" else "own"
        found.edges[place] = Edge(from_ns=0, to_ns=connection.closed_ns - ORIGIN, why=why)
        found.closed[place] = 1
        for got in truth.got(connection):
            found.accounts[*place, got.stream.packed] = copy.deepcopy(got.account)
            total = found.sums.setdefault(0, Sum())
            total.unique += got.account.unique
            total.repeated += got.account.repeated.total()
            total.timed += got.account.unique + got.account.repeated.total()
    for (consumer, lie), count in truth.strange().items():
        found.strange[consumer, STRANGE[lie]] += count
    for packed, stream in truth.streams.items():
        found.published[packed] = {event.seq for event in stream.events}
    block = expected(truth, found.edges, origin_ns=ORIGIN)
    routes = [
        {"group": group}
        | {name: block.of[group, name] for name in NUMBERS if name not in LOST}
        | {"lost": {name: block.of[group, name] for name in LOST}}
        for group in sorted({group for group, _ in block.of})
    ]
    delivery = {name: block.total(name) for name in NUMBERS} | {
        "published": block.published, "failed": 0, "unknown": 0, **block.no_message, **account_of(block),
    }  # fmt: skip
    return found, {"delivery": delivery, "routes": routes}


def account_of(block: ExpectedDelivery) -> dict[str, Any]:
    """The sums of the results, from the numbers that they are made of."""
    lost = {name: block.total(name) for name in LOST} | {"charged": 0}
    away = {name: block.total(name) for name in ("own_plan", "disconnected")}
    owed = block.total("owed")
    delivered = owed - sum(lost.values())
    return {
        "delivered": delivered,
        "offered": owed + block.total("undecided") + sum(away.values()),
        "rate": round(delivered / (owed + away["disconnected"]), 9),
        "lost": lost | {"total": sum(lost.values())},
        "away": away,
    }


def wrong(rows: list[Row]) -> dict[str, Row]:
    return {row.what: row for row in rows if not row.equal}


def test_a_tool_that_is_right_is_equal_in_every_row() -> None:
    truth = lying_book().truth()
    found, results = right_tool(truth)
    rows = compare(truth, found, results)
    assert not wrong(rows)
    shown = {row.what: row.planted for row in rows}
    kinds = "lost held repeated reordered delayed queued conflated foreign-run foreign-route no-identity undecodable"
    assert {kind: shown[kind] for kind in (*kinds.split(), "truncated", "dropped-connection")} == {
        **dict.fromkeys((*kinds.split(), "truncated", "dropped-connection"), "1"), "repeated": "2",
    }  # fmt: skip


def unfill(found: Found, seq: int) -> None:
    del found.accounts[STRETCH].filled[seq]


def swallow(found: Found, seq: int) -> None:
    found.accounts[STRETCH].skipped.discard(seq)


CHANGES: dict[str, tuple[Callable[[Found], None], str]] = {
    "a gap swallowed": (lambda f: swallow(f, 3), "lost"),
    "a held one swallowed": (lambda f: swallow(f, 4), "held"),
    "a replaced one swallowed": (lambda f: swallow(f, 9), "conflated"),
    "repeats dropped": (lambda f: f.accounts[STRETCH].repeated.clear(), "repeated"),
    "one repeat too few": (lambda f: f.accounts[STRETCH].repeated.subtract([5]), "repeated"),
    "not seen to be out of order": (lambda f: unfill(f, 6), "reordered"),
    "not seen to be overtaken": (lambda f: unfill(f, 7), "delayed"),
    "a queued one not counted": (lambda f: f.accounts[STRETCH].skipped.add(8), "queued"),
    "another run's not counted": (lambda f: f.strange.pop((0, "foreign run"), None) and None, "foreign-run"),
    "another route's not counted": (lambda f: f.strange.pop((1, "foreign route"), None) and None, "foreign-route"),
    "no identity not counted": (lambda f: f.strange.pop((1, "no identity"), None) and None, "no-identity"),
    "no JSON not counted": (lambda f: f.strange.pop((1, "undecodable"), None) and None, "undecodable"),
    "cut short not counted": (lambda f: f.strange.pop((0, "undecodable"), None) and None, "truncated"),
    "a break taken for a good end": (
        lambda f: f.edges.update({(1, 0): Edge(from_ns=0, to_ns=3000 * MS, why="own")}),
        "dropped-connection",
    ),
    "a connection not noted": (lambda f: f.edges.pop((1, 0)) and None, "subscriptions"),
    "an edge seconds away": (
        lambda f: f.edges.update({(0, 0): Edge(from_ns=1500 * MS, to_ns=9000 * MS, why="own")}),
        "subscriptions",
    ),
    "a message invented": (
        lambda f: f.accounts.update({(2, 0, DOJI): FoundAccount(first=0, last=0, unique=1)}),
        "accounts by consumer, connection, stream",
    ),
    "an account of first and last only": (
        lambda f: f.accounts.update({STRETCH: FoundAccount(first=0, last=19, unique=15)}),
        "accounts by consumer, connection, stream",
    ),
    "a strange one invented": (lambda f: f.strange.update({(2, "protocol"): 1}), "messages of no account"),
    "a publish not noted": (lambda f: f.published[JOB].discard(3), "published"),
    "another one noted": (lambda f: f.published.update({JOB: set(range(1, 21))}), "published"),
    "deliveries not summed": (lambda f: f.sums.update({0: Sum(unique=1)}), "deliveries"),
    "latencies left out": (lambda f: f.sums.update({0: Sum(unique=117, repeated=2)}), "deliveries with a latency"),
    "a torn file": (lambda f: f.torn.append("main: half a frame"), "history is whole"),
    "exceptions dropped": (lambda f: setattr(f, "not_kept", 4), "exceptions that were not kept"),
    "a budget exceeded": (lambda f: f.at_least.add((0, 0)), "accounts that say at least"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_tool_that_is_wrong_in_one_thing_is_found_out(change: str) -> None:
    do, named = CHANGES[change]
    truth = lying_book().truth()
    found, results = right_tool(truth)
    do(found)
    rows = wrong(compare(truth, found, results))
    assert named in rows
    assert rows[named].differences


def test_the_first_difference_names_consumer_stream_and_seq() -> None:
    truth = lying_book().truth()
    found, results = right_tool(truth)
    swallow(found, 3)
    rows = wrong(compare(truth, found, results))
    (text,) = rows["lost"].differences
    assert all(part in text for part in ("consumer 0 epoch 0", f"stream {DOJI}", "seq 3")), text
    (text,) = rows["accounts by consumer, connection, stream"].differences
    assert "skipped lacks seq [3]" in text


@pytest.mark.parametrize(
    "number",
    [*NUMBERS, *NO_MESSAGE, "published", "rate", "failed", "unknown", "total", "charged", "offered", "delivered"],
)
def test_each_number_of_the_results_counts(number: str) -> None:
    truth = lying_book().truth()
    found, results = right_tool(truth)
    delivery = results["delivery"]
    where = next((delivery[part] for part in ("lost", "away") if number in delivery[part]), delivery)
    where[number] += 1
    (row,) = wrong(compare(truth, found, results)).values()
    assert row.what.startswith("results: ")


@pytest.mark.parametrize("number", ["owed", "unique", "repeated", "reordered", "late"])
def test_each_number_of_a_route_counts(number: str) -> None:
    truth = lying_book().truth()
    found, results = right_tool(truth)
    results["routes"][0][number] += 1
    assert list(wrong(compare(truth, found, results))) == ["results: numbers of each family and group"]


def test_of_a_killed_process_nothing_is_said_and_of_all_else_everything() -> None:
    truth = lying_book().truth()
    found, results = right_tool(truth)
    del found.edges[1, 0]
    for stretch in [s for s in found.accounts if s[0] == 1]:
        del found.accounts[stretch]
    block = expected(truth, found.edges, origin_ns=ORIGIN, but=frozenset({1}))
    for name in ("owed", "unique", "undecided"):
        results["delivery"][name] = block.total(name)
    results["delivery"] |= account_of(block) | {"offered": None}
    assert not wrong(compare(truth, found, results, but=frozenset({1})))
    results["delivery"]["undecided"] += 1
    assert list(wrong(compare(truth, found, results, but=frozenset({1})))) == ["results: undecided or away"]
    swallow(found, 3)
    assert "lost" in wrong(compare(truth, found, results, but=frozenset({1})))


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    records: list[r.Record] = [
        r.Header(
            run=RUN, process="main", role="standalone", profile_sha256="", origin_ns=ORIGIN, origin_unix_ns=0,
            boot_id="", slice_ns=1, versions={},
        ),
        r.Subscription(consumer=1, epoch=0, group=0, step="asked", at_ns=1, route_set=0),
        r.Subscription(consumer=1, epoch=0, group=0, step="confirmed", at_ns=2, route_set=0),
        r.Subscription(consumer=1, epoch=0, group=0, step="leaving", at_ns=8, route_set=0),
        r.Subscription(consumer=1, epoch=0, group=0, step="left", at_ns=9, route_set=0, why="own"),
        r.Subscription(consumer=1, epoch=1, group=0, step="left", at_ns=9, route_set=0, why="connect failed"),
        r.Deviations(
            kind=["gap", "filled", "repeated", "repeated"], consumer=[1] * 4, epoch=[0] * 4, stream=[DOJI] * 4,
            first=[2, 3, 5, 5], last=[4, 3, 6, 5], at_ns=[1] * 4, more=2,
        ),
        r.Strange(kind=["foreign run"], consumer=[1], count=[3], at_ns=[1], example=[""]),
        r.Closing(consumer=[1, 2], epoch=[0, 0], stream=[DOJI], first=[0], last=[9], unique=[8]),
        r.Published(stream=[DOJI], due_slice=[1], sent_slice=[1], first=[0], last=[9], bytes=[1]),
        r.Settled(stream=[DOJI], first=[9], last=[9], outcome=["FAILED"], at_ns=[1]),
        r.Consumed(
            group=0, due_slice=1, received_slice=1, clock="read", unique=8, repeated=3, bytes=1,
            latency=([1, 2], [5, 5]), negative=1,
        ),
        r.Consumed(
            group=0, due_slice=1, received_slice=1, clock="kernel", unique=0, repeated=0, bytes=0, latency=([1], [5]),
            negative=0,
        ),
    ]  # fmt: skip
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "main.tsh").write_bytes(b"".join(pack(0, records)) + b"TkS1 and no more")
    found = read_history(tmp_path)
    account = FoundAccount(
        first=0, last=9, unique=8, skipped={2, 3, 4}, filled=Counter({3: 1}), repeated=Counter({5: 2, 6: 1})
    )
    assert found.account((1, 0, DOJI)) == account
    assert account.missing == {2, 4}
    assert found.account((2, 0, DOJI)) == FoundAccount(first=0, last=9, unique=8)
    assert found.edges == {(1, 0): Edge(from_ns=2, to_ns=8, why="own")}
    assert (found.origin_ns, found.not_kept, found.strange[1, "foreign run"]) == (ORIGIN, 2, 3)
    assert found.sums == {0: Sum(unique=8, repeated=3, timed=11)}
    assert (found.published[DOJI], found.not_ok[DOJI]) == (set(range(10)), {9})
    assert found.torn == ["main: half a frame head"]


def test_no_history_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_history(tmp_path)


def test_a_section_without_rows_proves_nothing() -> None:
    assert not SectionResult(name="empty", rows=(), seconds=0).equal
    assert SectionResult(name="one", rows=(compared("x", 1, 1),), seconds=0).equal
    assert not SectionResult(name="two", rows=(compared("x", 1, 1), compared("y", 1, 2)), seconds=0).equal


def test_a_row_is_not_equal_and_different() -> None:
    assert compared("x", 1, 1, ("consumer 3",)).equal is False
    with pytest.raises(ValueError, match="consumer 3"):
        Row(what="x", planted="1", found="1", equal=True, differences=("consumer 3",))


def test_the_contract_of_the_books_is_the_profiles() -> None:
    assert [route.index for route in CONTRACT.routes] == [s & 0xFFFFF for s in (DOJI, HAMMER, DOJI + 2, JOB)]
