"""Does the Locust user keep its slot's life, and does Locust's display show what was received?"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from receiving import RUN, Process, accounts, profile, records

from loadtests.model.ids import pack_stream


@pytest.fixture
def children() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for child in started:
        child.stop()


def test_users_hold_slots_and_the_display_counts_every_delivery(children: list[Process]) -> None:
    common = {"run": RUN, "origin_ns": time.monotonic_ns()}
    # Nine subscriptions: six, then three of them stopped and three anew.
    stream = pack_stream(0, 0, 0)
    tell = {"clients": 6, "subscriptions": 9, "streams": [stream], "count": 100, "rate": 2000, "skip_every": 10}
    children.append(Process("broadcaster", common | tell))
    port = int(children[0].line().split()[1])
    plan = {"profile": profile([{"name": "c", "count": 6}]), "port": port, "expect": 6 * 90}
    children.append(Process("user_tool", common | plan))
    assert children[1].line() == "six"
    assert children[0].line() == "done"
    said = json.loads(children[1].line())
    assert len(said["moved"]) == 3
    assert sorted(slot for slot, _ in said["back"]) == sorted([*range(6), *said["moved"]])
    assert {tuple(b) for b in said["back"] if b[0] in said["moved"]} == {(s, e) for s in said["moved"] for e in (1, 2)}
    assert said["connects"] == 9
    assert said["errors"] == {"message lost (gap in the stream)": said["failures"]}
    assert said["failures"] == 6 * 9, "every tenth is skipped; behind the last nothing shows it"
    assert said["requests"] == 6 * 90 + said["failures"]
    assert said["p50"] < 2000
    assert said["single"] == said["merged"]


def test_python_socketio_is_understood(children: list[Process], tmp_path: Path) -> None:
    common = {"run": RUN, "origin_ns": time.monotonic_ns()}
    children.append(Process("sio_server", common | {"clients": 3, "count": 120, "every_s": 0.01}))
    port = int(children[0].line().split()[1])
    shape = profile([{"name": "c", "count": 3, "transport": "socketio"}])
    plan = {"profile": shape, "port": port, "out": str(tmp_path / "r")}
    children.append(Process("consume_tool", common | plan))
    children[1].ask("connected 3")
    assert children[0].line() == "done"
    children[1].ask("received 360")
    report = children[1].finish()
    assert report["epochs"] == [1, 1, 1], "nobody was thrown out for a ping without answer"
    kept = accounts(records(tmp_path / "r"))
    assert kept == {(c, 0): {0: (0, 119, 120, frozenset(), 0)} for c in range(3)}
    assert children[0].finish()["answered"] == 3 * 12
