"""What does the store of a profile's weeks say? Lines in, rows out, and rows grouped into the weeks that they are of.

One JSON object a line, only ever appended: a row per run, and one per decision of the gate or of a person. A line that
is torn is told and left out. Keys that this version does not know are ignored, as are kinds of rows; another `schema`
is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from loadtests.model.errors import BadInput
from loadtests.model.measures import TIMES, figure_of
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
LEAST, MOST = 1e-9, 1e12
"""No figure, error or print of speed is beyond these; times of 0 exist, negative ones do not."""
MOST_RUNS = 1_000_000
"""Of a series: its indices and sessions stay below it."""
YEARS = (2000, 2200)
"""In which runs start."""
AGREES = 1e-6
"""So far, as a share, may a figure lie from the median of what it is made of."""
_NAMED = re.compile(rb'"series":\s*"((?:[^"\\]|\\.)*)"')


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
    broken: list[str] = []  # names of the limits and conditions that were FAIL

    @property
    def at(self) -> datetime:
        """When it started."""
        return _time(self.started_at)


class DecisionRow(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="decision"):
    """What the gate said of a series."""

    schema: str = SCHEMA
    series: str
    at: str
    verdict: Verdict
    sentence: str = ""
    compared: int = 0  # measures that were compared with earlier weeks
    unconfirmed: bool = False  # a second session was wanted, and there was no time for it


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
    """What a file holds. `told`: lines that were left out, each with its place and why. `torn`: those of them that may
    have been of a series, by its name: where a line does not name one, of those that its neighbours are of.
    """

    rows: tuple[Row, ...] = ()
    told: tuple[str, ...] = ()
    torn: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_rows(data: bytes, file: str) -> Read:
    """Rows of a file's bytes. Raises BadInput, with every problem, for rows of another schema, for numbers that cannot
    be, and where two rows of one run differ.
    """
    rows: list[Row] = []
    told: list[str] = []
    left: list[tuple[int, bytes, str]] = []  # how many rows stand before it; the line; why it was left out
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
            left.append((len(rows), line, told[-1]))
            continue
        kind = raw.get("kind") if isinstance(raw, dict) else None
        if not isinstance(raw, dict) or kind not in KINDS:
            told.append(f"{where}: kind: found {kind!r}, known are {', '.join(KINDS)}; left out")
            if not isinstance(raw, dict) or "series" in raw:
                left.append((len(rows), line, told[-1]))
            continue
        if raw.get("schema") != SCHEMA:
            problems.append(f'{where}: schema: found "{raw.get("schema")}", allowed "{SCHEMA}"')
            continue
        try:
            row = msgspec.convert(raw, Row)
            if isinstance(row, RunRow):
                _ = row.at
        except (msgspec.ValidationError, ValueError) as error:
            told.append(f"{where}: {error}; left out")
            left.append((len(rows), line, told[-1]))
            continue
        if isinstance(row, RunRow):
            problems += [f"{where}: {text}" for text in _impossible(row)]
            before = runs.get(row.run)
            if before is not None and before != row:
                problems.append(f"{where}: run {row.run}: found two rows that differ, allowed is one")
            if before is not None:
                continue
            runs[row.run] = row
        rows.append(row)
    if problems:
        raise BadInput(problems)
    return Read(rows=tuple(rows), told=tuple(told), torn=_torn(rows, left))


def _torn(rows: Sequence[Row], left: Sequence[tuple[int, bytes, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for at, line, text in left:
        if line.startswith(b'{"kind":"lineage"'):
            continue
        if (named := _NAMED.search(line)) is not None:
            series = {named[1].decode(errors="replace")}
        else:
            near = (reversed(rows[:at]), iter(rows[at:]))
            beside = [next((row for row in side if isinstance(row, RunRow | DecisionRow)), None) for side in near]
            series = {row.series for row in beside if row is not None}
        for name in series:
            found[name] = (*found.get(name, ()), text)
    return found


def _impossible(row: RunRow) -> Iterator[str]:
    """Numbers that no run has, each with its key, what was found and what is allowed."""
    bounded: list[tuple[str, float, float, float]] = [
        ("index", row.index, 0, MOST_RUNS),
        ("session", row.session, 0, MOST_RUNS),
        ("seed", row.seed, 0, 2**64 - 1),
        ("started_at", row.at.year, *YEARS),
    ]
    for place, speed in enumerate(row.speed):
        bounded += [(f"speed[{place}].{name}", getattr(speed, name), LEAST, MOST) for name in ("cpu_ms", "loopback_us")]
    for name, value in row.values.items():
        figure, key = figure_of(name), f'values["{name}"]'
        least = 0.0 if figure is not None and figure.unit in TIMES else -MOST
        many = [("value", value.value), *((f"of[{place}]", one) for place, one in enumerate(value.of))]
        bounded += [(f"{key}.{part}", one, least, MOST) for part, one in many if one is not None]
        if value.error is not None:
            bounded.append((f"{key}.error", value.error, 0, MOST))
        middle = middle_of(value.of)
        if value.of and not (
            middle == value.value
            or (middle is not None and value.value is not None and math.isclose(middle, value.value, rel_tol=AGREES))
        ):
            yield f"{key}.value: found {value.value}, allowed {middle}, the median of its `of`"
    for key, number, least, most in bounded:
        if not least <= number <= most:
            yield f"{key}: found {str(number)[:40]}, allowed {least:g} to {most:g}"


def middle_of(of: Sequence[float | None]) -> float | None:
    """The median over occurrences; who did not recover (None) took longer than all who did."""
    known = sorted(value for value in of if value is not None)
    ranked = [*known, *[None] * (len(of) - len(known))]
    low, high = (ranked[(len(of) - 1) // 2], ranked[len(of) // 2]) if ranked else (None, None)
    return None if low is None or high is None else (low + high) / 2


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
    torn: tuple[str, ...] = ()  # lines left out that may have been of it
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
        return self.first.at

    @property
    def usable(self) -> tuple[RunRow, ...]:
        """Runs that say something of the target, of the side that is tested."""
        return tuple(run for run in self.tested if run.usable)

    @property
    def tested(self) -> tuple[RunRow, ...]:
        """Runs of the side that is tested."""
        return tuple(run for run in self.runs if run.side != "a")

    def mixed(self, lineages: Mapping[str, Mapping[str, str]]) -> list[str]:
        """What differs between runs of one side, which must all play the same on one machine."""
        found = []
        for one in self.runs:
            first = next(run for run in self.runs if run.side == one.side)
            if one.lineage != first.lineage:
                known = first.lineage in lineages and one.lineage in lineages
                what = differing(lineages[first.lineage], lineages[one.lineage]) if known else []
                found.append(f"run {one.index + 1} plays another plan: {'; '.join(what) or one.lineage}")
            if one.machine_key != first.machine_key:
                what = differing(first.machine, one.machine)
                found.append(f"run {one.index + 1} is of another machine: {'; '.join(what) or one.machine_key}")
        return found

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


def history_of(rows: Sequence[Row], torn: Mapping[str, tuple[str, ...]] = {}) -> History:
    """Group rows into weeks; `torn` as `Read` has it. Decisions about series that have no run are ignored."""
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
            torn=torn.get(series, ()),
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
