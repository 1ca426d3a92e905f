"""Which kinds of fault may a profile name, where does each act, and which keys does it take?  The table; data only.

What a kind does is a file in `inject/kinds`; a test holds the two tables together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from loadtests.model.stackwire import SERVICES

NOT_ALLOWED_HERE = "not allowed here: "
"""So begins what a step says where this machine's rights, and nothing else, kept a fault from acting."""

Place = Literal["link", "service", "consumers", "publishers", "target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    """One row."""

    name: str
    place: Place  # what the fault names: a link, a service, a consumer or publisher group; target: its own switches
    services: tuple[str, ...] = ()  # that it may act on; one alone need not be named
    needs: frozenset[str] = frozenset()  # keys of its own
    may: frozenset[str] = frozenset()
    directions: bool = False  # acts on one stream of a link where asked
    hides: bool = False  # nothing else on the same place can be seen under it
    destructive: bool = False  # only on a target that the profile marks as a test system
    instant: bool = False  # nothing stays in force, so it is healed at once; its effect is watched for `for_s`
    charges: bool = True  # losses on its path are charged to it; a planted defect is the target's all the same
    loses: bool = True  # may take from the middle of a stream whose connection lasts; what only delays takes nothing
    stops: bool = False  # its service does not serve: down and started again count, the time until it is ready apart
    may_end: bool = False  # the process that it acts on may end of it without having been told to


def _rows(*rows: FaultKind) -> Mapping[str, FaultKind]:
    return {row.name: row for row in rows}


def _on_link(
    name: str,
    *needs: str,
    may: tuple[str, ...] = (),
    directions: bool = False,
    hides: bool = False,
    loses: bool = True,
) -> FaultKind:
    return FaultKind(
        name=name,
        place="link",
        needs=frozenset(needs),
        may=frozenset(may),
        directions=directions,
        hides=hides,
        loses=loses,
    )


def _on_service(
    name: str,
    *needs: str,
    services: tuple[str, ...] = SERVICES,
    may: tuple[str, ...] = (),
    hides: bool = False,
    instant: bool = False,
    stops: bool = False,
    may_end: bool = False,
) -> FaultKind:
    return FaultKind(
        name=name,
        place="service",
        services=services,
        needs=frozenset(needs),
        may=frozenset(may),
        destructive=True,
        hides=hides,
        instant=instant,
        stops=stops,
        may_end=may_end,
    )


def _on_consumers(name: str, *needs: str) -> FaultKind:
    return FaultKind(name=name, place="consumers", needs=frozenset(needs), may=frozenset({"share"}))


REDIS: tuple[str, ...] = ("redis",)
POSTGRES: tuple[str, ...] = ("postgres",)

KINDS: Mapping[str, FaultKind] = _rows(
    _on_link("latency", "latency_ms", may=("jitter_ms",), directions=True, loses=False),
    _on_link("bandwidth", "rate_kb_per_s", directions=True, loses=False),
    _on_link("slicer", "average_size_bytes", may=("size_variation_bytes", "delay_us"), directions=True, loses=False),
    _on_link("limit-data", "limit_bytes", directions=True, hides=True),
    _on_link("slow-close", "close_delay_ms", directions=True, loses=False),
    _on_link("down", hides=True),
    _on_link("flap", "period_s", may=("down_share",), hides=True),
    _on_link("reset", directions=True, hides=True),
    _on_link("black-hole", directions=True, hides=True),
    _on_link("failover", "to", may=("keep",), hides=True),
    _on_service("kill", hides=True, stops=True),
    _on_service("restart", hides=True, instant=True, stops=True),
    _on_service("pause", hides=True, stops=True),
    _on_service("cpu-limit", "cpu_percent"),
    _on_service("memory-limit", "memory_mb", services=REDIS + POSTGRES, may_end=True),
    _on_service("client-kill", services=REDIS, may=("clients",), instant=True),
    _on_service("memory-pressure", "headroom_kb", services=REDIS, may=("policy",)),
    _on_service("output-buffer", "limit_kb", services=REDIS),
    _on_service("backend-kill", services=POSTGRES, may=("user",), instant=True),
    _on_service("connection-exhaustion", services=POSTGRES, may=("leave",)),
    _on_service("slow-queries", "connections", services=POSTGRES),
    _on_service("lock", services=POSTGRES, may=("table",)),
    _on_consumers("slow-consumers", "read_bytes_per_s"),
    _on_consumers("stalled-consumers"),
    _on_consumers("half-open-consumers"),
    _on_consumers("vanishing-consumers"),
    _on_consumers("offline-consumers"),
    _on_consumers("reconnect-storm"),
    _on_consumers("bad-token", "token"),
    FaultKind(
        name="bad-input",
        place="publishers",
        needs=frozenset({"form"}),
        may=frozenset({"share"}),
    ),
    FaultKind(
        name="planted-defect",
        place="target",
        needs=frozenset({"defect", "amount"}),
        destructive=True,
        charges=False,
    ),
)
"""By name, in the order of the manual."""

OWN_KEYS: tuple[str, ...] = (
    "latency_ms",
    "jitter_ms",
    "rate_kb_per_s",
    "average_size_bytes",
    "size_variation_bytes",
    "delay_us",
    "limit_bytes",
    "close_delay_ms",
    "period_s",
    "down_share",
    "to",
    "keep",
    "cpu_percent",
    "memory_mb",
    "clients",
    "headroom_kb",
    "policy",
    "limit_kb",
    "user",
    "leave",
    "connections",
    "table",
    "share",
    "read_bytes_per_s",
    "token",
    "form",
    "defect",
    "amount",
)
"""Keys of a fault that only some kinds take; what a fault asks is told by them."""
