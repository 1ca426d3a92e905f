"""Does a hostile target cost more than bounded memory, does it become a record, and does anybody else notice?

A real server over TCP: it serves three consumers well while it attacks two others of the same process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from receiving import RUN, Process, accounts, expected, of, profile, records

from loadtests.model.ids import pack_stream
from loadtests.model.records import Strange, Subscription

pytestmark = pytest.mark.group("ATTACKS")

STREAMS = [pack_stream(0, 0, 0), pack_stream(1, 0, 0)]
VICTIM_KB = 16 * 1024
"""What one victim may cost: the longest message, while it is cut and copied."""
SLACK_KB = 24 * 1024
"""The tables of parsed frames, and what an allocator keeps."""


def groups(victims: int) -> list[dict[str, Any]]:
    policy = {"first_ms": 50.0, "max_ms": 200.0}
    return [{"name": "served", "count": 3}, {"name": "victims", "count": victims, "reconnect": policy}]


WITHIN_S = 3  # whoever goes on for ever is heard of by then, beside others too
UNCONFIRMED, UNCONNECTED = f"no confirmation within {WITHIN_S} s", f"not connected within {WITHIN_S} s"
# attack -> (why the subscription attempt ended, a part of what the record says, kind of the strange record)
ATTACKS: dict[str, tuple[str, str, str]] = {
    "silent": ("connect failed", UNCONNECTED, ""),
    "endless_header": ("harness", "64 KiB", ""),
    "dripping_header": ("connect failed", UNCONNECTED, ""),
    "dripping_frame": ("error", UNCONFIRMED, ""),
    "endless_fragments": ("harness", "longer than guard.message_bytes", ""),
    "empty_fragments": ("error", UNCONFIRMED, ""),
    "giant": ("harness", "longer than guard.message_bytes", ""),
    "highest_bit": ("error", "a length with its highest bit set", "protocol"),
    "pings": ("error", UNCONFIRMED, ""),
    "empty_frames": ("error", UNCONFIRMED, "no identity"),
    "compressed": ("error", "reserved bits are set", "protocol"),
    "masked": ("error", "a masked frame", "protocol"),
    "closes": ("peer closed", "1001", ""),
    "nested": ("error", UNCONFIRMED, "undecodable"),
    "probes": ("error", UNCONFIRMED, ""),
    "garbage": ("error", "", "protocol"),
}

LITTLE = ["silent", "dripping_header", "dripping_frame"]
"""They send next to nothing, and only the library path makes room for what was announced."""
# Those that go on until the time is up, and those that end by themselves, who get all the time they need.
BATCHES = [
    [*LITTLE, "empty_fragments", "probes"],
    ["empty_frames", "nested"],
    ["endless_header", "endless_fragments", "giant", "highest_bit", "compressed", "masked", "closes", "garbage"],
    ["pings"],
]

# Against the library path: what it sees otherwise, and what only it can see.
INFLATED = ATTACKS | {
    "masked": ("error", "incorrect masking", "protocol"),
    "compressed": ("error", "text that is not UTF-8", "protocol"),
    "bombs": ("error", UNCONFIRMED, "no identity"),
    "one_bomb": ("harness", "longer than guard.message_bytes", ""),
}
INFLATED_BATCHES = [
    ["dripping_frame", "bombs", "closes"],
    ["endless_fragments", "giant", "highest_bit", "masked", "one_bomb", "garbage", "compressed"],
]

Attack = Callable[[list[str], str], tuple[list[Any], dict[str, Any]]]


@pytest.fixture
def attack(tmp_path: Path) -> Iterator[Attack]:
    children: list[Process] = []

    def under(names: list[str], source: str) -> tuple[list[Any], dict[str, Any]]:
        common = {"run": RUN, "origin_ns": time.monotonic_ns()}
        tell = {"clients": 3, "streams": STREAMS, "count": 200, "rate": 800, "attacks": names, "victims": 3}
        children.append(Process("hostile", common | tell))
        server = children[0]
        address = {"kind": "external", "redis": "r:1", "gateway": "g:1", "compression": source == "library"}
        plan = {"profile": profile(groups(len(names)), target=address), "port": int(server.line().split()[1])}
        plan |= {"out": str(tmp_path / "r"), "source": source, "first": 3}
        tool = Process("consume_tool", common | plan)
        children.append(tool)
        slots = json.loads(tool.ask("connected 3"))
        told = INFLATED if source == "library" else ATTACKS
        tool.ask(f"all {WITHIN_S}" if any(told[name][1] in (UNCONFIRMED, UNCONNECTED) for name in names) else "all 20")
        for victim in range(len(names)):
            tool.ask(f"epoch {3 + victim} 2")
        assert server.line() == "done"
        slots |= json.loads(tool.ask("connected 3"))  # the first three may have been victims
        report = tool.finish()
        report["expected"] = {
            (slots[str(client["port"])], 0): expected(map(tuple, client["sent"])) for client in server.finish()
        }
        return records(tmp_path / "r"), report

    yield under
    for child in children:
        child.stop()


def test_every_attack_is_tried() -> None:
    assert sorted(name for batch in BATCHES for name in batch) == sorted(ATTACKS)


@pytest.mark.parametrize(
    ("source", "names"),
    [("hub-epoll", names) for names in BATCHES]
    + [
        pytest.param(source, names, marks=pytest.mark.prove_all)
        for source, batches in (("greenlet", BATCHES), ("library", INFLATED_BATCHES))
        for names in batches
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_an_attack_is_a_record_and_nothing_else(attack: Attack, names: list[str], source: str, calm_kb: int) -> None:
    found, report = attack(names, source)
    assert report["receive"] == source
    told = INFLATED if source == "library" else ATTACKS
    ours = {victim for victim, name in enumerate(names, 3) if told[name][0] == "harness"}
    assert {who for _, *consumers in report["troubles"] for who in consumers} == ours
    assert all(consumers for _, *consumers in report["troubles"]), "each of the consumers that it concerns"
    assert {at: streams for at, streams in accounts(found).items() if at[0] < 3} == report["expected"]
    assert not [s for s in of(Strange, found) if min(s.consumer) < 3]
    for victim, name in enumerate(names, 3):
        why, detail, kind = told[name]
        left = [s for s in of(Subscription, found) if s.consumer == victim and s.step == "left"]
        ended = [(s.why, s.detail) for s in left if s.why not in ("own", "end")]
        assert any(reason == why and detail in words for reason, words in ended), (name, ended)
        assert all(len(words) <= 200 for _, words in ended), name
        rows = [zip(s.kind, s.consumer, strict=True) for s in of(Strange, found)]
        odd = {what for row in rows for what, who in row if who == victim}
        assert (kind in odd) if kind else not odd, (name, odd)
    costly = [name for name in names if source == "library" or name not in LITTLE]
    assert report["max_rss_kb"] <= calm_kb + SLACK_KB + VICTIM_KB * len(costly)


@pytest.fixture(scope="module")
def calm_kb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """What the same consumers cost when nobody attacks."""
    common = {"run": RUN, "origin_ns": time.monotonic_ns()}
    server = Process("broadcaster", common | {"clients": 5, "streams": STREAMS, "count": 100, "rate": 2000})
    port = int(server.line().split()[1])
    out = tmp_path_factory.mktemp("calm") / "r"
    tool = Process("consume_tool", common | {"profile": profile(groups(2)), "port": port, "out": str(out)})
    try:
        tool.ask("connected 5")
        assert server.line() == "done"
        yield tool.finish()["max_rss_kb"]
    finally:
        tool.stop()
        server.stop()
