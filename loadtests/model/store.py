"""What does the store of a profile's weeks say? Lines in, rows out, and rows grouped into the weeks that they are of.

One JSON object a line, only ever appended: a row per run, and one per decision of the gate or of a person. A line that
is torn is told and left out. Keys that this version does not know are ignored, as are kinds of rows; another `schema`
is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from loadtests.model.errors import BadInput
from loadtests.model.profile.profile import Profile
from loadtests.model.results import Verdict

SCHEMA = "tickstorm-store-1"
MEASURES_VERSION = 1
"""Raised when a figure's meaning changes: weeks before are then of another lineage."""
NOT_LINEAGE = frozenset({"name", "question", "seed", "thresholds", "aborts", "guard", "gate", "labels"})
"""Tables of a profile that change how a run is judged or named, not what happens in it."""
SLOWER = 0.10
"""A machine is called slower from this share on."""
Better = Literal["less", "more"]


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One measure of one run. `of`: of each occurrence of the fault, in their order; None: not recovered, not known."""

    value: float | None
    unit: str
    better: Better = "less"
    error: float | None = None  # of `value`, in its unit
    n: int = 0
    of: list[float | None] = []


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """How fast the machine was: of the slowest core, medians."""

    cpu_ms: float  # a fixed loop of Python
    loopback_us: float  # a byte there and back


class RunRow(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="run"):
    """One run of a series."""

    schema: str = SCHEMA
    series: str
    run: str
    index: int
    seed: int
    started_at: str  # ISO 8601
    session: int = 0  # one start of the stack each
    side: str = ""  # a, b: two targets in turn in one session
    profile: str
    lineage: str
    measures_version: int = MEASURES_VERSION
    target_version: str = ""
    machine_key: str
    machine: dict[str, str] = {}
    speed: list[Speed] = []  # before and after
    usable: bool
    why_not: list[str] = []
    verdict: Verdict
    checks: list[str] = []  # of the absolute limits, those that did not pass
    overrides: list[str] = []  # keys of the profile whose limits were relaxed from outside
    gated: list[str] = []  # measures that the profile gates; empty: the default ones
    values: dict[str, Value] = {}
    results_sha256: str = ""
    report: str = ""


class DecisionRow(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="decision"):
    """What the gate said of a series."""

    schema: str = SCHEMA
    series: str
    at: str
    verdict: Verdict
    sentence: str = ""
    compared: int = 0  # measures that were compared with earlier weeks


class _Person(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    schema: str = SCHEMA
    series: str
    at: str
    why: str = ""
    who: str = ""


class AcceptRow(_Person, frozen=True, kw_only=True, tag="accept"):
    """A person wanted the change that came with a series: an epoch begins with it."""


class ExcludeRow(_Person, frozen=True, kw_only=True, tag="exclude"):
    """A person took a series out of all baselines."""


class AnchorRow(_Person, frozen=True, kw_only=True, tag="anchor"):
    """A person chose the week against which slow creep is measured; an empty series: the first of the epoch again."""


class LineageRow(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="lineage"):
    """What a lineage is made of, told once, so that a difference can be named."""

    schema: str = SCHEMA
    lineage: str
    of: dict[str, str]


Row = RunRow | DecisionRow | AcceptRow | ExcludeRow | AnchorRow | LineageRow
KINDS = ("run", "decision", "accept", "exclude", "anchor", "lineage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a file holds. `told`: lines that were left out, each with its place and why."""

    rows: tuple[Row, ...] = ()
    told: tuple[str, ...] = ()


def read_rows(data: bytes, file: str) -> Read:
    """Rows of a file's bytes. Raises BadInput for rows of another schema, or where two rows of one run differ."""
    rows: list[Row] = []
    told: list[str] = []
    problems: list[str] = []
    runs: dict[str, RunRow] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{file}: line {number}"
        try:
            raw = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            told.append(f"{where}: torn, left out")
            continue
        kind = raw.get("kind") if isinstance(raw, dict) else None
        if not isinstance(raw, dict) or kind not in KINDS:
            told.append(f"{where}: kind: found {kind!r}, known are {', '.join(KINDS)}; left out")
            continue
        if raw.get("schema") != SCHEMA:
            problems.append(f'{where}: schema: found "{raw.get("schema")}", allowed "{SCHEMA}"')
            continue
        try:
            row = msgspec.convert(raw, Row)
            if isinstance(row, RunRow):
                _time(row.started_at)
        except (msgspec.ValidationError, ValueError) as error:
            told.append(f"{where}: {error}; left out")
            continue
        if isinstance(row, RunRow):
            before = runs.get(row.run)
            if before is not None and before != row:
                problems.append(f"{where}: run {row.run}: found two rows that differ, allowed is one")
            if before is not None:
                continue
            runs[row.run] = row
        rows.append(row)
    if problems:
        raise BadInput(problems)
    return Read(rows=tuple(rows), told=tuple(told))


def lines_of(rows: Iterable[Row]) -> bytes:
    """As they are appended."""
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def _time(text: str) -> datetime:
    """Raises ValueError where the text is no time."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


# -- what makes weeks alike


def lineage_values(profile: Profile) -> dict[str, str]:
    """Everything that decides what happens in a run, as `key -> JSON`."""
    found = {"measures_version": str(MEASURES_VERSION)}
    for key, value in profile.model_dump(mode="json").items():
        if key not in NOT_LINEAGE:
            found.update(_flat(key, value))
    return found


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _flat(f"{path}.{key}", part)
    elif isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        for index, part in enumerate(value):
            yield from _flat(f"{path}[{part.get('name', index)}]", part)
    elif value is not None:
        yield path, json.dumps(value, sort_keys=True, ensure_ascii=False)


def digest(values: Mapping[str, str]) -> str:
    """A hash that does not depend on the order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


MACHINE_KEYS = ("cpu", "cores", "memory_gib", "arch", "hypervisor", "target")
"""What makes two machines one kind; everything else that is told of a machine is a covariate."""


def machine_key(machine: Mapping[str, str]) -> str:
    """Of what is fixed about a machine; nothing measured is in it."""
    return digest({name: machine.get(name, "") for name in MACHINE_KEYS})


# -- weeks


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """All rows of one series."""

    series: str
    runs: tuple[RunRow, ...]
    decision: DecisionRow | None = None  # the last one
    accepted: AcceptRow | None = None
    excluded: ExcludeRow | None = None

    @property
    def first(self) -> RunRow:
        """What is the same in all of its runs of the side that is tested."""
        return next((run for run in self.runs if run.side != "a"), self.runs[0])

    @property
    def started_at(self) -> datetime:
        """When its first run began."""
        return _time(self.first.started_at)

    @property
    def usable(self) -> tuple[RunRow, ...]:
        """Runs that say something of the target, of the side that is tested."""
        return tuple(run for run in self.runs if run.usable and run.side in ("", "b"))

    @property
    def failed(self) -> bool:
        """It was FAIL, and nobody accepted it."""
        by_gate = self.decision is not None and self.decision.verdict is Verdict.FAIL
        return self.accepted is None and (by_gate or any(run.verdict is Verdict.FAIL for run in self.usable))

    @property
    def label(self) -> str:
        """`2026-W20`."""
        year, week, _ = self.started_at.isocalendar()
        return f"{year}-W{week:02d}"

    def speed(self, name: str) -> float | None:
        """Median of the prints of all its runs; None where there is none."""
        found = sorted(getattr(speed, name) for run in self.runs for speed in run.speed)
        return None if not found else (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All weeks of one profile, oldest first."""

    weeks: tuple[Week, ...]
    lineages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    anchor: str = ""  # the series that a person chose as anchor

    def week(self, series: str) -> Week | None:
        """One of them."""
        return next((week for week in self.weeks if week.series == series), None)

    def before(self, week: Week) -> tuple[Week, ...]:
        """Those that were earlier."""
        return self.weeks[: self.weeks.index(week)]

    def epoch(self, week: Week) -> int:
        """Index of the first week of the epoch that a week is in: the last accepted change up to it, else 0."""
        upto = self.weeks[: self.weeks.index(week) + 1]
        return max((index for index, one in enumerate(upto) if one.accepted is not None), default=0)


def history_of(rows: Sequence[Row]) -> History:
    """Group rows into weeks. Decisions about series that have no run are ignored."""
    runs: dict[str, list[RunRow]] = {}
    decisions: dict[str, DecisionRow] = {}
    accepted: dict[str, AcceptRow] = {}
    excluded: dict[str, ExcludeRow] = {}
    lineages: dict[str, Mapping[str, str]] = {}
    anchor = ""
    for row in rows:
        match row:
            case RunRow():
                runs.setdefault(row.series, []).append(row)
            case DecisionRow():
                decisions[row.series] = row
            case AnchorRow():
                anchor = row.series
            case AcceptRow():
                accepted[row.series] = row
            case ExcludeRow():
                excluded[row.series] = row
            case LineageRow():
                lineages[row.lineage] = row.of
    weeks = [
        Week(
            series=series,
            runs=tuple(sorted(of_it, key=lambda run: (run.session, run.index))),
            decision=decisions.get(series),
            accepted=accepted.get(series),
            excluded=excluded.get(series),
        )
        for series, of_it in runs.items()
    ]
    return History(
        weeks=tuple(sorted(weeks, key=lambda week: (week.started_at, week.series))), lineages=lineages, anchor=anchor
    )


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """`key: was -> is` of what differs; at most five, then how many more."""
    keys = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    told = [f"{key}: was {one.get(key, 'nothing')}, is {other.get(key, 'nothing')}" for key in keys[:5]]
    return told + ([f"{len(keys) - 5} more"] if len(keys) > 5 else [])
