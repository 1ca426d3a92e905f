"""What was asked of a capacity session, and what does it say?  The contract of its `series.json`.

Pages and the terminal show only what is in here.

A session raises one *axis* (messages per second, clients, gateways) level by level.  A **level** is a stretch of a run
at one factor of the profile's own load: it settles, holds, and a gap follows that ends when the backlog has drained.
One play of a level is a **trial**; only its hold is judged.  Numbers that the data cannot carry are None, never 0.
"""

from __future__ import annotations

from math import ceil
from typing import Literal

import msgspec

from loadtests.model.measures import AT_LEAST
from loadtests.model.profile.fault_times import under_s
from loadtests.model.profile.rules import QUANTILES
from loadtests.model.profile.tables import Tables
from loadtests.model.profile.threshold_rules import limits

Judged = Literal["GOOD", "BAD", "UNUSABLE"]
"""GOOD: every limit held. BAD: one did not, and not by our doing. UNUSABLE: it says nothing of the target."""
Kind = Literal["settle-in", "search", "long", "control", "planned"]
"""settle-in: the first level, played once to warm the target and thrown away. long: the hold that confirms.
control: a long hold at 0.6 of the result. planned: a stage that the profile wrote by hand."""
Confidence = Literal["held", "at_least", "unknown"]
"""at_least: our own end, or that of the range, was reached before the target's."""


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Trial(_Part, frozen=True, kw_only=True):
    """One play of a level. Times in seconds since T0; rates per second, of the hold."""

    run: str
    index: int  # of the level in its run, from 0
    kind: Kind
    factor: float  # of the profile's own load
    from_s: float  # of the hold
    to_s: float
    verdict: Judged
    broke: list[str]  # the limits that did not hold, or why it is unusable
    clients: int
    gateways: int
    published_per_s: float
    offered_per_s: float  # deliveries that were owed
    delivered_per_s: float  # received meanwhile, whenever it was due
    latency_ms: dict[str, float | None]  # p50, p95, p99
    lost: int
    unseen_start: float | None  # sent and not yet received
    unseen_end: float | None
    unseen_slope_per_s: float | None  # its lower bound; above 0 the backlog surely grew
    little_ratio: float | None  # unseen as counted ÷ as the latencies have it; None: too few to compare
    own_lag_p99_ms: float | None
    not_offered: int
    slices: int  # of the hold, in which something was due
    late_slices: int  # of them, those whose deliveries broke the latency limit
    longest_late_s: float  # the longest stretch of late slices
    resources: dict[str, float]  # "gateway cpu" -> percent of one core; "gateway memory" -> MB; "generator cpu"


class CapacityAsked(_Part, frozen=True, kw_only=True):
    """How a session searches and what its answer is held against."""

    axis: Literal["rate", "clients", "gateways"] = "rate"
    axis_unit: str = "deliveries/s"
    start: float = 1.0  # factors of the profile's own load
    to: float = 64.0
    tolerance: float = 0.05  # width of the last bracket, as a share
    settle_s: float = 2.0
    hold_s: float = 8.0
    long_s: float = 60.0
    budget_s: float = 900.0
    limits: list[str] = []  # the thresholds that bound it, as they are named in results
    latency_share: float = 0.05  # of the deliveries, which the latency limit lets be late: 0.05 for a p95
    under: str = ""  # the fault that each level carries
    plan: float | None = None  # in the axis's unit
    growth: float | None = None  # percent a year
    price: float | None = None  # of one gateway, an hour


class LoadLevel(_Part, frozen=True, kw_only=True):
    """All trials of one factor together, without the settle-in; means over the holds, latencies their medians."""

    factor: float
    load: float  # in the axis's unit
    verdict: Judged | None  # by majority, a long hold above all; None: undecided
    good: int
    bad: int
    unusable: int
    broke: list[str]
    held_s: float | None  # the longest hold that was good, of those that confirm
    clients: int
    gateways: int
    offered_per_s: float
    delivered_per_s: float
    latency_ms: dict[str, float | None]
    resources: dict[str, float]


class Span(_Part, frozen=True, kw_only=True):
    """A value with its interval."""

    low: float | None = None
    at: float | None = None
    high: float | None = None


class FoundLimit(_Part, frozen=True, kw_only=True):
    """A limit: the highest load that held, and the lowest that did not, in the axis's unit."""

    low: float | None
    high: float | None
    confidence: Confidence
    sentence: str
    broke: str = ""  # what did not hold at `high`
    held_s: float | None = None
    held_per_s: float | None = None  # what the long hold offered
    delivered_at_low: float | None = None
    reasons: list[str] = []  # why it is unknown or a bound only
    not_excluded: list[str] = []  # what could not be seen in so short a time


class Bottleneck(_Part, frozen=True, kw_only=True):
    """A resource and where it stands at the limit, in percent of its own end."""

    resource: str
    at: float
    low: float
    high: float


class Cost(_Part, frozen=True, kw_only=True):
    """What load costs: a line through the good levels."""

    what: str  # "gateway: CPU seconds per million deliveries"
    unit: str
    value: float
    low: float
    high: float


class Headroom(_Part, frozen=True, kw_only=True):
    """What is left above a plan, as a share of the limit; negative: it is beyond it."""

    plan: float
    low: float
    high: float | None
    sentence: str


class Told(_Part, frozen=True, kw_only=True):
    """A value of the scaling law, with its interval."""

    n: float
    x: float
    low: float
    high: float


class Scaling(_Part, frozen=True, kw_only=True):
    """The Universal Scalability Law through some points: X(N) = λN / (1 + σ(N - 1) + κN(N - 1))."""

    points: list[tuple[float, float]]
    lambda_: Span
    sigma: Span
    kappa: Span
    told: list[Told]
    peak: Told | None  # here `low` and `high` are of N
    why_not: list[str]  # what is not told, and why
    curve: list[Told] = []  # to be drawn, to twice the greatest N


class AtLoad(_Part, frozen=True, kw_only=True):
    """What to expect at a load inside the measured range: between good levels, never beyond them."""

    load: float
    what: str  # plan, advised
    latency_ms: dict[str, float | None]
    resources: dict[str, float | None]


class UnderFault(_Part, frozen=True, kw_only=True):
    """The same limit while a fault acts."""

    fault: str
    found: FoundLimit
    ratio: float | None  # of the two limits
    closed_form: float | None  # what catching up would allow
    sentence: str


class Capacity(_Part, frozen=True, kw_only=True):
    """What a session found."""

    asked: CapacityAsked
    axis_unit: str
    low: float | None  # as in `found`
    high: float | None
    confidence: Confidence
    sentence: str  # the whole answer
    found: FoundLimit
    trials: list[Trial]
    knee: Span | None = None
    bottleneck: list[Bottleneck] = []
    bottleneck_sentence: str = ""
    cost: list[Cost] = []
    headroom: Headroom | None = None
    advised: float | None = None  # operating point
    advised_because: str = ""
    under: UnderFault | None = None
    usl: Scaling | None = None
    ended: str = "decided"  # decided, range, lowest, generator, unheld, budget, aborted
    spent_s: float | None = None
    levels: list[LoadLevel] = []  # by factor
    at_loads: list[AtLoad] = []
    verdict: str = "UNKNOWN"  # what the exit status says


def asked_of(profile: Tables) -> CapacityAsked:
    """What a profile asks of its search, whose budget is the plan; of its stages, where it does not search."""
    table = profile.capacity
    chosen = set(table.limits) if table is not None else set()
    all_ = [limit.threshold for limit in limits(profile, faults=False)]
    bounding = [one for one in all_ if not chosen or one.measure in chosen]
    bounds = [one for one in bounding if one.measure in QUANTILES]
    asked = CapacityAsked(
        budget_s=profile.run.duration_s,
        limits=[f"{one.measure}{'>=' if one.measure in AT_LEAST else '<='}{one.limit:g}" for one in bounding],
        latency_share=min((round(1 - QUANTILES[bound.measure], 6) for bound in bounds), default=0.05),
    )
    if table is None:
        return asked
    return msgspec.structs.replace(
        asked,
        start=table.start,
        to=table.to,
        tolerance=table.tolerance_percent / 100,
        settle_s=table.settle_s + under_s(profile),
        hold_s=whole_periods(profile, table.hold_s),
        long_s=whole_periods(profile, table.long_s),
        under=table.under or "",
        plan=table.plan,
    )


def whole_periods(profile: Tables, hold_s: float) -> float:
    """A hold that holds whole periods of every shape: a level without its burst is another load."""
    longest = max((group.shape.period_s or 0.0 for group in profile.publishers), default=0.0)
    return ceil(hold_s / longest - 1e-9) * longest if longest else hold_s
