"""What is known while a run goes on?  For the live page and for rules such as "until recovered"; never evidence."""

from __future__ import annotations

import msgspec


class LiveFault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault as far as it has come."""

    name: str
    kind: str
    link: str
    state: str  # planned, announced, active, healed, not lifted, failed
    from_s: float | None
    to_s: float | None
    proved: bool | None
    by_hand: bool = False
    plan_from_s: float | None = None
    plan_to_s: float | None = None
    asked: dict[str, float | int | str] = {}
    effective: dict[str, float | int | str | None] = {}
    detail: str = ""
    fresh: int | None = None  # clients that got a message that was due after the healing
    fresh_s: float | None = None  # when the last of them got it
    limit_s: float | None = None  # a recovery may take so long


class LiveLink(msgspec.Struct, frozen=True, kw_only=True):
    """A link between two services, as far as anything measures it; None is "not measured"."""

    name: str
    client: str  # who connects
    server: str
    rate_per_s: float | None = None  # messages, in the last second of which all is known
    rate_is: str = ""
    delay_ms: float | None = None  # of the same second
    delay_is: str = ""
    age_s: float | None = None  # since the end of that second
    probe: str = ""  # what the injector's last ping through it saw: answer, silent, refused, ...; empty: none came yet
    probe_ms: float | None = None  # its round trip
    probe_age_s: float | None = None  # since it was seen


class LiveService(msgspec.Struct, frozen=True, kw_only=True):
    """A service of the pipeline."""

    name: str
    memory_mb: float | None = None
    cpu_percent: float | None = None
    read_age_s: float | None = None  # since these two were read
    health_ms: float | None = None  # answer time of its health page
    healthy: bool | None = None
    health_age_s: float | None = None  # since its health page was asked
    ended: str = ""  # how its process ended, where nobody of ours had told it to and no new one was seen since


class LiveNote(msgspec.Struct, frozen=True, kw_only=True):
    """What the user wrote down while the run went on."""

    at_s: float
    text: str


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """The run as the harness folds it from the batches that have come so far."""

    run: str = ""
    profile: str = ""
    state: str = "idle"  # idle, preparing, connecting, running, draining, judging, done
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
    overdue: int = 0  # due longer ago than the delivery limit, and in no gap: late, lost, or missed while away
    unseen: int = 0  # may come in time: owed = delivered + lost_so_far + overdue + unseen
    repeated: int = 0
    judged: bool = False  # the counts are those of the report
    latency_ms: dict[str, float | None] = {}  # p50, p95, p99 of what was received in the last whole second
    age_s: float | None = None  # since the end of that second
    memory_mb: dict[str, float] = {}
    cpu_percent: dict[str, float] = {}
    read_age_s: dict[str, float] = {}  # since these two were last read, by process
    faults: list[LiveFault] = []
    links: list[LiveLink] = []
    services: list[LiveService] = []
    consumers: list[str] = []  # groups
    publishers: list[str] = []
    notes: list[LiveNote] = []
    test_system: bool = False  # destructive faults are allowed
    closed: str = ""  # why no fault can be played by hand now; empty: it can
    refused: dict[str, str] = {}  # "kind", or "kind place" where not at all: why this run never plays it by hand
    series: dict[
        str, list[float | None]
    ] = {}  # one value per second: t, published, delivered, p50, p95, p99, connected, ...
    problem: str = ""  # why the last start came to nothing
    verdict: str = ""
    reasons: list[str] = []
    report: str = ""  # report's address below the web UI, once there is one
    trouble: list[str] = []


class OfferedProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A profile that a form can start, Locust's or the live page's."""

    name: str
    label: str
    problem: str = ""  # why it cannot be started; then there is nothing else
    question: str = ""
    plan_s: float = 0.0  # warm-up and plan
    planned_users: int = 0
    planned_rate: float = 0.0  # users per second
    users: int = 0  # as the command line asked, where it did
    rate: float = 0.0
    consumers: int = 0
    host: str = ""


class PastRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of the reports folder."""

    run: str
    profile: str = ""
    started_at: str = ""
    duration_s: float | None = None  # from the warm-up's start to the finish
    verdict: str = ""  # empty: it was never judged
    reason: str = ""  # the first
    page: bool = False  # there is a report.html


class Between(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to start and to look at while no run goes on."""

    profiles: list[OfferedProfile] = []
    chosen: str = ""  # the name that a form begins with
    runs: list[PastRun] = []  # newest first
