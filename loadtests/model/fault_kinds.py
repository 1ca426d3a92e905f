"""Which kinds of fault may a profile name, where does each act, and which keys does it take?  The table; data only.

What a kind does is in the file of `inject/kinds` that its row names (`part`). Profiles, forms, documents, rules and the
proofs know a kind by its row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from loadtests.model.stackwire import SERVICES

NOT_ALLOWED_HERE = "not allowed here: "
"""So begins what a step says where this machine's rights, and nothing else, kept a fault from acting."""

Place = Literal["link", "service", "consumers", "publishers", "target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKey:
    """What a key of a fault takes: limits as pydantic names them (ge, gt, le, lt, pattern), or a choice of words."""

    of: Literal["whole", "number", "yes", "text", "address or spare", "choice"]
    limits: Mapping[str, float | str] = field(default_factory=dict)
    choices: tuple[str, ...] = ()


def _whole(ge: int, le: int) -> FaultKey:
    return FaultKey(of="whole", limits={"ge": ge, "le": le})


def _choice(*words: str) -> FaultKey:
    return FaultKey(of="choice", choices=words)


Keys = Mapping[str, FaultKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    """One row."""

    name: str
    place: Place  # what the fault names: a link, a service, a consumer or publisher group; target: its own switches
    services: tuple[str, ...] = ()  # that it may act on; one alone need not be named
    needs: Keys = field(default_factory=dict)  # keys of its own
    may: Keys = field(default_factory=dict)
    directions: bool = False  # acts on one stream of a link where asked
    hides: bool = False  # nothing else on the same place can be seen under it
    destructive: bool = False  # only on a target that the profile marks as a test system
    instant: bool = False  # nothing stays in force, so it is healed at once; its effect is watched for `for_s`
    charges: bool = True  # losses on its path are charged to it; a planted defect is the target's all the same
    loses: bool = True  # may take from the middle of a stream whose connection lasts; what only delays takes nothing
    stops: bool = False  # its service does not serve: down and started again count, the time until it is ready apart
    may_end: bool = False  # the process that it acts on may end of it without having been told to
    toxic: bool = False  # adds a toxic to a link and removes it; others disable the proxy, which works beside readers
    unread: bool = False  # bytes wait unread at a consumer, and then in Toxiproxy
    on_process: bool = False  # acts on a process, and only the local stack's are ours
    least_s: float = 0.5  # shorter, it is over before its probe has seen it
    shares: str = ""  # the file of `inject/kinds` that it shares with others; empty: it has one of its own name

    @property
    def part(self) -> str:
        """The file of `inject/kinds` that acts, without its ending."""
        return self.shares or self.name.replace("-", "_")

    @property
    def keys(self) -> Keys:
        """All of its own."""
        return {**self.needs, **self.may}


MS, BYTES = _whole(1, 600_000), _whole(1, 1_000_000)
SHARE = FaultKey(of="number", limits={"gt": 0, "le": 1})
REDIS: tuple[str, ...] = ("redis",)
POSTGRES: tuple[str, ...] = ("postgres",)
STOPS = "service_stops"
A_LOAD_S, A_DELAY_S = 1.0, 0.2
"""How long a fault lasts at least that is measured by a load, or by one answer that is waited for."""


def _rows(place: Place, *rows: dict[str, Any]) -> Iterator[FaultKind]:
    for row in rows:
        yield FaultKind(place=place, **row)


def _by_users(place: Place, *rows: dict[str, Any]) -> Iterator[FaultKind]:
    for row in _rows(place, *rows):
        yield replace(row, shares="on_users")


_KINDS = (
    *_rows(
        "link",
        {"name": "latency", "needs": {"latency_ms": MS}, "may": {"jitter_ms": _whole(0, 600_000)},
         "directions": True, "loses": False, "toxic": True, "least_s": A_DELAY_S},
        {"name": "bandwidth", "needs": {"rate_kb_per_s": _whole(1, 10_000_000)},
         "directions": True, "loses": False, "toxic": True, "least_s": A_LOAD_S},
        {"name": "slicer", "needs": {"average_size_bytes": BYTES},
         "may": {"size_variation_bytes": _whole(0, 1_000_000), "delay_us": _whole(0, 60_000_000)},
         "directions": True, "loses": False, "toxic": True, "least_s": A_LOAD_S},
        {"name": "limit-data", "needs": {"limit_bytes": _whole(1, 4_000_000)},  # so much a measurement can carry
         "directions": True, "hides": True, "toxic": True, "least_s": A_LOAD_S},
        {"name": "slow-close", "needs": {"close_delay_ms": MS},
         "directions": True, "loses": False, "toxic": True, "least_s": A_DELAY_S},
        {"name": "down", "hides": True},
        {"name": "flap", "needs": {"period_s": FaultKey(of="number", limits={"ge": 0.2, "le": 3600})},
         "may": {"down_share": FaultKey(of="number", limits={"gt": 0, "lt": 1})}, "hides": True},
        {"name": "reset", "directions": True, "hides": True, "toxic": True},
        {"name": "black-hole", "directions": True, "hides": True, "toxic": True},
        {"name": "failover", "needs": {"to": FaultKey(of="address or spare")}, "may": {"keep": FaultKey(of="yes")},
         "hides": True},
    ),
    *(
        replace(row, destructive=True, services=row.services or SERVICES)
        for row in _rows(
            "service",
            {"name": "kill", "hides": True, "stops": True, "on_process": True, "shares": STOPS},
            {"name": "restart", "hides": True, "instant": True, "stops": True, "on_process": True, "least_s": A_LOAD_S,
             "shares": STOPS},
            {"name": "pause", "hides": True, "stops": True, "on_process": True, "shares": STOPS},
            {"name": "cpu-limit", "needs": {"cpu_percent": FaultKey(of="number", limits={"ge": 1, "le": 100})},
             "on_process": True, "least_s": 2.0},
            {"name": "memory-limit", "needs": {"memory_mb": _whole(1, 10**6)}, "services": REDIS + POSTGRES,
             "may_end": True, "on_process": True, "least_s": A_LOAD_S},
            {"name": "client-kill", "services": REDIS, "may": {"clients": _choice("pubsub", "all")}, "instant": True},
            {"name": "memory-pressure", "needs": {"headroom_kb": _whole(0, 10**9)}, "services": REDIS,
             "may": {"policy": _choice("noeviction", "allkeys-lru", "allkeys-random", "volatile-lru")}},
            {"name": "output-buffer", "needs": {"limit_kb": _whole(1, 10**9)}, "services": REDIS},
            {"name": "backend-kill", "services": POSTGRES, "may": {"user": FaultKey(of="text")}, "instant": True},
            {"name": "connection-exhaustion", "services": POSTGRES, "may": {"leave": _whole(0, 1000)},
             "least_s": A_LOAD_S},
            {"name": "slow-queries", "needs": {"connections": _whole(1, 200)}, "services": POSTGRES,
             "least_s": A_LOAD_S},
            {"name": "lock", "services": POSTGRES,
             "may": {"table": FaultKey(of="text", limits={"pattern": r"^[a-z_][a-z0-9_]{0,62}$"})}},
        )
    ),
    *_by_users(
        "consumers",
        {"name": "slow-consumers", "needs": {"read_bytes_per_s": _whole(1, 10**9)}, "may": {"share": SHARE},
         "unread": True},
        {"name": "stalled-consumers", "may": {"share": SHARE}, "unread": True},
        {"name": "half-open-consumers", "may": {"share": SHARE}, "unread": True},
        {"name": "vanishing-consumers", "may": {"share": SHARE}},
        {"name": "offline-consumers", "may": {"share": SHARE}},
        {"name": "reconnect-storm", "may": {"share": SHARE}},
        {"name": "bad-token", "needs": {"token": _choice("missing", "wrong", "expired")}, "may": {"share": SHARE}},
    ),
    *_by_users(
        "publishers",
        {"name": "bad-input", "needs": {"form": _choice("malformed", "oversize", "unknown")}, "may": {"share": SHARE}},
    ),
    *_rows(
        "target",
        {"name": "planted-defect", "destructive": True, "charges": False,
         "needs": {"defect": _choice("drop", "duplicate", "reorder", "fail", "delay", "leak"),
                   "amount": _whole(1, 10_000_000)}},
    ),
)  # fmt: skip

KINDS: Mapping[str, FaultKind] = {row.name: row for row in _KINDS}
"""By name, in the order of the manual."""

OWN_KEYS: Keys = {name: key for row in _KINDS for name, key in row.keys.items()}
"""Keys of a fault that only some kinds take; what a fault asks is told by them. One name means one thing."""


def named(has: Callable[[FaultKind], bool]) -> frozenset[str]:
    """The kinds of which something holds."""
    return frozenset(name for name, kind in KINDS.items() if has(kind))
