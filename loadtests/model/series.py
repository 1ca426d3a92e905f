"""What does a series of runs say? The contract of `series.json`; pages, JUnit and summaries show only what is in here.

Numbers that the data cannot carry are None (null), never 0. Ratios are this week divided by the reference: 1.25 is 25
% more.
"""

from __future__ import annotations

import msgspec

from loadtests.model.capacity import Capacity
from loadtests.model.results import Verdict

SCHEMA = "tickstorm-series-1"


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    pass


class SeriesInfo(_Part, frozen=True, kw_only=True):
    """Which series this is."""

    id: str
    kind: str  # weekly, compare, capacity
    profile: str
    lineage: str
    started_at: str
    machine: dict[str, str]
    target_version: str
    seeds: list[int]
    budget_s: float | None
    spent_s: float | None
    ended: str  # decided, most, budget, aborted, stored


class RunOfSeries(_Part, frozen=True, kw_only=True):
    """One run."""

    run: str
    session: int
    side: str
    seed: int
    verdict: Verdict
    usable: bool
    why_not: list[str]
    checks: list[str]  # absolute limits that did not pass
    cpu_ms: float | None  # speed print after it
    report: str


class Compared(_Part, frozen=True, kw_only=True):
    """What a week was compared with."""

    value: float
    weeks: list[str]  # series
    ratio: float
    low: float  # 90 % interval of the ratio
    high: float
    verdict: Verdict


class MeasureResult(_Part, frozen=True, kw_only=True):
    """One gated measure."""

    name: str
    unit: str
    better: str
    verdict: Verdict
    sentence: str
    value: float | None  # this week's
    runs: list[float | None]
    rolling: Compared | None = None
    anchor: Compared | None = None
    llr: float | None = None  # evidence; FAIL above `fail_above`, PASS below `pass_below`
    fail_above: float | None = None
    pass_below: float | None = None
    within: float | None = None  # spread from run to run, as a share
    between: float | None = None  # from week to week
    error: float | None = None  # of one value, in its unit
    smallest_seen_90: float | None = None  # regression found in nine of ten weeks, as a share
    power_25: float | None = None  # chance to find the size that must be found
    runs_used: int = 0
    open: bool = False  # more runs may decide it


class Drift(_Part, frozen=True, kw_only=True):
    """A change of level between weeks; told, never the gate."""

    measure: str
    at: str  # the first week of the new level: its series
    label: str
    ratio: float
    p: float
    explained_by: str  # empty: nothing else changed then


class SeriesResult(_Part, frozen=True, kw_only=True):
    """Everything that the reports of a series show."""

    schema: str
    series: SeriesInfo
    verdict: Verdict
    reasons: list[str]
    compared: int  # measures that were compared with earlier weeks
    runs: list[RunOfSeries]
    measures: list[MeasureResult]
    drift: list[Drift] = []
    told: list[str] = []  # of the store: torn rows, what was left out
    family_false_a_year: float | None = None  # false FAILs that one must expect in 52 weeks, over all measures
    history_rows: int = 0
    capacity: Capacity | None = None  # of a capacity session, which has no measures


def to_json(series: SeriesResult) -> bytes:
    """`series.json`; equal series give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(series), indent=2) + b"\n"


def from_json(data: bytes) -> SeriesResult:
    """Raises msgspec.ValidationError where the data are not of this schema."""
    return msgspec.json.decode(data, type=SeriesResult)


# -- many weeks, for the trend page


class TrendWeek(_Part, frozen=True, kw_only=True):
    """One week of a trend."""

    series: str
    label: str  # 2026-W20
    started_at: str
    verdict: Verdict
    sentence: str
    version: str
    machine: str  # key
    excluded: str  # why; empty: it is not
    accepted: str
    cpu_ms: float | None  # speed print
    loopback_us: float | None
    runs: int
    figures: dict[str, float | None]


class TrendMeasure(_Part, frozen=True, kw_only=True):
    """One measure over the weeks; every list has an entry per week."""

    name: str
    unit: str
    better: str
    runs: list[list[float]]
    value: list[float | None]
    reference: list[float | None]  # the rolling one that the week was compared with
    seen_from: list[float | None]  # a figure from here on would be found in nine of ten weeks
    verdict: list[Verdict]
    sentence: list[str]
    anchor: float | None  # of the last week


class Trend(_Part, frozen=True, kw_only=True):
    """Everything that a trend page shows."""

    profile: str
    weeks: list[TrendWeek]
    measures: list[TrendMeasure]
    drift: list[Drift]
    breaks: dict[int, str]  # index of a week -> what began with it: another machine, an accepted change
    last: SeriesResult | None
