"""Which facts and aggregates does the history hold?  Every record is immutable; none is a judgement.

Conventions
- Times are nanoseconds of the run clock, slices are indices of 100 ms (`ids.slice_of`).
- `stream` is a packed stream (`ids.pack_stream`); `consumer` is a consumer slot, numbered through all consumer groups
  of the profile in its order; `epoch` counts the connections of that slot from 0.
- `group` is the index of a consumer group x route family pair: family * number of consumer groups + consumer group.
- Columns of one record have equal lengths.  A sparse histogram is a pair of columns: bucket, count
  (`tally.histogram` has the scale).
- `process` is stated once per file (`Header`), never per record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

Ranges = list[tuple[int, int]]
"""Inclusive ranges of `seq`."""

Sparse = tuple[list[int], list[int]]
"""Sparse histogram: ascending buckets, their counts."""

EMPTY: Sparse = ([], [])

Phase = Literal["connect", "warm-up", "baseline", "fault", "recovery", "drain", "end"]
Clock = Literal["kernel", "read"]


class _Record(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag_field="type"):
    pass


class Header(_Record, frozen=True, kw_only=True, array_like=True, tag="header"):
    """First record of every file: who wrote it and at what grain. It comes again as the last, in a frame of its own."""

    run: str
    process: str  # "main", "worker-0", "injector", ...
    role: str  # standalone, master, worker, injector
    profile_sha256: str
    origin_ns: int  # CLOCK_MONOTONIC at run-clock 0, on the machine of the master
    origin_unix_ns: int  # CLOCK_REALTIME at the same moment; for people only
    boot_id: str
    clock_offset_ns: int = 0  # added to this process's monotonic clock to get the master's
    clock_error_ns: int = 0
    slice_ns: int
    versions: dict[str, str]
    receive: str = ""  # hub-epoll, greenlet, library
    started_at: str = ""  # ISO 8601, UTC
    workers: int = 0  # number of worker processes the run began with; master and standalone only
    machine: str = ""  # cpu model, cores, kernel: the machine's print, no host name
    frames: int = -1  # of the last: how many frames the file has; 0: its last frame says; -1: nobody says


class Effective(_Record, frozen=True, kw_only=True, array_like=True, tag="effective"):
    """Every effective value of the run, and where it came from; `relaxed` marks a limit that was loosened."""

    key: list[str]
    value: list[str]  # JSON text
    source: list[str]  # "profile", "environment NAME", "option", "default", "file PATH", "start form"
    relaxed: list[bool]


class Published(_Record, frozen=True, kw_only=True, array_like=True, tag="published"):
    """Messages handed to Redis, one row per stream x due slice x sent slice. Sent order is seq order."""

    stream: list[int]
    due_slice: list[int]
    sent_slice: list[int]
    first: list[int]
    last: list[int]
    bytes: list[int]


class Settled(_Record, frozen=True, kw_only=True, array_like=True, tag="settled"):
    """Outcomes that are not plain OK, of messages that a Published row covers: `FAILED` (surely not) or `UNKNOWN`."""

    stream: list[int]
    first: list[int]
    last: list[int]
    outcome: list[str]  # "FAILED", "UNKNOWN"
    at_ns: list[int]
    said: list[str] = []  # what Redis said, or why the connection was lost; empty: nothing was said of any


class PublishTimes(_Record, frozen=True, kw_only=True, array_like=True, tag="publish_times"):
    """Times of one publisher group's messages in one due slice; counts what was planned but not offered."""

    publishers: int  # index of the publisher group in the profile
    due_slice: int
    sent: int
    not_offered: int  # planned in this slice, never tried
    own_lag: Sparse  # due -> sent because of us
    blocked: Sparse  # due -> sent because link or target pushed back
    receivers_min: int  # receivers that PUBLISH answered; -1 where no reply came
    receivers_max: int
    receivers_zero: int  # replies that named no receiver


class Consumed(_Record, frozen=True, kw_only=True, array_like=True, tag="consumed"):
    """What one consumer group received of one route family: one row per due slice x received slice x clock."""

    group: int
    due_slice: int
    received_slice: int
    clock: Clock
    unique: int
    repeated: int
    bytes: int
    latency: Sparse  # due -> received, complete for its clock; negative differences are not in it
    negative: int  # received before due: clock trouble, counted apart
    service: Sparse = EMPTY  # sent -> received, sampled reads only
    read_delay: Sparse = EMPTY  # kernel's receive time -> our read, sampled reads only
    reads: int = 0  # reads that brought them (messages per read = (unique + repeated) / reads); kernel: sampled reads
    sampled_read: Sparse = EMPTY  # of the kernel's clock: due -> our read, of the same sampled reads


class ClientLatency(_Record, frozen=True, kw_only=True, array_like=True, tag="client_latency"):
    """Latencies of single consumers in one stretch: due -> our read of all their deliveries, in coarse buckets.

    `tally.client_latency` has the scale.  `buckets` is how many pairs of `bucket` and `count` each consumer has.
    """

    first_slice: int
    last_slice: int
    consumer: list[int]
    buckets: list[int]
    bucket: list[int]
    count: list[int]


class RouteSet(_Record, frozen=True, kw_only=True, array_like=True, tag="route_set"):
    """An interned set of routes, numbered per process."""

    index: int
    routes: list[int]


HARNESS = "harness"
"""Why a connection is over that we ourselves ended, or could not make, for a limit or an error of our own."""


class Subscription(_Record, frozen=True, kw_only=True, array_like=True, tag="subscription"):
    """One change in a consumer's subscription."""

    consumer: int
    epoch: int
    group: int  # index of the consumer group in the profile
    step: Literal["asked", "confirmed", "leaving", "left"]
    at_ns: int
    route_set: int
    why: str = ""
    """Of left: own, moved, fault (it played one), peer closed, refused, error, end, connect failed, no heartbeat (of
    Socket.IO), harness (a limit or an error of our own)."""
    detail: str = ""


class Deviations(_Record, frozen=True, kw_only=True, array_like=True, tag="deviations"):
    """Exceptions to gapless, once-only delivery; one row per range.

    gap: `first..last` were skipped when a later one came. filled: they came after all (displacement = how many
    later ones had been seen). repeated: seen again. Budgets: `more` counts rows that were not kept.
    """

    kind: list[str]  # gap, filled, repeated
    consumer: list[int]
    epoch: list[int]
    stream: list[int]
    first: list[int]
    last: list[int]
    at_ns: list[int]
    more: int = 0


class Strange(_Record, frozen=True, kw_only=True, array_like=True, tag="strange"):
    """Messages that belong to no account: of another run, of a route not subscribed, or not decodable. Counted rows.

    Kinds altered and restamped are of messages that have an account all the same: their content, or the numbers of
    their identity, are not what was published.
    """

    kind: list[str]  # foreign run, foreign route, no identity, undecodable, protocol, altered, restamped
    consumer: list[int]
    count: list[int]
    at_ns: list[int]
    example: list[str]  # at most 120 characters
    family: list[int] = []  # -1: not known


class Touched(_Record, frozen=True, kw_only=True, array_like=True, tag="touched"):
    """What each named consumer received in one slice."""

    received_slice: int
    consumer: list[int]
    count: list[int]
    first_ns: list[int]
    last_ns: list[int]
    greatest_due_ns: list[int]
    worst_latency_ns: list[int]
    complete: bool  # every consumer of this process that received anything in the slice is in it
    late_ns: list[int] = []  # last moment at which something came later than the delivery limit, 0: nothing did


class FirstAfter(_Record, frozen=True, kw_only=True, array_like=True, tag="first_after"):
    """Moments at which consumers got their first message after a fault was healed, and their first fresh one.

    fresh: due at or after the healing. Exact, where `Touched` knows only a slice's first and last.
    """

    healed_ns: int
    kind: list[str]  # byte, fresh
    consumer: list[int]
    at_ns: list[int]


class Closing(_Record, frozen=True, kw_only=True, array_like=True, tag="closing"):
    """Account of consumers whose subscription ended (after the drain): equal vectors are written once.

    unique = last - first + 1 - unfilled gaps, per stream, or the tally is wrong.
    """

    consumer: list[int]
    epoch: list[int]
    stream: list[int]
    first: list[int]
    last: list[int]
    unique: list[int]
    at_least: bool = False  # a budget was exceeded: counts are lower bounds


class Queried(_Record, frozen=True, kw_only=True, array_like=True, tag="queried"):
    """Database reads of one reader group, per query and slice of the planned time."""

    readers: int
    query: str
    due_slice: int
    ok: int
    failed: int
    connect: Sparse
    latency: Sparse  # query time without connecting
    example: str = ""  # SQLSTATE and first line of an error


class Requested(_Record, frozen=True, kw_only=True, array_like=True, tag="requested"):
    """Requests of one group of users of an extension, per name and slice of the planned time."""

    kind: str  # of the users
    group: str
    name: str
    due_slice: int
    ok: int
    failed: int
    connect: Sparse
    latency: Sparse  # without connecting
    example: str = ""  # of an error


LINK_PROBE = "link:"
"""Before the name of a link in what a `PathProbe` is about."""


HEALTH_EVERY_S = 0.25
"""The health page is asked so often, or as often as all else: a burst is over in a second."""


class PathProbe(_Record, frozen=True, kw_only=True, array_like=True, tag="path_probe"):
    """A probe message per route family before T0; during the run the health page, and a ping through each link."""

    what: str  # "family:patterns", "health", "link:gateway-redis"
    at_ns: int
    took_ns: int  # -1: no answer before the deadline
    ok: bool
    detail: str = ""


class FaultStep(_Record, frozen=True, kw_only=True, array_like=True, tag="fault"):
    """What the injector did with one fault, and what it saw."""

    name: str
    kind: str
    link: str  # link or service
    step: Literal[
        "announced",  # about to act
        "active",  # applied and read back
        "not in force",  # applied, but the read-back does not show it
        "proved",  # effect measured through the link
        "not proved",
        "lifted",  # lifted and read back
        "not lifted",
        "failed",  # the control call failed
    ]
    before_ns: int  # just before the control call
    after_ns: int  # when its answer had been read back
    asked: dict[str, float | int | str] = {}
    effective: dict[str, float | int | str | None] = {}
    by: str = ""  # of lifted: "plan", "finish", "sweep", "escalation: ...", "pipe closed"
    detail: str = ""


TOUCHED, TOUCHED_WHY = "touched", "touched_why"
"""Among the effective values of a step that proves: whether the fault met somebody of the run or the target, and where
it did not, why, or which key would show it. A step of before they were told has neither."""

ACTED, NOTHING, NOT_OBSERVABLE = "acted", "nothing", "not observable"
"""The three results of a proof."""


class ChosenUsers(_Record, frozen=True, kw_only=True, array_like=True, tag="crew_fault"):
    """Which of the run's own users one fault chose; written by the leading process when they are told.

    A consumer fault disturbs these consumers and no others.  When it began and ended, its FaultSteps say.
    """

    fault: str  # as FaultStep.name
    kind: str
    consumers: list[int]  # slots, ascending; empty where publishers play it
    publishers: list[int] = []
    from_ns: int  # when they were told
    to_ns: int  # when they stop by themselves, if nobody tells them before


class PhaseMark(_Record, frozen=True, kw_only=True, array_like=True, tag="phase"):
    """A phase began."""

    phase: Phase
    at_ns: int
    detail: str = ""


NO_ANSWER = "no_answer_ns"
"""Metric of a server that was asked and gave no reading: how long it took until that was known."""


class Samples(_Record, frozen=True, kw_only=True, array_like=True, tag="samples"):
    """Readings of one source at one moment, e.g. source "gateway": rss_bytes, uss_bytes, cpu_percent."""

    source: str  # redis, postgres, gateway, producer, toxiproxy
    at_ns: int
    metric: list[str]
    value: list[float]


class HarnessSecond(_Record, frozen=True, kw_only=True, array_like=True, tag="harness"):
    """How one of our own processes fared in one second."""

    at_ns: int
    cpu_percent: float
    rss_bytes: int
    hub_lag_p99_ns: int
    hub_lag_max_ns: int
    connected: int  # consumers with a confirmed subscription
    publishing: int  # publishers that have a slot
    messages: int
    reads: int
    read_delay_p99_ns: int  # -1: too few samples
    saturated: bool  # this process could not keep up: its latencies say nothing
    frames: int = -1  # distinct frames of messages whose content could be checked; -1: not counted
    checked: int = -1  # of them, those whose content was


class Level(_Record, frozen=True, kw_only=True, array_like=True, tag="level"):
    """A stretch of the run in which publishers play their shapes at a factor; told before it begins.

    It settles from `from_ns` on and holds from `hold_ns` to `to_ns`; only the hold is judged.  The gap that follows
    lasts until the next level begins.
    """

    index: int
    kind: str  # `model.capacity.Kind`
    factor: float  # of the profile's own rates
    from_ns: int
    hold_ns: int
    to_ns: int
    why: str = ""  # why the search chose it


class WantedUsers(_Record, frozen=True, kw_only=True, array_like=True, tag="users"):
    """The user count changed; it ends a baseline."""

    at_ns: int
    wanted: dict[str, int]


class Trouble(_Record, frozen=True, kw_only=True, array_like=True, tag="trouble"):
    """Harness trouble with a scope: exclude it, then judge."""

    process: str
    from_ns: int
    to_ns: int  # -1: to the end
    what: str
    consumers: list[int] = []  # empty: all of the process


THE_STACK = "the local stack"
"""Service of a `ServiceEnded` that tells that the whole stack went, all at once: no failure of the target."""


class ServiceEnded(_Record, frozen=True, kw_only=True, array_like=True, tag="service_ended"):
    """A process of the target, or of the links to it, ended and nobody of ours had told it to."""

    service: str  # redis, postgres, toxiproxy, gateway, producer, or a name of target.processes
    at_ns: int  # when it was noticed, a fraction of a second later
    what: str  # "ended by SIGKILL", "ended with exit status 1"


class Note(_Record, frozen=True, kw_only=True, array_like=True, tag="note"):
    """A sentence for the report's log: override, annotation by the user, escalation."""

    at_ns: int
    text: str
    by: str = ""  # "user": an annotation


class Finish(_Record, frozen=True, kw_only=True, array_like=True, tag="finish"):
    """The run's life ended; the last record of the master or standalone process."""

    at_ns: int
    reason: str  # "plan done", "stop button", "Ctrl-C (SIGINT)", "SIGTERM", "run time", "guard: ...", "error: ..."
    plan_done: bool
    drained: bool
    complete: bool  # every process's last chunk was acknowledged
    frames: dict[str, int] = {}  # how many frames each process says it wrote, where it could tell


Record = (
    Header | Effective | Published | Settled | PublishTimes | Consumed | ClientLatency | RouteSet | Subscription
    | Deviations | Strange | Touched | FirstAfter | Closing | Queried | Requested | PathProbe | FaultStep
    | ChosenUsers | PhaseMark | Samples | HarnessSecond | Level | WantedUsers | Trouble | ServiceEnded | Note | Finish
)  # fmt: skip


Emit = Callable[[Record], None]
"""Hands one record to the recorder; never blocks, never raises."""


class RunClock(Protocol):
    """The clock of a run: nanoseconds of CLOCK_MONOTONIC minus the run's origin."""

    def now_ns(self) -> int:
        """Time of the run clock."""
        ...

    def at_monotonic_ns(self, monotonic_ns: int) -> int:
        """A reading of this process's monotonic clock, on the run clock."""
        ...
