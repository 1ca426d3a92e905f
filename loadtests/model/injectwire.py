"""What do the harness and the injector process say to each other?  JSON lines over the injector's stdin and stdout.

The injector ends, and heals first, when its stdin closes.  Touches no pipe itself.
"""

from __future__ import annotations

import msgspec

from loadtests.model.records import FaultStep, Note, PathProbe, Trouble


class PlannedFault(msgspec.Struct, frozen=True, kw_only=True):
    """One occurrence of a fault; a repeated one is several, named `name#1`, `name#2` and so on."""

    name: str
    kind: str
    link: str  # link, service or group: `model.fault_kinds` says which
    direction: str  # both, downstream, upstream
    at_ns: int  # run clock
    until_ns: int
    asked: dict[str, int | float | str]  # the keys of its kind: latency_ms, rate_kb_per_s, share, ...
    by_hand: bool = False  # asked for while the run goes on


def not_played(fault: PlannedFault, now_ns: int, why: str, by: str = "") -> FaultStep:
    """The one step of a fault that never acted."""
    return FaultStep(
        name=fault.name,
        kind=fault.kind,
        link=fault.link,
        step="failed",
        before_ns=now_ns,
        after_ns=now_ns,
        asked=dict(fault.asked),
        by=by,
        detail=why,
    )


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag="begin"):
    """First line to the injector."""

    run: str
    origin_ns: int  # CLOCK_MONOTONIC at run-clock 0
    toxiproxy: str  # host:port
    proxies: dict[str, str]  # link -> proxy name
    upstream_kind: dict[str, str]  # link -> redis, postgres, gateway: which application ping its probe speaks
    journal: str  # path of the journal file
    supervisor: str = ""  # folder of the local stack, so that Toxiproxy can be restarted as the last escalation
    probe_every_s: float = 0.25
    link_probe_every_s: float = 1.0  # every link, whether or not a fault is on it; 0: none
    redis: str = ""  # host:port of the server itself, past every proxy
    postgres: str = ""
    database: str = ""
    user: str = ""  # of PostgreSQL; passwords come from the environment
    gateway_http: str = ""  # health and statistics of the gateway, past every proxy
    tls_links: list[str] = []  # links whose far end speaks TLS: their probes do too
    tls_name: str = ""  # the server's name that they ask for
    test_system: bool = False  # destructive kinds are allowed; the injector refuses too
    toxiproxy_pid: int = 0  # of an external target's Toxiproxy on this machine, where the profile names it


class Schedule(msgspec.Struct, frozen=True, kw_only=True, tag="schedule"):
    """The plan, sent when T0 is known."""

    faults: list[PlannedFault]


class Go(msgspec.Struct, frozen=True, kw_only=True, tag="go"):
    """Answer to an announcement: the rings are held, act now. Without it the injector acts after 200 ms."""

    fault: str


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """Lift one fault before its time, or drop it from the plan; its FaultStep tells the rest."""

    fault: str
    by: str


class UserFaultState(msgspec.Struct, frozen=True, kw_only=True, tag="crew_state"):
    """How far the run's own users are with what a UserFaultOrder asked; sums over all processes."""

    fault: str
    counts: dict[str, int]


class HealAll(msgspec.Struct, frozen=True, kw_only=True, tag="heal"):
    """Lift everything now and drop what is still planned; answered by Healed."""

    by: str


class Quit(msgspec.Struct, frozen=True, kw_only=True, tag="quit"):
    """Heal and end."""


ToInjector = Begin | Schedule | Go | End | UserFaultState | HealAll | Quit


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The injector has swept its journal and reaches Toxiproxy."""

    toxiproxy_version: str
    swept: list[str]  # what an earlier run had left, sentences


class Announce(msgspec.Struct, frozen=True, kw_only=True, tag="announce"):
    """The injector is about to act; it waits at most 200 ms for Go."""

    fault: str


class UserFaultOrder(msgspec.Struct, frozen=True, kw_only=True, tag="crew_order"):
    """What the run's own users shall do, or stop doing: a fault that consumers or publishers play themselves.

    They stop by themselves at `until_ns`, so that a dead injector leaves nothing behind.
    """

    fault: str
    kind: str
    where: str  # a group, or consumers, publishers for all
    on: bool
    until_ns: int  # run clock
    asked: dict[str, int | float | str]


class Emitted(msgspec.Struct, frozen=True, kw_only=True, tag="record"):
    """One record for the history."""

    record: FaultStep | Note | PathProbe | Trouble


class Healed(msgspec.Struct, frozen=True, kw_only=True, tag="healed"):
    """Everything is lifted and read back, or `left` says what is not and which command lifts it."""

    left: list[str]


class Alive(msgspec.Struct, frozen=True, kw_only=True, tag="alive"):
    """The injector's process runs; said whenever it has had nothing else to say for a second."""


FromInjector = Ready | Announce | UserFaultOrder | Emitted | Healed | Alive
