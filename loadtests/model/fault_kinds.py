"""Which kinds of fault may a profile name, where does each act, and which keys does it take?  The table; data only.

What a kind does is in the file of `inject/kinds` that its row names (`part`). Profiles, forms, documents, rules and the
proofs know a kind by its row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from loadtests.model.kinds import FaultKind, Key, Keys, Place, registry
from loadtests.model.stackwire import SERVICES

NOT_ALLOWED_HERE = "not allowed here: "
"""So begins what a step says where this machine's rights, and nothing else, kept a fault from acting."""


def _whole(ge: int, le: int, offered: int | None = None) -> Key:
    return Key(of="whole", limits={"ge": ge, "le": le}, offered=offered)


def _choice(*words: str) -> Key:
    return Key(of="choice", choices=words)


SHARE = Key(of="number", limits={"gt": 0, "le": 1})
REDIS: tuple[str, ...] = ("redis",)
POSTGRES: tuple[str, ...] = ("postgres",)
STOPS, USERS = "loadtests.inject.kinds.service_stops", "loadtests.inject.kinds.on_users"
"""Files that several kinds share."""
CONSUMER = "consume.consumer_faults"
LASTING: Literal["while it lasts"] = "while it lasts"
"""Cuts again at each period, connection, limit or switch back; a black hole's connections end when it is lifted."""
A_LOAD_S, A_DELAY_S = 1.0, 0.2
"""How long a fault lasts at least that is measured by a load, or by one answer that is waited for."""


def _rows(place: Place, *rows: dict[str, Any]) -> Iterator[FaultKind]:
    for row in rows:
        yield FaultKind(place=place, **row)


def _by_users(place: Place, *rows: dict[str, Any]) -> Iterator[FaultKind]:
    for row in _rows(place, *rows):
        yield replace(row, by=USERS, plays=f"loadtests.drive.{row.plays}")


_KINDS = (
    *_rows(
        "link",
        {"name": "latency",
         "help": "Every chunk that passes the link arrives later by that time.",
         "needs": {"latency_ms": _whole(1, 600_000, 200)}, "may": {"jitter_ms": _whole(0, 600_000)},
         "directions": True, "loses": False, "toxic": True, "least_s": A_DELAY_S},
        {"name": "bandwidth",
         "help": "Each connection of the link carries at most so many kilobytes a second.",
         "needs": {"rate_kb_per_s": _whole(1, 10_000_000, 50)},
         "directions": True, "loses": False, "toxic": True, "least_s": A_LOAD_S},
        {"name": "slicer",
         "help": "What passes the link arrives in small pieces, with pauses between them where a delay is given.",
         "needs": {"average_size_bytes": _whole(1, 1_000_000, 64)},
         "may": {"size_variation_bytes": _whole(0, 1_000_000), "delay_us": _whole(0, 60_000_000)},
         "directions": True, "loses": False, "toxic": True, "upstream_needs": "delay_us", "least_s": A_LOAD_S},
        {"name": "limit-data",
         "help": "Each connection of the link is closed once so many bytes have passed.",
         "needs": {"limit_bytes": _whole(1, 4_000_000, 100_000)},  # a measurement can carry that
         "directions": True, "hides": True, "toxic": True, "cuts": LASTING, "least_s": A_LOAD_S},
        {"name": "slow-close",
         "help": "When one end closes a connection, the other end hears of it later.",
         "needs": {"close_delay_ms": _whole(1, 600_000, 500)},
         "directions": True, "loses": False, "toxic": True, "least_s": A_DELAY_S},
        {"name": "down",
         "help": "All connections of the link are cut, and new ones are refused until the end.",
         "hides": True, "cuts": "as it begins"},
        {"name": "flap",
         "help": "The link is cut and open by turns, one turn in each period.",
         "needs": {"period_s": Key(of="number", limits={"ge": 0.2, "le": 3600}, offered=1)},
         "may": {"down_share": Key(of="number", limits={"gt": 0, "lt": 1})}, "hides": True,
         "cuts": LASTING},
        {"name": "reset",
         "help": "Connections of the link are torn down at their next traffic, new ones at once.",
         "directions": True, "hides": True, "toxic": True, "cuts": LASTING},
        {"name": "black-hole",
         "help": "Connections stay open and new ones are accepted, but nothing passes until the end.",
         "directions": True, "hides": True, "toxic": True, "cuts": LASTING},
        {"name": "failover",
         "help": "The link is switched over to a second server for the time, as after a failover.",
         "needs": {"to": Key(of="address or spare", offered="spare")},
         "may": {"keep": Key(of="yes")}, "hides": True,
         "cuts": LASTING},
    ),
    *(
        replace(row, destructive=True, services=row.services or SERVICES)
        for row in _rows(
            "service",
            {"name": "kill",
             "help": "The process is killed (SIGKILL) and started again at the end.",
             "hides": True, "stops": True, "ends_process": True, "on_process": True, "by": STOPS},
            {"name": "restart",
             "help": "The process is stopped and started again at once; its effect is watched for that time.",
             "hides": True, "instant": True, "stops": True, "ends_process": True, "on_process": True,
             "least_s": A_LOAD_S, "by": STOPS},
            {"name": "pause",
             "help": "The process stands still (SIGSTOP) with all its connections open, and goes on at the end.",
             "hides": True, "stops": True, "on_process": True, "by": STOPS},
            {"name": "cpu-limit",
             "help": "The process gets only that share of one CPU core.",
             "needs": {"cpu_percent": Key(of="number", limits={"ge": 1, "le": 100}, offered=20)},
             "on_process": True, "least_s": 2.0},
            {"name": "memory-limit",
             "help": "The process may use no more than so much memory, and may end of it.",
             "needs": {"memory_mb": _whole(1, 10**6, 200)}, "services": REDIS + POSTGRES,
             "may_end": True, "on_process": True, "least_s": A_LOAD_S},
            {"name": "client-kill",
             "help": "Redis closes the connections of its clients once; whoever reads must connect again.",
             "services": REDIS, "may": {"clients": _choice("pubsub", "all")}, "instant": True},
            {"name": "memory-pressure",
             "help": "Redis has hardly any memory left: by its policy it refuses writes or drops keys.",
             "needs": {"headroom_kb": _whole(0, 10**9, 512)}, "services": REDIS,
             "may": {"policy": _choice("noeviction", "allkeys-lru", "allkeys-random", "volatile-lru")}},
            {"name": "output-buffer",
             "help": "Redis closes subscribers that read too slowly much sooner than it would.",
             "needs": {"limit_kb": _whole(1, 10**9, 256)}, "services": REDIS,
             "own_closed": "disconnected"},
            {"name": "backend-kill",
             "help": "PostgreSQL ends the sessions of its clients once; whoever asks must connect again.",
             "services": POSTGRES, "may": {"user": Key(of="text")}, "instant": True},
            {"name": "connection-exhaustion",
             "help": "Hardly any connection of PostgreSQL is left: new clients are turned away.",
             "services": POSTGRES, "may": {"leave": _whole(0, 1000)},
             "least_s": A_LOAD_S},
            {"name": "slow-queries",
             "help": "Sessions of ours keep PostgreSQL busy, so that other queries wait.",
             "needs": {"connections": _whole(1, 200, 4)}, "services": POSTGRES,
             "least_s": A_LOAD_S},
            {"name": "lock",
             "help": "One table of PostgreSQL is locked: whoever needs it waits until the end.",
             "services": POSTGRES,
             "may": {"table": Key(of="text", limits={"pattern": r"^[a-z_][a-z0-9_]{0,62}$"})}},
        )
    ),
    *_by_users(
        "consumers",
        {"name": "slow-consumers",
         "help": "Chosen clients read only so many bytes a second, so the target must hold or drop the rest.",
         "plays": f"{CONSUMER}:Slow", "needs": {"read_bytes_per_s": _whole(1, 10**9, 10_000)},
         "may": {"share": SHARE}, "unread": True},
        {"name": "stalled-consumers",
         "help": "Chosen clients stop reading, but their connections stay open.",
         "plays": f"{CONSUMER}:Stalled", "may": {"share": SHARE}, "unread": True},
        {"name": "half-open-consumers",
         "help": "Chosen clients fall silent without a close, as after a pulled cable.",
         "plays": f"{CONSUMER}:HalfOpen", "may": {"share": SHARE}, "unread": True},
        {"name": "vanishing-consumers",
         "help": "Chosen clients vanish with a reset and come back, again and again.",
         "plays": f"{CONSUMER}:Vanishing", "may": {"share": SHARE}},
        {"name": "offline-consumers",
         "help": "Chosen clients leave, and come back at the end.",
         "plays": f"{CONSUMER}:Offline", "may": {"share": SHARE}},
        {"name": "reconnect-storm",
         "help": "Chosen clients close all at once and come back without waiting.",
         "plays": f"{CONSUMER}:Storm", "may": {"share": SHARE}},
        {"name": "bad-token",
         "help": "Chosen clients come back with a token that the target must refuse.",
         "plays": f"{CONSUMER}:BadToken", "tokens": True,
         "needs": {"token": _choice("missing", "wrong", "expired")}, "may": {"share": SHARE}},
    ),
    *_by_users(
        "publishers",
        {"name": "bad-input",
         "help": "Messages that no subscriber should choke on are published beside the planned ones.",
         "plays": "publish.bad_input:BadInput",
         "needs": {"form": _choice("malformed", "oversize", "unknown")}, "may": {"share": SHARE}},
    ),
    *_rows(
        "target",
        {"name": "planted-defect",
         "help": "The reference target does something wrong on purpose, and is judged for it.",
         "destructive": True, "charges": False,
         "needs": {"defect": _choice("drop", "duplicate", "reorder", "fail", "delay", "leak"),
                   "amount": _whole(1, 10_000_000, 10)}},
    ),
)  # fmt: skip

KINDS: Mapping[str, FaultKind] = registry("faults", _KINDS)
"""By name, in the order of the manual, then those of extensions."""

OWN_KEYS: Keys = {name: key for row in KINDS.values() for name, key in row.keys.items()}
"""Keys of a fault that only some kinds take; what a fault asks is told by them. One name means one thing."""


def named(has: Callable[[FaultKind], bool]) -> frozenset[str]:
    """The kinds of which something holds."""
    return frozenset(name for name, kind in KINDS.items() if has(kind))
