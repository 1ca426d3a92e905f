"""Which bytes and records come of fixed plans?  What publishers send, consumers ask and account, and faults set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from unittest import mock

import msgspec

from loadtests.drive.consume.chunks import Chunks, Control
from loadtests.drive.consume.frames import Cutter, wire
from loadtests.drive.consume.handshake import agent
from loadtests.drive.consume.read_accounting import account_read
from loadtests.drive.publish.commands import Commands, Stamp
from loadtests.inject.kinds import KINDS
from loadtests.inject.kinds.kind import Site
from loadtests.inject.link import Link
from loadtests.inject.toxics import ToxiproxyServer
from loadtests.model.codec import pack
from loadtests.model.contract import Contract
from loadtests.model.fault_kinds import KINDS as ROWS
from loadtests.model.ids import NS_PER_MS, NS_PER_S, SLICE_NS, pack_stream
from loadtests.model.injectwire import PlannedFault
from loadtests.model.kinds import part
from loadtests.model.profile.reading import read_profile
from loadtests.model.records import Record
from loadtests.model.registry import TRANSPORTS
from loadtests.plan.workload import Workload
from loadtests.tally.accountant import Accountant
from loadtests.tally.publishing import PublishTally
from tests.inject.fakes import FakeToxiproxy

ROOT: Final = Path(__file__).resolve().parents[2]
RUN: Final = "20260101-000000-golden-0000"
T0: Final = 10 * NS_PER_S
AT_ONCE, MESSAGES = 16, 400
"""Messages of one send, and of one slot."""
PROFILES: Final = ("first-run", "burst", "tickstock-baseline", "locust-quick")


def contract_of(name: str) -> Contract:
    """Of a shipped profile."""
    path = ROOT / "profiles" / f"{name}.toml"
    return Contract(read_profile(path.read_bytes(), file=path.name).profile)


def digest(pieces: list[bytes]) -> str:
    """Of all of them, in order."""
    return hashlib.sha256(b"".join(pieces)).hexdigest()


def told(records: list[Record]) -> dict[str, Any]:
    """How many of each kind, and a digest of their bytes in a history."""
    kinds: dict[str, int] = {}
    for record in records:
        kinds[type(record).__name__] = kinds.get(type(record).__name__, 0) + 1
    return {"records": kinds, "sha256": digest(list(pack(0, records)))}


def published(name: str) -> dict[str, Any]:
    """What the first publisher of each group sends, and what is written down of it: some answers, an error, silence."""
    contract = contract_of(name)
    profile, workload = contract.profile, Workload(contract.profile, contract)
    found: dict[str, Any] = {}
    groups = {contract.publisher_group(slot)[0]: slot for slot in reversed(range(contract.publisher_count))}
    for group, slot in sorted(groups.items()):
        plan, tally = workload.publisher(slot), PublishTally()
        commands = Commands(
            contract, group, run=RUN, identity=profile.identity, seed=profile.seed,
            routes=len(contract.publisher_routes(slot)),
        )  # fmt: skip
        streams, sent, number = commands.streams(slot, 0, tally), [], plan.next_block(0)
        while number is not None and len(sent) < MESSAGES:
            block = plan.block(number)
            for at in range(0, len(block.due_ns), AT_ONCE):
                due = [T0 + ns for ns in block.due_ns[at : at + AT_ONCE]]
                some = slice(at, at + AT_ONCE)
                routes, rows, left = block.routes[some], block.rows[some], due[-1] + NS_PER_MS
                last = len(sent) + len(due)
                for index, ns in enumerate(due):
                    slices = ns // SLICE_NS, left // SLICE_NS
                    made = streams.build([routes[index]], [ns], left, rows[index : index + 1], slices)
                    sent.append(made.data)
                    tally.sent(group, slices[0], [ns], due[-1])
                    if last % 7 == 0:
                        stream, _ = streams.stream(routes[index])
                        tally.settled(stream, made.seqs[0], "UNKNOWN", due[-1], "no answer in time")
                    else:
                        tally.answered(group, ns // SLICE_NS, 3, 1)
            number = plan.next_block(number + 1)
        found[profile.publishers[group].name] = {
            "messages": len(sent), "sha256": digest(sent), "first": sent[0].decode(),
            "kept": told(list(tally.records())),
        }  # fmt: skip
    return found


def publishing() -> dict[str, Any]:
    """Of all shipped profiles."""
    with mock.patch.object(Stamp, "now", return_value=b"2026-01-02T03:04:05.678Z"):
        return {name: published(name) for name in PROFILES}


class Line:
    """One consumer's connection without a socket."""

    def __init__(self, tally: Accountant, chunks: Chunks, consumer: int, transport: Any) -> None:
        self.account = tally.account(consumer=consumer, epoch=0, group=0, routes=frozenset({0, 1}), transport=transport)
        self.chunks, self.cached, self.cutter, self.clean = chunks, chunks.cached, Cutter(), True


def payloads() -> list[bytes]:
    """Of one publisher: what it put into its commands."""
    from loadtests.tally.identity import encode  # the identity alone, where no payload is needed

    return [
        b'{"n":%d,"tickstorm":%b}'
        % (
            n,
            encode(
                "object", RUN, pack_stream(0, 0, n % 2), n // 2, T0 + n * 10 * NS_PER_MS, T0 + n * 10 * NS_PER_MS + 1000
            ),
        )
        for n in range(60)
    ]


WRAPPED: Mapping[str, Callable[[bytes], bytes]] = {
    "websocket": lambda payload: wire(b'{"event":"all","data":%b}' % payload),
    "socketio": lambda payload: wire(b'42["all",%b]' % payload),
}


def consuming() -> dict[str, Any]:
    """What three consumers of each transport account: one got all, one lost some, one got some twice and junk."""
    found: dict[str, Any] = {}
    for name, transport in TRANSPORTS.items():
        dialect = part(transport.by)("tickstorm", "object")
        tally = Accountant(
            family_of_route=[0, 1], copies_of_family=[1, 1], consumer_groups=1, exceptions_per_s=1000, now_ns=T0
        )
        chunks = Chunks(dialect, tally.streams, RUN)
        lines = [Line(tally, chunks, consumer, name) for consumer in range(3)]
        controls: list[Control] = []
        wrapped = [WRAPPED[name](payload) for payload in payloads()]
        for n, frame in enumerate(wrapped):
            now_ns = T0 + n * 10 * NS_PER_MS + 3 * NS_PER_MS
            given = {0: frame, 1: b"" if n % 9 == 4 else frame, 2: frame * 2 if n % 13 == 5 else frame}
            if n % 20 == 10:
                given[2] += wire(b"{nothing") + b"\x89\x02hi"
            for line, chunk in zip(lines, given.values(), strict=True):
                if chunk:
                    controls += account_read(tally, line, chunk, now_ns)
        for line in lines:
            tally.close_account(line.account)
        records = [record for record in tally.pieces(T0 + NS_PER_S, final=True) if record is not None]
        found[name] = told(records) | {"said": [repr(control) for control in controls]}
    return found


def asking() -> dict[str, Any]:
    """What a consumer says to a gateway; what it is masked with is random."""
    body = {"channels": ["a.b"], "patterns": ["x"], "symbols": []}
    with mock.patch("loadtests.drive.consume.frames.os.urandom", lambda count: b"\x00" * count):
        found = {
            name: {
                "subscribe": dialect.request("subscribe", 7, body).hex(),
                "open": (dialect.greeting(Control("open", {})) or b"").hex(),
                "ping": (dialect.greeting(Control("ping", b"probe")) or b"").hex(),
                "wanted": (dialect.greeting(Control("ack wanted", None, 3)) or b"").hex(),
                "token": (dialect.with_token("secret").greeting(Control("open", {})) or b"").hex(),
            }
            for name, row in TRANSPORTS.items()
            for dialect in (part(row.by)("tickstorm", "object"),)
        }
    return found | {"agent": agent("1.0", RUN, 3, 1)}


NEED_A_SERVER = ("flap", "failover")
"""Kinds whose act asks what stands there, again and again: `tests/inject` plays them on real servers."""
ASKED: Mapping[str, dict[str, Any]] = {
    "latency": {"latency_ms": 100, "jitter_ms": 10},
    "bandwidth": {"rate_kb_per_s": 50},
    "slicer": {"average_size_bytes": 64, "size_variation_bytes": 8, "delay_us": 100},
    "limit-data": {"limit_bytes": 2000},
    "slow-close": {"close_delay_ms": 100},
}


def acting() -> dict[str, Any]:
    """What each kind on a link asks of Toxiproxy when it acts and when it is undone, and what its journal holds."""
    found: dict[str, Any] = {}
    for name in sorted(name for name, row in ROWS.items() if row.place == "link" and name not in NEED_A_SERVER):
        fake = FakeToxiproxy()
        try:
            link = Link(server=ToxiproxyServer(fake.address), name="x", proxy="tickstorm.x", speaks="redis")
            fault = PlannedFault(
                name="f", kind=name, link="x", direction="both", at_ns=0, until_ns=NS_PER_S, asked=ASKED.get(name, {})
            )
            kind, site = KINDS[name], Site(link=link)
            undo = kind.undo_of(site, fault)
            kind.apply(site, fault)
            acts = len(fake.calls)
            kind.undo(site, undo)
            calls = [" ".join((*call, str(body or ""))) for call, body in zip(fake.calls, fake.bodies, strict=True)]
            found[name] = {
                "undo": undo, "acts": calls[:acts], "undoes": calls[acts:], "problems": kind.problems(fault),
            }  # fmt: skip
        finally:
            fake.close()
    return found


RECORDED: Mapping[str, Callable[[], dict[str, Any]]] = {
    "publishing": publishing, "consuming": consuming, "asking": asking, "acting": acting,
}  # fmt: skip


def as_json(name: str) -> str:
    """One of them, as it is kept."""
    return msgspec.json.format(msgspec.json.encode(RECORDED[name]()), indent=1).decode()
