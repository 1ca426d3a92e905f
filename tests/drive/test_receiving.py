"""Does the receiving side account exactly what a real server sent, over both transports and both sources?"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from receiving import RUN, Process, accounts, expected, of, profile, records

from loadtests.model.ids import pack_stream
from loadtests.model.records import Consumed, Record, Strange, Subscription, Touched

STREAMS = [pack_stream(0, 0, 0), pack_stream(1, 0, 0), pack_stream(1, 1, 0)]
Start = Callable[[str, dict[str, Any]], Process]


@pytest.fixture
def start() -> Iterator[Start]:
    children: list[Process] = []

    def begin(script: str, plan: dict[str, Any]) -> Process:
        children.append(Process(script, plan))
        return children[-1]

    yield begin
    for child in children:
        child.stop()


class Trial:
    """One broadcast to some consumers, from start to records."""

    def __init__(self, start: Start, out: Path, shape: dict[str, Any], tell: dict[str, Any], **tool: Any) -> None:
        self.origin_ns = time.monotonic_ns()
        self.out = out
        common = {"run": RUN, "origin_ns": self.origin_ns}
        count = sum(c["count"] for c in shape["consumers"])
        plan = common | {"clients": count, "streams": STREAMS, "count": 200, "rate": 3000} | tell
        self.server = start("broadcaster", plan)
        self.port = int(self.server.line().split()[1])
        self.tool = start("consume_tool", common | {"profile": shape, "port": self.port, "out": str(out)} | tool)
        self.count = count
        self.consumer_of_port: dict[str, int] = {}

    def connected(self) -> None:

        self.consumer_of_port = json.loads(self.tool.ask(f"connected {self.count}"))

    def finish(self) -> tuple[list[Record], dict[str, Any], list[dict[str, Any]]]:
        report = self.tool.finish()
        return records(self.out), report, self.server.finish()


BOTH = [
    {"name": "plain", "count": 6, "transport": "websocket"},
    {"name": "sio", "count": 6, "transport": "socketio"},
]


@pytest.mark.parametrize(
    ("source", "cached", "stamps"),
    [("hub-epoll", True, "sampled"), ("hub-epoll", False, "every"), ("greenlet", True, "sampled")],
)
def test_spoilt_streams_are_accounted_exactly(
    start: Start, tmp_path: Path, source: str, cached: bool, stamps: str
) -> None:
    shape = profile(BOTH, sampling={"stamps": stamps, "one_in": 8})
    trial = Trial(start, tmp_path / "r", shape, {"spoil": 0.06, "strange": True}, source=source, cached=cached)
    trial.connected()
    assert trial.server.line() == "done"
    found, report, log = trial.finish()

    assert report["receive"] == source
    assert report["troubles"] == []
    kept = accounts(found)
    for client in log:
        consumer = trial.consumer_of_port[str(client["port"])]
        assert kept[consumer, 0] == expected(map(tuple, client["sent"]))
        assert client["pongs"] >= 1
    sent = sum(len(c["sent"]) for c in log)
    cells = of(Consumed, found)
    read = [c for c in cells if c.clock == "read"]
    assert sum(c.unique + c.repeated for c in read) == sent
    assert sum(sum(c.latency[1]) + c.negative for c in read) == sent
    assert sum(c.unique for c in read) == sum(u for streams in kept.values() for _, _, u, _, _ in streams.values())
    kernel = [c for c in cells if c.clock == "kernel"]
    if source == "hub-epoll":
        # A process that is put aside between its two looks at the clocks takes a stamp for older than it is, sometimes
        # older than the message: such a sample is counted apart, as negative, and its read delay all the same.
        samples = sum(sum(c.latency[1]) + c.negative for c in kernel)
        assert samples > (sent * 0.9 if stamps == "every" else 20)
        assert sum(sum(c.read_delay[1]) for c in kernel) == samples
        assert sum(c.negative for c in kernel) < samples / 10, "what the kernel stamped is mostly believable"
        assert sum(sum(c.service[1]) for c in kernel) == samples - sum(c.negative for c in kernel)
        assert all(c.unique == c.repeated == c.bytes == 0 for c in kernel)
    else:
        assert not kernel
        assert sum(sum(c.service[1]) for c in read) > 20
    strange: dict[str, int] = {}
    for record in of(Strange, found):
        for kind, count in zip(record.kind, record.count, strict=True):
            strange[kind] = strange.get(kind, 0) + count
    assert strange == {"foreign run": 12, "undecodable": 12, "no identity": 12}


def test_each_subscription_tells_its_steps(start: Start, tmp_path: Path) -> None:
    trial = Trial(start, tmp_path / "r", profile(BOTH), {"count": 20})
    trial.connected()
    assert trial.server.line() == "done"
    assert trial.tool.ask("stop 3") == "stopped"
    found, _, _ = trial.finish()
    for consumer in range(12):
        steps = [(s.step, s.why) for s in of(Subscription, found) if s.consumer == consumer]
        assert steps == [
            ("asked", ""),
            ("confirmed", ""),
            ("leaving", ""),
            ("left", "moved" if consumer == 3 else "own"),
        ]
        times = [s.at_ns for s in of(Subscription, found) if s.consumer == consumer]
        assert times == sorted(times)


def test_a_cut_connection_comes_back_as_a_new_epoch(start: Start, tmp_path: Path) -> None:
    shape = profile([c | {"reconnect": {"first_ms": 20.0, "max_ms": 50.0}} for c in BOTH])
    trial = Trial(start, tmp_path / "r", shape, {"count": 30, "cut": True})
    trial.connected()
    first = dict(trial.consumer_of_port)
    assert trial.server.line() == "done"
    trial.tool.ask("epochs 2")
    trial.connected()
    found, report, log = trial.finish()
    assert report["troubles"] == []
    kept = accounts(found)
    for client in log:
        if str(client["port"]) in first:
            assert kept[first[str(client["port"])], 0] == expected(map(tuple, client["sent"]))
    left = {(s.consumer, s.epoch): s.why for s in of(Subscription, found) if s.step == "left"}
    assert {left[c, 0] for c in range(12)} == {"peer closed"}
    assert {left[c, 1] for c in range(12)} == {"own"}
    named = f"Tickstorm/{version('tickstorm')} run/{RUN} consumer/%d epoch/%d"
    assert sorted(c["agent"] for c in log) == sorted(named % (c, e) for c in range(12) for e in (0, 1))
    assert {c["agent"] for c in log if str(c["port"]) in first} == {named % (c, 0) for c in range(12)}


def test_nobody_listening_is_recorded_and_tried_again(start: Start, tmp_path: Path) -> None:

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    shape = profile([{"name": "plain", "count": 3, "reconnect": {"first_ms": 10.0, "max_ms": 20.0}}])
    origin = time.monotonic_ns()
    common = {"run": RUN, "origin_ns": origin}
    tool = start("consume_tool", common | {"profile": shape, "port": port, "out": str(tmp_path / "r")})
    tool.ask("tried 9")
    server = start("broadcaster", common | {"clients": 3, "streams": STREAMS, "count": 5, "rate": 1000, "port": port})
    server.line()
    tool.ask("connected 3")
    report = tool.finish()
    server.finish()
    left = [s for s in of(Subscription, records(tmp_path / "r")) if s.step == "left"]
    failed = [s for s in left if s.why == "connect failed"]
    assert {s.consumer for s in failed} == {0, 1, 2}
    assert len(failed) < sum(1 for why in report["connects"] if why)
    assert {s.epoch for s in left if s.why == "own"} == {s.epoch + 1 for s in failed if s.consumer == 0}


def test_the_end_of_a_run_waits_for_no_answer(start: Start, tmp_path: Path) -> None:
    trial = Trial(start, tmp_path / "r", profile(BOTH), {"mute": True}, open_s=600.0)
    assert trial.server.line() == "asked"  # the plain ones for a subscription, the others for a session
    found, report, _ = trial.finish()
    left = {s.consumer: (s.why, s.detail) for s in of(Subscription, found) if s.step == "left"}
    assert left == dict.fromkeys(range(12), ("own", "not confirmed when the run ended"))
    assert report["connects"] == ["subscription failed: the run is over"] * 12
    assert not [s for s in of(Subscription, found) if s.step == "confirmed"]


def test_a_slow_reader_reads_slowly_and_harms_nobody(start: Start, tmp_path: Path) -> None:
    slow = {"name": "slow", "count": 1, "read_bytes_per_s": 20_000, "expect_slow": True}
    shape = profile([{"name": "fast", "count": 2}, slow])
    trial = Trial(start, tmp_path / "r", shape, {"count": 300, "rate": 3000, "pad": 150})
    trial.connected()
    trial.tool.ask(f"received {2 * 900 + 30}")
    found, _, _ = trial.finish()
    first = min(c.received_slice for c in of(Consumed, found))
    fast = sum(c.unique for c in of(Consumed, found) if c.group == 0 and c.clock == "read")
    held = sum(c.unique for c in of(Consumed, found) if c.group == 1 and c.received_slice < first + 10)
    assert fast == 1800
    assert held < 130, "a second's bytes are some 70 messages"


def test_an_announced_fault_gets_every_consumers_slices(start: Start, tmp_path: Path) -> None:
    trial = Trial(start, tmp_path / "r", profile(BOTH), {"count": 600, "rate": 900})
    trial.connected()
    trial.tool.ask(f"received {12 * 300}")
    trial.tool.ask("touch open")
    trial.tool.ask(f"received {12 * 900}")
    trial.tool.ask("touch close")
    assert trial.server.line() == "done"
    found, _, log = trial.finish()
    rows = [t for t in of(Touched, found) if t.complete]
    assert len({t.received_slice for t in rows}) == len(rows)
    per_slice: dict[int, int] = {}
    for cell in of(Consumed, found):
        if cell.clock == "read":
            per_slice[cell.received_slice] = per_slice.get(cell.received_slice, 0) + cell.unique + cell.repeated
    touched = {t.received_slice: sum(t.count) for t in rows}
    assert {s: n for s, n in touched.items() if n} == {s: n for s, n in per_slice.items() if s in touched}
    assert sum(touched.values()) >= 12 * 900
    for row in rows:
        assert all(a <= b for a, b in zip(row.first_ns, row.last_ns, strict=True))
        assert all(worst >= 0 for worst in row.worst_latency_ns)
    assert all(len(c["sent"]) == 1800 for c in log)
