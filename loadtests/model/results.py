"""What does a finished run say?  The contract of `results.json`; every report shows only what is in here.

Numbers that the data cannot carry are None (null), never 0.  Times ending in `_s` count from T0, the warm-up's start.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

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


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    pass


class RunInfo(_Part, frozen=True, kw_only=True):
    """Which run this is."""

    id: str
    profile: str
    question: str
    profile_sha256: str
    seed: int
    started_at: str | None
    duration_s: float | None  # from T0 to the finish
    workers: int
    versions: dict[str, str]
    machine: str
    finish: str | None  # reason of the finish; None: the history has none


class ClientLatency(_Part, frozen=True, kw_only=True):
    """A consumer's own p95 in the calm phases, by the read clock of all its reads."""

    consumer: int
    group: str
    p95_ms: float
    deliveries: int


class SlowestClients(_Part, frozen=True, kw_only=True):
    """The slowest of the consumers that are not expected to be slow, the slowest first."""

    judged: int
    too_few: int  # had fewer deliveries than a p95 of its own needs
    slowest: list[ClientLatency]  # at most five


class Check(_Part, frozen=True, kw_only=True):
    """One threshold, or one condition of the harness, and what it found."""

    name: str
    verdict: Verdict
    summary: str
    limit: float | None
    measured: float | None
    phases: list[str]
    evidence: list[str]  # at most 20 lines


class Lost(_Part, frozen=True, kw_only=True):
    """Owed and not delivered when the drain deadline had passed."""

    total: int | None
    defect: int | None
    disconnected: int | None
    charged: int | None
    injector_at_most: int | None  # part of charged
    broker: int | None


class Delivery(_Part, frozen=True, kw_only=True):
    """The account over the whole run; `calm` in the routes and checks is apart."""

    published: int | None
    failed: int | None
    unknown: int | None
    not_offered: int | None
    offered: int | None
    owed: int | None
    unique: int | None
    repeated: int | None
    reordered: int | None
    foreign: int | None
    undecided: int | None
    late: int | None
    lost: Lost
    rate: float | None  # unique / owed
    received_per_s: float | None
    rpo_s: float | None  # longest run of consecutive lost publishes, in seconds of due time


class Spread(_Part, frozen=True, kw_only=True):
    """A distribution of times in milliseconds; a percentile with fewer than ten samples beyond it is None."""

    count: int
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    p999: float | None
    max: float | None
    negative: int
    contradicted: str = ""  # what the sampled reads said, where all are judged because of it


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
    lost_charged: int | None = None  # losses that are put down to it


class ConsumerSpread(_Part, frozen=True, kw_only=True):
    """How one recovery time was distributed over the consumers, seconds after healed (detected: after injected)."""

    p50: float | None
    p95: float | None
    max: float | None
    not_recovered: int | None


class ConsumerRecovery(_Part, frozen=True, kw_only=True):
    """Recovery as each consumer felt it."""

    detected: ConsumerSpread
    first_byte: ConsumerSpread
    first_fresh: ConsumerSpread
    steady: ConsumerSpread
    distribution: dict[str, list[float]]  # first_fresh, steady: sorted values thinned to at most 200 points
    slowest: list[str]  # "consumer 17 (plain): first fresh 2.31 s"


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


class RepeatedResult(_Part, frozen=True, kw_only=True):
    """How a repeated fault, or several of one name, were recovered from, all of them together."""

    fault: str
    times: int
    recovered: int
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
    lost: int | None  # stream: owed and not delivered, of what was sent while it was in force; query: failed
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
    samples: int
    around_faults: list[dict[str, float | str | None]]  # {fault, before_mb, during_mb, after_mb}


class RouteResult(_Part, frozen=True, kw_only=True):
    """One route family x consumer group."""

    group: str
    owed: int | None
    unique: int | None
    repeated: int | None
    reordered: int | None
    late: int | None
    lost: Lost
    calm_lost: int | None
    latency_ms: Spread
    calm_latency_ms: Spread


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
    slowest_clients: SlowestClients | None = None


def to_json(results: Results) -> bytes:
    """`results.json`: keys in the contract's order, two spaces, a final line feed; equal results give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n"


def from_json(data: bytes) -> Results:
    """Raises msgspec.ValidationError where the data are not of this schema."""
    return msgspec.json.decode(data, type=Results)
