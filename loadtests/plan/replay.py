"""What does a recorded file say was published, and when?  Text -> events; the caller at the rim reads the file.

JSON lines or CSV.  Each row has a time under `time`, `timestamp` or `due_s`: seconds as a number, or ISO 8601.  The
first row is at 0; gaps are divided by the speed.  All other columns are fields of the payload; those named like a key
of the family (`symbol`, `pattern`, `user`, `job`) choose the route.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from loadtests.model.ids import NS_PER_S

TIME_COLUMNS = ("time", "timestamp", "due_s")
MAX_ROWS = 5_000_000

Scalar = str | int | float | bool | None


class ReplayError(ValueError):
    """The file cannot be replayed; the text names the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One event of the file; `due_ns` counts from its first event, with the speed applied."""

    due_ns: int
    fields: Mapping[str, object]


def parse(text: str, *, speed: float = 1.0) -> tuple[Replayed, ...]:
    """Events of a file in order of time; rows of equal time keep the file's order.  Raises ReplayError."""
    if not 0 < speed < float("inf"):
        raise ReplayError("speed: must be a finite number above 0")
    first_line = text.lstrip()[:1]
    rows = _json_rows(text) if first_line == "{" else _csv_rows(text)
    found: list[tuple[float, Mapping[str, object]]] = []
    for line, row in rows:
        if len(found) >= MAX_ROWS:
            raise ReplayError(f"line {line}: more than {MAX_ROWS} rows")
        column = next((name for name in TIME_COLUMNS if name in row), None)
        if column is None:
            raise ReplayError(f"line {line}: no time; a row needs one of {', '.join(TIME_COLUMNS)}")
        found.append((_seconds(row[column], line), {k: v for k, v in row.items() if k != column}))
    if not found:
        raise ReplayError("the file holds no event")
    found.sort(key=lambda pair: pair[0])
    start = found[0][0]
    return tuple(Replayed(due_ns=round((at - start) / speed * NS_PER_S), fields=fields) for at, fields in found)


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield number, msgspec.json.decode(line, type=dict[str, object])
        except msgspec.DecodeError as error:
            raise ReplayError(f"line {number}: {error}") from error


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, object]]]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise ReplayError(f"line {reader.line_num}: not as many values as the header has columns")
            yield reader.line_num, {name: _scalar(value) for name, value in row.items()}
    except csv.Error as error:
        raise ReplayError(f"line {reader.line_num}: {error}") from error


def _scalar(value: str) -> Scalar:
    for kind in (int, float):
        try:
            number = kind(value)
        except ValueError:
            continue
        return number if number - number == 0 else value  # nan and inf are no JSON numbers
    return value


def _seconds(value: object, line: int) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ReplayError(f"line {line}: a time is a number of seconds or ISO 8601")
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError as error:
            raise ReplayError(f"line {line}: {error}") from error
        value = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if value - value != 0:
        raise ReplayError(f"line {line}: a time must be finite")
    return float(value)
