"""What is known while a run goes on?  For the live page and for rules such as "until recovered"; never evidence."""

from __future__ import annotations

import msgspec


class LiveFault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault as far as it has come."""

    name: str
    kind: str
    link: str
    state: str  # planned, active, healed
    from_s: float | None
    to_s: float | None
    proved: bool | None


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """The run as the harness folds it from the batches that have come so far."""

    run: str = ""
    profile: str = ""
    state: str = "idle"  # idle, connecting, running, draining, judging, done
    phase: str = ""
    now_s: float = 0.0
    plan_s: float = 0.0
    planned: int = 0
    connected: int = 0
    publishing: int = 0
    published: int = 0
    not_offered: int = 0
    owed: int = 0
    delivered: int = 0
    lost_so_far: int = 0  # gaps not filled; the verdict counts anew
    unseen: int = 0
    repeated: int = 0
    latency_ms: dict[str, float | None] = {}  # p50, p95, p99 of the last whole second
    memory_mb: dict[str, float] = {}
    cpu_percent: dict[str, float] = {}
    faults: list[LiveFault] = []
    series: dict[
        str, list[float | None]
    ] = {}  # one value per second: t, published, delivered, p50, p95, p99, connected, ...
    verdict: str = ""
    reasons: list[str] = []
    report: str = ""  # report's address below the web UI, once there is one
    trouble: list[str] = []
