"""What does a finished run say?  The contract of `results.json`; every report shows only what is in here.

Numbers that the data cannot carry are None (null), never 0.  Times ending in `_s` count from T0, the warm-up's start.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from loadtests.model.capacity import Capacity

SCHEMA = "tickstorm-results-1"


class Verdict(StrEnum):
    """FAIL outranks ABORTED outranks UNKNOWN outranks PASS."""

    PASS = "PASS"
    UNKNOWN = "UNKNOWN"
    ABORTED = "ABORTED"
    FAIL = "FAIL"

    @property
    def exit_status(self) -> int:
        """0 pass, 1 fail, 3 unknown, 4 aborted."""
        return {"PASS": 0, "FAIL": 1, "UNKNOWN": 3, "ABORTED": 4}[self.value]


_RANK = {Verdict.PASS: 0, Verdict.UNKNOWN: 1, Verdict.ABORTED: 2, Verdict.FAIL: 3}


def worst(verdicts: list[Verdict]) -> Verdict:
    """The verdict that outranks the others; no verdict at all is UNKNOWN."""
    return max(verdicts, key=_RANK.__getitem__, default=Verdict.UNKNOWN)


def bad(*judged_by: str, but: str = "") -> msgspec.Meta:
    """Marks a count of something bad: the measures or conditions that judge it, or why none does."""
    return msgspec.Meta(extra={"count": "bad", "judged_by": judged_by, "but": but})


NEUTRAL = msgspec.Meta(extra={"count": "neutral"})
GOOD = msgspec.Meta(extra={"count": "good"})
THEIRS = "a part of a count that is judged; a threshold with `group` limits that of a group that is expected to be slow"


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    pass


class RunInfo(_Part, frozen=True, kw_only=True):
    """Which run this is."""

    id: str
    profile: str
    question: str
    profile_sha256: str
    seed: Annotated[int, NEUTRAL]
    started_at: str | None
    duration_s: float | None  # from T0 to the finish
    workers: Annotated[int, NEUTRAL]
    versions: dict[str, str]
    machine: str
    finish: str | None  # reason of the finish; None: the history has none
    apart: bool | None = None  # no process had publishers and consumers; None: not both were seen, or older results


class Check(_Part, frozen=True, kw_only=True):
    """One threshold, or one condition of the harness, and what it found."""

    name: str
    verdict: Verdict
    summary: str
    limit: float | None
    measured: float | None
    phases: list[str]
    evidence: list[str]  # at most 20 lines
    default: bool = False  # a limit that holds though the profile does not name it


class Lost(_Part, frozen=True, kw_only=True):
    """Owed and not delivered when the drain deadline had passed; total is the sum of the others but the part."""

    total: Annotated[int | None, bad("lost_total")]
    defect: Annotated[int | None, bad("lost_defect")]
    charged: Annotated[int | None, bad("lost_charged")]
    injector_at_most: Annotated[int | None, bad("lost_charged")]  # part of charged
    broker: Annotated[
        int | None, bad("lost_total")
    ]  # Redis closed a subscriber whose buffer was full, by its own count
    unattributed: Annotated[int | None, bad("lost_total")] = (
        None  # under a fault of which nobody could see whether it acted; or of slow readers
    )
    not_replayed: Annotated[int | None, bad("lost_not_replayed")] = None  # owed at a return, by the contract


class Away(_Part, frozen=True, kw_only=True):
    """Offered to consumers that had no subscription in force, by the cause of their absence."""

    own_plan: Annotated[int | None, NEUTRAL]
    charged: Annotated[
        int | None, bad("delivery_rate")
    ]  # a fault on the consumer's path had ended it, or kept it from coming back
    harness: Annotated[int | None, bad("little was missed by our own trouble")]
    disconnected: Annotated[int | None, bad("lost_disconnected")]  # the target ended the connection, or refused it

    @property
    def total(self) -> int | None:
        """All of them; None where one is not known."""
        parts = (self.own_plan, self.charged, self.harness, self.disconnected)
        return None if None in parts else sum(p or 0 for p in parts)


class Spread(_Part, frozen=True, kw_only=True):
    """A distribution of times in milliseconds; a percentile with fewer than ten samples beyond it is None."""

    count: Annotated[int, NEUTRAL]
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    p999: float | None
    max: float | None
    negative: Annotated[
        int, bad(but="differences below 0 are trouble of the clocks: told beside the distribution, in no percentile")
    ]
    contradicted: list[str] = []  # percentiles that are the read clock's: the sampled reads contradict all reads


class SlowReaders(_Part, frozen=True, kw_only=True):
    """How much of a delivery's counts is of the groups that are expected to be slow."""

    groups: list[str]
    owed: Annotated[int | None, NEUTRAL]
    unique: Annotated[int | None, NEUTRAL]
    repeated: Annotated[int | None, bad(but=THEIRS)]
    reordered: Annotated[int | None, bad(but=THEIRS)]
    late: Annotated[int | None, bad(but=THEIRS)]
    lost: Annotated[int | None, bad(but=THEIRS)]
    others_latency_ms: Spread  # of all others, over the whole run


class Delivery(_Part, frozen=True, kw_only=True):
    """The account over the whole run; `calm` in the routes and checks is apart.

    offered = owed + undecided + away, and owed = delivered + lost.
    """

    published: Annotated[int | None, NEUTRAL]
    failed: Annotated[int | None, bad("publish_failed")]
    unknown: Annotated[int | None, bad("publish_unknown")]
    not_offered: Annotated[int | None, bad("load offered as planned")]
    offered: Annotated[int | None, NEUTRAL]
    owed: Annotated[int | None, NEUTRAL]
    unique: Annotated[int | None, GOOD]
    repeated: Annotated[int | None, bad("repeated")]
    reordered: Annotated[int | None, bad("reordered")]
    foreign: Annotated[int | None, bad("foreign")]
    undecided: Annotated[int | None, bad("little is undecided")]
    late: Annotated[int | None, bad("late")]
    lost: Lost
    rate: float | None  # delivered / what was offered but for own plan, harness and undecided
    received_per_s: float | None
    rpo_s: float | None  # longest run of consecutive lost publishes, in seconds of due time
    away: Away | None = None
    delivered: Annotated[int | None, GOOD] = None
    delivered_of_owed: float | None = None  # delivered / owed
    unasked: Annotated[int | None, bad("unasked")] = (
        None  # brought to a consumer that was not to get it: after leaving, or from before it came
    )
    superseded: Annotated[int | None, NEUTRAL] = (
        None  # left out for a newer one that came in time (mode "latest"); not offered
    )
    stray: Annotated[
        int | None, bad(but="a target may say what it likes that is no message; `stray` limits it where a profile asks")
    ] = None
    undecodable: Annotated[int | None, bad("undecodable")] = None
    protocol: Annotated[int | None, bad("protocol")] = None
    altered: Annotated[int | None, bad("altered")] = None
    restamped: Annotated[int | None, bad("restamped")] = None
    contents_checked: Annotated[int | None, NEUTRAL] = None  # distinct frames whose content was compared
    contents: Annotated[int | None, NEUTRAL] = None  # of so many
    slow_readers: SlowReaders | None = None  # part of the counts above


class FaultResult(_Part, frozen=True, kw_only=True):
    """One fault as it acted."""

    name: str
    kind: str
    link: str
    asked: dict[str, float | int | str]
    effective: dict[str, float | int | str | None]
    injected_s: float | None
    healed_s: float | None
    error_s: float | None  # error bar of injected and healed
    proved: bool
    lifted_by: str | None
    detail: str
    lost_charged: Annotated[int | None, bad("lost_charged")] = None  # losses that are put down to it


class ConsumerSpread(_Part, frozen=True, kw_only=True):
    """How one recovery time was distributed over the consumers, seconds after healed (detected: after injected).

    Who did not come back is slower than all who did: where p50, p95 or max falls among them it is None, and stands in
    `beyond_s` with the limit that it lies beyond.  None without that is not known.
    """

    p50: float | None
    p95: float | None
    max: float | None
    not_recovered: Annotated[int | None, bad("clients_not_back")]
    clients: Annotated[int | None, NEUTRAL] = None  # who could come to it
    back: Annotated[int | None, GOOD] = None  # of those, who did within the limit
    beyond_s: dict[str, float] = {}


class ConsumerRecovery(_Part, frozen=True, kw_only=True):
    """Recovery as each consumer felt it."""

    detected: ConsumerSpread
    first_byte: ConsumerSpread
    first_fresh: ConsumerSpread
    steady: ConsumerSpread
    distribution: dict[str, list[float]]  # first_fresh, steady: of who came, sorted, thinned to at most 200 points
    slowest: list[str]  # "consumer 17 (plain): first fresh 2.31 s"


class FaultLimit(_Part, frozen=True, kw_only=True):
    """One threshold as it judges one fault."""

    measure: str
    limit: float
    measured: float | None
    verdict: Verdict
    default: bool = False  # it holds though the profile does not name it


class RecoveryResult(_Part, frozen=True, kw_only=True):
    """How fast it came back after one fault."""

    fault: str
    verdict: Verdict
    outage_s: float | None
    recovery_s: float | None
    limit_s: float
    error_s: float | None
    summary: str
    consumers: ConsumerRecovery
    ready_s: float | None = None  # of a process: from its start again until it was ready; part of the recovery
    limits: list[FaultLimit] = []  # what judges it, of the profile and by default
    judged: Verdict | None = None  # the worst of `verdict` and those


class RepeatedResult(_Part, frozen=True, kw_only=True):
    """How a repeated fault, or several of one name, were recovered from, all of them together."""

    fault: str
    times: Annotated[int, NEUTRAL]
    recovered: Annotated[int, GOOD]
    recovery_s: list[float | None]  # in their order; None: not recovered, or unknown
    median_s: float | None
    max_s: float | None
    mean_s: float | None  # only where all recovered


class Interference(_Part, frozen=True, kw_only=True):
    """What a fault did to something that it should not touch, or to the readers' queries."""

    fault: str
    what: str  # stream, query
    name: str  # family, query
    on_path: bool  # the fault acts on its way, so it may touch it
    before: Spread  # the calm stretch before
    during: Spread  # injected to healed
    after: Spread  # from when it was recovered from
    lost: Annotated[
        int | None, bad("lost_defect", "query_failed")
    ]  # stream: owed and not delivered, of what was sent while it was in force; query: failed
    touched: bool | None  # beyond the band of a steady state; None: too little is known
    summary: str


class Growth(_Part, frozen=True, kw_only=True):
    """Memory growth of one process of the target."""

    process: str
    metric: str
    verdict: str  # LEAK, CLEAN, UNKNOWN
    slope_mb_per_h: float | None
    low: float | None
    high: float | None
    growth_mb: float | None
    samples: Annotated[int, NEUTRAL]
    around_faults: list[dict[str, float | str | None]]  # {fault, before_mb, during_mb, after_mb}
    missing: str = ""  # why its readings carry no figure: how many were expected, and where none are


class RouteResult(_Part, frozen=True, kw_only=True):
    """One route family x consumer group."""

    group: str
    owed: Annotated[int | None, NEUTRAL]
    unique: Annotated[int | None, GOOD]
    repeated: Annotated[int | None, bad("repeated")]
    reordered: Annotated[int | None, bad("reordered")]
    late: Annotated[int | None, bad("late")]
    lost: Lost
    calm_lost: Annotated[int | None, bad("lost_total")]
    latency_ms: Spread
    calm_latency_ms: Spread
    offered: Annotated[int | None, NEUTRAL] = None
    undecided: Annotated[int | None, bad("little is undecided")] = None
    away: Away | None = None
    delivered: Annotated[int | None, GOOD] = None
    expect_slow: bool = False  # the profile expects the group to be slow


class Series(_Part, frozen=True, kw_only=True):
    """Values per slice; None where there is nothing to say. All series begin at `from_s`."""

    slice_s: float
    from_s: float
    series: dict[str, list[float | None]]


class Bars(_Part, frozen=True, kw_only=True):
    """A histogram for drawing: upper bounds in ms and counts."""

    upper_ms: list[float]
    count: list[int]


class EffectiveValue(_Part, frozen=True, kw_only=True, rename={"source": "from"}):
    """One effective value and where it came from."""

    key: str
    value: str
    source: str
    relaxed: bool


class HarnessResult(_Part, frozen=True, kw_only=True):
    """How the load generator itself fared."""

    receive: str
    saturated_s: float | None
    clean_coverage: float | None
    cpu_percent: dict[str, float | None]  # process -> mean over the run
    rss_mb: dict[str, float | None]  # process -> greatest
    trouble: list[str]


class PhaseSpan(_Part, frozen=True, kw_only=True):
    """A phase as captured."""

    phase: str
    from_s: float
    to_s: float


class UserNote(_Part, frozen=True, kw_only=True):
    """What the user wrote down while the run went on."""

    at_s: float
    text: str


class Results(_Part, frozen=True, kw_only=True):
    """Everything that a run's reports show."""

    schema: str
    run: RunInfo
    verdict: Verdict
    reasons: list[str]
    checks: list[Check]
    phases: list[PhaseSpan]
    delivery: Delivery
    latency_ms: Spread
    service_ms: Spread
    own_lag_ms: Spread
    blocked_ms: Spread
    read_delay_ms: Spread
    calm_latency_ms: Spread
    queries: dict[str, dict[str, Spread]]  # query -> connect, query
    faults: list[FaultResult]
    recovery: list[RecoveryResult]
    growth: list[Growth]
    routes: list[RouteResult]
    timeline: Series
    histograms: dict[str, Bars]
    effective: list[EffectiveValue]
    harness: HarnessResult
    log: list[str]  # notes, overrides, escalations, torn files; in order of time
    notes: list[UserNote] = []  # in order of time; the log has them too
    repeated: list[RepeatedResult] = []
    interference: list[Interference] = []
    slowest_client_p95_ms: float | None = None  # in calm phases, of the consumers that had enough deliveries
    requests: dict[str, dict[str, Spread]] = {}  # "kind group name" of users of extensions -> connect, request
    capacity: Capacity | None = None  # of a run that went by levels


def to_json(results: Results) -> bytes:
    """`results.json`: keys in the contract's order, two spaces, a final line feed; equal results give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n"


def from_json(data: bytes) -> Results:
    """Raises msgspec.ValidationError where the data are not of this schema."""
    return msgspec.json.decode(data, type=Results)
