"""Is what we cannot take told as our own trouble, with its consumers and its time, and never as the target's loss?"""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from receiving import RUN, Process, accounts, of, profile, records

from loadtests.drive.consume.health import Inabilities, is_ours
from loadtests.model.ids import pack_stream
from loadtests.model.records import Strange, Subscription

STREAM = pack_stream(0, 0, 0)


class Told:
    def __init__(self) -> None:
        self.rows: list[tuple[int, int, str, list[int]]] = []

    def __call__(self, from_ns: int, to_ns: int, what: str, consumers: Any = (), /) -> None:
        self.rows.append((from_ns, to_ns, what, list(consumers)))


def test_it_lasts_until_the_connection_is_over_and_equal_ones_are_told_once() -> None:
    told = Told()
    found = Inabilities(told)
    found.begin(3, 100, "too long")
    found.begin(3, 150, "another")
    found.begin(1, 120, "too long")
    found.begin(2, 130, "compressed")
    found.end(9, 140)
    found.tell()
    assert told.rows == [], "none of them is over"
    found.end(3, 200)
    found.end(1, 180)
    found.tell()
    assert told.rows == [(100, 200, "too long", [1, 3])]
    found.tell(final=True)
    found.tell(final=True)
    assert told.rows[1:] == [(130, -1, "compressed", [2])]


def test_what_a_connection_needs_of_this_machine_is_ours() -> None:
    assert is_ours(OSError(errno.EMFILE, "Too many open files"))
    assert is_ours(OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"))
    assert not is_ours(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"))
    assert not is_ours(TimeoutError("not connected within 10 s"))


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Any]:
    children: list[Process] = []

    def run(tell: dict[str, Any], orders: list[str], **parts: Any) -> tuple[list[Any], dict[str, Any], Any]:
        common = {"run": RUN, "origin_ns": time.monotonic_ns()}
        whole = {"clients": 2, "streams": [STREAM], "count": 60, "rate": 600} | tell
        children.append(Process("broadcaster", common | whole))
        port = int(children[0].line().split()[1])
        shape = profile([{"name": "c", "count": 2}], **parts)
        plan = {"profile": shape, "port": port, "out": str(tmp_path / "r")}
        children.append(Process("consume_tool", common | plan))
        children[1].ask("connected 2")
        assert children[0].line() == "done"
        for order in orders:
            children[1].ask(order)
        report = children[1].finish()
        return records(tmp_path / "r"), report, children[0].finish()

    yield run
    for child in children:
        child.stop()


@pytest.mark.parametrize("joined", ["lines", "list"])
def test_messages_that_a_gateway_joins_are_all_taken(play: Any, joined: str) -> None:
    found, report, _ = play({"join": joined, "pad": 300}, ["received 120"])
    kept = accounts(found)
    assert {at: streams[STREAM][:3] for at, streams in kept.items()} == {(c, 0): (0, 59, 60) for c in range(2)}
    assert not of(Strange, found)
    assert report["troubles"] == []


def test_a_message_longer_than_we_take_is_our_trouble_until_the_consumer_is_back(play: Any) -> None:
    found, report, _ = play(
        {"long_at": 30, "long_bytes": 70_000}, ["epochs 2", "connected 2"], guard={"message_bytes": 65536}
    )
    left = [(s.consumer, s.why, s.detail) for s in of(Subscription, found) if s.step == "left" and s.epoch == 0]
    words = "a message is longer than guard.message_bytes"
    assert sorted(left) == [(c, "harness", words) for c in range(2)]
    assert not of(Strange, found), "the target broke nothing"
    whats = {what for what, *_ in report["troubles"]}
    assert whats == {words}
    assert sorted({c for _, *who in report["troubles"] for c in who}) == [0, 1]


def test_what_is_said_in_a_refusal_goes_into_the_record(tmp_path: Path) -> None:
    common = {"run": RUN, "origin_ns": time.monotonic_ns()}
    body = json.dumps({"error": "at capacity"})
    server = Process("broadcaster", common | {"clients": 2, "streams": [STREAM], "count": 1, "rate": 1, "refuse": body})
    port = int(server.line().split()[1])
    plan = {"profile": profile([{"name": "c", "count": 2}]), "port": port, "out": str(tmp_path / "r")}
    tool = Process("consume_tool", common | plan)
    try:
        tool.ask("tried 4")
        tool.finish()
    finally:
        tool.stop()
        server.stop()
    left = {(s.why, s.detail) for s in of(Subscription, records(tmp_path / "r")) if s.step == "left"}
    assert left == {("connect failed", f"upgrade answered: HTTP/1.1 503 Service Unavailable; Retry-After: 7; {body}")}
