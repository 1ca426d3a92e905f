"""What is a measured figure?  Runs, ratios of runs side by side, medians and spreads.  Touches no clock or file."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec


class ClientRun(msgspec.Struct, frozen=True, kw_only=True):
    """One receiver or publisher over one measured window."""

    client: str
    messages: float
    seconds: float
    cpu_s: float
    lost: int | None = 0  # None: not known
    p50_ms: float | None = None
    p99_ms: float | None = None
    rss_per_connection: int | None = None
    kernel_share: float | None = None  # of the CPU time, 0 to 1
    per_read: float | None = None  # messages that one read brought

    @property
    def cpu_s_per_million(self) -> float:
        """CPU seconds for a million messages. Raises ZeroDivisionError where none came."""
        return self.cpu_s * 1e6 / self.messages

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.messages / self.seconds

    @property
    def cpu_percent(self) -> float:
        """Of one core."""
        return 100 * self.cpu_s / self.seconds


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What an experiment found for one row: repeats of the figure, what lies behind it, facts for the reason."""

    values: tuple[float, ...] = ()
    detail: str = ""
    facts: Mapping[str, float] = {}
    missing: str = ""  # why there is no value


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure that is asked for. `reason` says why it is missed, with places for facts, `{value}` and `{limit}`."""

    key: str
    section: str
    name: str
    unit: str
    limit: float | None  # None: told, not judged
    better: Literal["less", "more"] = "less"
    reason: str
    optional: bool = False  # only where it is named; "long" also with --long

    @property
    def target(self) -> str:
        """In words."""
        if self.limit is None:
            return "-"
        return f"{'≤' if self.better == 'less' else '≥'} {number(self.limit)}{_unit(self.unit)}"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A row as it is told and stored."""

    key: str
    date: str
    value: float | None
    low: float | None
    high: float | None
    repeats: int
    detail: str
    met: bool | None  # None: not judged, or not measured
    reason: str  # empty where met


def ratios(ours: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    """Ours to the other's, pair by pair in the order in which they ran. Raises ValueError for unequal lengths."""
    return tuple(a / b for a, b in zip(ours, other, strict=True))


def outcome(row: Row, found: Measured, date: str) -> Outcome:
    """Judge the median."""
    if not found.values:
        return Outcome(
            key=row.key, date=date, value=None, low=None, high=None, repeats=0, detail=found.detail, met=None,
            reason=found.missing or "not measured",
        )  # fmt: skip
    value = statistics.median(found.values)
    met = None
    if row.limit is not None:
        met = value <= row.limit if row.better == "less" else value >= row.limit
    reason = ""
    if met is False:
        reason = row.reason.format_map(_Facts(found.facts) | {"value": number(value), "limit": number(row.limit)})
    return Outcome(
        key=row.key, date=date, value=value, low=min(found.values), high=max(found.values),
        repeats=len(found.values), detail=found.detail, met=met, reason=reason,
    )  # fmt: skip


def number(value: float | None) -> str:
    """Three digits that count, thousands apart; a dash for nothing."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def value_text(outcome_: Outcome, unit: str) -> str:
    """Median with its spread."""
    if outcome_.value is None:
        return "-"
    text = f"{number(outcome_.value)}{_unit(unit)}"
    if outcome_.repeats > 1:
        text += f" ({number(outcome_.low)} to {number(outcome_.high)})"
    return text


def met_text(outcome_: Outcome, limit: float | None) -> str:
    """yes, no, a dash."""
    if outcome_.value is None:
        return "not measured"
    if limit is None or outcome_.met is None:
        return "-"
    return "yes" if outcome_.met else "no"


class _Facts(dict[str, str]):
    """Facts as they stand in a sentence; a dash for one that is not known."""

    def __init__(self, facts: Mapping[str, float]) -> None:
        super().__init__({name: number(value) for name, value in facts.items()})

    def __missing__(self, name: str) -> str:
        return "-"

    def __or__(self, other: Mapping[str, str]) -> _Facts:  # type: ignore[override]
        both = _Facts({})
        both.update(self)
        both.update(other)
        return both


def _unit(unit: str) -> str:
    return unit if unit in ("", " ×") else f" {unit}"
