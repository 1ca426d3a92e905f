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
        {"name": "latency", "needs": {"latency_ms": _whole(1, 600_000, 200)}, "may": {"jitter_ms": _whole(0, 600_000)},
         "directions": True, "loses": False, "toxic": True, "least_s": A_DELAY_S},
        {"name": "bandwidth", "needs": {"rate_kb_per_s": _whole(1, 10_000_000, 50)},
         "directions": True, "loses": False, "toxic": True, "least_s": A_LOAD_S},
        {"name": "slicer", "needs": {"average_size_bytes": _whole(1, 1_000_000, 64)},
         "may": {"size_variation_bytes": _whole(0, 1_000_000), "delay_us": _whole(0, 60_000_000)},
         "directions": True, "loses": False, "toxic": True, "upstream_needs": "delay_us", "least_s": A_LOAD_S},
        {"name": "limit-data", "needs": {"limit_bytes": _whole(1, 4_000_000, 100_000)},  # a measurement can carry that
         "directions": True, "hides": True, "toxic": True, "cuts": LASTING, "least_s": A_LOAD_S},
        {"name": "slow-close", "needs": {"close_delay_ms": _whole(1, 600_000, 500)},
         "directions": True, "loses": False, "toxic": True, "least_s": A_DELAY_S},
        {"name": "down", "hides": True, "cuts": "as it begins"},
        {"name": "flap", "needs": {"period_s": Key(of="number", limits={"ge": 0.2, "le": 3600}, offered=1)},
         "may": {"down_share": Key(of="number", limits={"gt": 0, "lt": 1})}, "hides": True,
         "cuts": LASTING},
        {"name": "reset", "directions": True, "hides": True, "toxic": True, "cuts": LASTING},
        {"name": "black-hole", "directions": True, "hides": True, "toxic": True, "cuts": LASTING},
        {"name": "failover", "needs": {"to": Key(of="address or spare", offered="spare")},
         "may": {"keep": Key(of="yes")}, "hides": True,
         "cuts": LASTING},
    ),
    *(
        replace(row, destructive=True, services=row.services or SERVICES)
        for row in _rows(
            "service",
            {"name": "kill", "hides": True, "stops": True, "ends_process": True, "on_process": True, "by": STOPS},
            {"name": "restart", "hides": True, "instant": True, "stops": True, "ends_process": True, "on_process": True,
             "least_s": A_LOAD_S, "by": STOPS},
            {"name": "pause", "hides": True, "stops": True, "on_process": True, "by": STOPS},
            {"name": "cpu-limit", "needs": {"cpu_percent": Key(of="number", limits={"ge": 1, "le": 100}, offered=20)},
             "on_process": True, "least_s": 2.0},
            {"name": "memory-limit", "needs": {"memory_mb": _whole(1, 10**6, 200)}, "services": REDIS + POSTGRES,
             "may_end": True, "on_process": True, "least_s": A_LOAD_S},
            {"name": "client-kill", "services": REDIS, "may": {"clients": _choice("pubsub", "all")}, "instant": True},
            {"name": "memory-pressure", "needs": {"headroom_kb": _whole(0, 10**9, 512)}, "services": REDIS,
             "may": {"policy": _choice("noeviction", "allkeys-lru", "allkeys-random", "volatile-lru")}},
            {"name": "output-buffer", "needs": {"limit_kb": _whole(1, 10**9, 256)}, "services": REDIS,
             "own_closed": "disconnected"},
            {"name": "backend-kill", "services": POSTGRES, "may": {"user": Key(of="text")}, "instant": True},
            {"name": "connection-exhaustion", "services": POSTGRES, "may": {"leave": _whole(0, 1000)},
             "least_s": A_LOAD_S},
            {"name": "slow-queries", "needs": {"connections": _whole(1, 200, 4)}, "services": POSTGRES,
             "least_s": A_LOAD_S},
            {"name": "lock", "services": POSTGRES,
             "may": {"table": Key(of="text", limits={"pattern": r"^[a-z_][a-z0-9_]{0,62}$"})}},
        )
    ),
    *_by_users(
        "consumers",
        {"name": "slow-consumers", "plays": f"{CONSUMER}:Slow", "needs": {"read_bytes_per_s": _whole(1, 10**9, 10_000)},
         "may": {"share": SHARE}, "unread": True},
        {"name": "stalled-consumers", "plays": f"{CONSUMER}:Stalled", "may": {"share": SHARE}, "unread": True},
        {"name": "half-open-consumers", "plays": f"{CONSUMER}:HalfOpen", "may": {"share": SHARE}, "unread": True},
        {"name": "vanishing-consumers", "plays": f"{CONSUMER}:Vanishing", "may": {"share": SHARE}},
        {"name": "offline-consumers", "plays": f"{CONSUMER}:Offline", "may": {"share": SHARE}},
        {"name": "reconnect-storm", "plays": f"{CONSUMER}:Storm", "may": {"share": SHARE}},
        {"name": "bad-token", "plays": f"{CONSUMER}:BadToken", "tokens": True,
         "needs": {"token": _choice("missing", "wrong", "expired")}, "may": {"share": SHARE}},
    ),
    *_by_users(
        "publishers",
        {"name": "bad-input", "plays": "publish.bad_input:BadInput",
         "needs": {"form": _choice("malformed", "oversize", "unknown")}, "may": {"share": SHARE}},
    ),
    *_rows(
        "target",
        {"name": "planted-defect", "destructive": True, "charges": False,
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
