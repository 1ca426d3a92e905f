"""What do the stack's supervisor and its callers say to each other?  One JSON line asks, one JSON line answers.

Spoken over a Unix socket by `tickstorm stack`, by `tickstorm run` and by the injector.  Touches no socket itself.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SERVICES: tuple[str, ...] = ("redis", "postgres", "toxiproxy", "gateway", "producer")
"""Services of the local stack, in the order in which they start."""

SPARES: tuple[str, ...] = ("redis", "postgres", "gateway")
"""Services that the stack can start a second time, for a link that fails over."""

LINKS: tuple[str, ...] = (
    "publisher-redis",
    "producer-redis",
    "gateway-redis",
    "gateway-postgres",
    "producer-postgres",
    "client-gateway",
)
"""Links of the local stack: who connects - to whom, each through one Toxiproxy proxy named PROXY_PREFIX + link."""

PROXY_PREFIX = "tickstorm."
"""Every proxy of ours carries it, so that a sweep never touches a foreign proxy."""

ServiceState = Literal["starting", "ready", "paused", "stopped", "dead"]
Action = Literal[
    "status", "down", "start", "stop", "kill", "pause", "resume", "restart", "switch", "spare", "end-spare"
]


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """One server process of the stack."""

    address: str  # host:port that answers
    pid: int | None
    version: str  # as the server itself states it
    state: ServiceState
    origin: str  # "PATH", "wheel", "built", "ours"
    ready_ns: int | None = None  # monotonic time of the last successful readiness probe after a start
    down_ns: int | None = None  # monotonic time at which it last ceased to serve: stopped, killed, paused, found dead
    started_ns: int | None = None  # monotonic time of the last start or resumption
    error: str = ""  # of a dead one: exit status and last words
    ends: int = 0  # how often it ended by itself, since the stack is there
    last_end: str = ""  # exit status and last words of the last time


class LinkAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a link is entered and where it leads."""

    proxy: str
    listen: str  # host:port that the connecting service uses
    upstream: str  # host:port behind the proxy


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What `tickstorm stack status --json` prints."""

    services: dict[str, Service]
    links: dict[str, LinkAddress]
    folder: str  # the stack's folder: logs/, data; never put into a report
    supervisor_pid: int
    spares: dict[str, Service] = {}  # of which services a second server runs: `spare` and `end-spare`
    ending: bool = False  # it is being brought down


class Ask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request to the supervisor."""

    do: Action
    service: str | None = None
    wait_s: float = 20.0  # how long the supervisor may take until the service is ready or gone
    settings: dict[str, str] = {}  # `switch`: settings of the reference target's own fault switches


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The supervisor's reply; `error` is a sentence for the user."""

    ok: bool
    error: str = ""
    status: Status | None = None
    before_ns: int = 0  # monotonic, just before the action
    after_ns: int = 0  # monotonic, when the action was known to have taken effect
