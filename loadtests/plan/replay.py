"""What does a recorded file say was published, when, and on which route?  Bytes -> events; a rim reads the file.

Each row has a time under `time`, `timestamp` or `due_s`: seconds, an epoch time in s, ms, us or ns, or ISO 8601, in one
of these forms for the whole file.  The first row is at 0; gaps are divided by the speed.  Columns named like a key of
the publisher's families choose the route, and are text exactly as written; all others are fields of the payload.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from loadtests.model.catalogue import KEY_FIELDS
from loadtests.model.contract import Route
from loadtests.model.ids import NS_PER_S
from loadtests.model.profile.tables import Identity
from loadtests.plan import market
from loadtests.plan.payload import LEFT_OPEN, IdentityPathError, payload
from loadtests.plan.recorded import Problems, Recorded, RecordedRow, ReplayError, decoded, shown

__all__ = ["MAX_ROWS", "TIME_COLUMNS", "ReplayError", "Replayed", "parse"]

TIME_COLUMNS = ("time", "timestamp", "due_s")
MAX_ROWS = 5_000_000
_KNOWN = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_UNITS = (
    (0.0, 1e10, "seconds", NS_PER_S),
    (1e11, 1e13, "epoch milliseconds", 10**6),
    (1e14, 1e16, "epoch microseconds", 10**3),
    (1e17, 1e19, "epoch nanoseconds", 1),
)
"""Which numbers are times of which unit: between 1973 and 2286 the four never meet."""
_ISO = "ISO 8601"
_TIMES = "seconds, an epoch time in s, ms, us or ns, or ISO 8601 such as 2026-01-31T09:30:00Z"
# 20260131 may be a day or seconds.
_DAY = re.compile(r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One event of the file; `due_ns` counts from its first event, with the speed applied."""

    due_ns: int
    fields: Mapping[str, object]
    route: int | None = None  # None: the row names no key, and the publisher's routes take turns


def parse(
    data: bytes, *, routes: Sequence[Route], identity: Identity | None = None, speed: float = 1.0
) -> tuple[Replayed, ...]:
    """Events of a file in order of time; rows of equal time keep the file's order.

    `routes` are those of the publishers that replay it.  Raises ReplayError with every problem, up to a number.
    """
    text = decoded(data)
    problems = Problems()
    file = Recorded(text, TIME_COLUMNS, problems)
    times = _Times(file, problems)
    sorting = _Sorting(file, routes, identity or Identity(), problems)
    _check_places(text, problems)
    found: list[tuple[int, Mapping[str, object], int | None]] = []
    for row in file.rows:
        if len(found) >= MAX_ROWS:
            problems.add(row.line, f"found more than {MAX_ROWS:,} rows, allowed so many")
            break
        at = times.of(row)
        fields, route = sorting.of(row)
        if at is not None:
            found.append((at, fields, route))
    problems.check()
    if not found:
        raise ReplayError(["line 1: found no event, allowed JSON lines, or a table with a header"])
    found.sort(key=lambda entry: entry[0])
    start = found[0][0]
    return tuple(
        Replayed(due_ns=at - start if speed == 1 else round((at - start) / speed), fields=fields, route=route)
        for at, fields, route in found
    )


def _check_places(text: str, problems: Problems) -> None:
    """A payload is built with places left open: no value may look like one."""
    for place in LEFT_OPEN:
        at = text.find(place)
        if at >= 0:
            problems.add(text.count("\n", 0, at) + 1, f'found "{place}", allowed anything else: it marks our own place')


class _Times:
    """The times of a file, all of one form."""

    def __init__(self, file: Recorded, problems: Problems) -> None:
        self._file, self._problems = file, problems
        self._form: tuple[str, int] | None = None  # as its first row has it, and that row's line

    def of(self, row: RecordedRow) -> int | None:
        """Time of a row in ns, None where it has none that can be read."""
        column = next((name for name in TIME_COLUMNS if name in row.values), None)
        if column is None:
            self._problems.add(row.line, f"found no time, allowed one of {', '.join(TIME_COLUMNS)}")
            return None
        value = row.values[column]
        found = self._read(value)
        if found is None or (column == "due_s" and found[0] != "seconds"):
            allowed = "seconds" if column == "due_s" else _TIMES
            self._problems.add(row.line, f"{column}: found {shown(value)}, allowed {allowed}")
            return None
        form, ns = found
        if self._form is None:
            self._form = (form, row.line)
        elif form != self._form[0]:
            self._problems.add(
                row.line, f"{column}: found a time in {form}, allowed {self._form[0]} as in line {self._form[1]}"
            )
        return ns

    def _read(self, value: object) -> tuple[str, int] | None:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return None
        if not isinstance(value, str):
            return _scaled(value, "")
        number = self._file.number(value)
        if number is not None:
            return None if _DAY.fullmatch(value) else _scaled(number, value)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return _ISO, (moment - _EPOCH) // _TICK * 1000


def _scaled(value: float, text: str) -> tuple[str, int] | None:
    """Unit and nanoseconds of a number, exactly where its text has no exponent."""
    size = abs(value)
    for low, high, unit, factor in _UNITS:
        if low <= size < high:
            whole, mark, part = text.replace(",", ".").partition(".")
            if isinstance(value, int):
                return unit, value * factor
            if mark and "e" not in part and "E" not in part:
                parts = int(part[:9].ljust(9, "0")) * factor // NS_PER_S
                return unit, int(whole) * factor + (-parts if text.startswith("-") else parts)
            return unit, round(value * factor)
    return None


class _Sorting:
    """Which route each row is of, and what it says beside."""

    def __init__(self, file: Recorded, routes: Sequence[Route], identity: Identity, problems: Problems) -> None:
        self._file, self._routes, self._identity, self._problems = file, routes, identity, problems
        self._having: defaultdict[str, defaultdict[str, list[Route]]] = defaultdict(lambda: defaultdict(list))
        for route in routes:
            for key, value in (*route.keys, *(("event_type", name) for name in _names(route))):
                self._having[key][value].append(route)
        self._columns = {"event_type": "event_type"} | {
            column: key for key, own in KEY_FIELDS.items() if key in self._having for column in (key, own)
        }
        self._names: set[str] = {*TIME_COLUMNS, *self._columns}  # whose spelling is right, or was found wrong
        self._meant = frozenset(self._names)
        self._by_asked: dict[tuple[tuple[str, str], ...], tuple[Route | None, str]] = {}
        one_of = {route.family: route for route in routes}
        self._kinds = {family: _kinds(route) for family, route in one_of.items()}
        self._any_kinds = {name: kind for kinds in self._kinds.values() for name, kind in kinds.items()}
        self._root = identity.path.split(".")[0]

    def of(self, row: RecordedRow) -> tuple[Mapping[str, object], int | None]:
        """Fields of the payload, and the index of the route: None where the row leaves it open."""
        asked: dict[str, str] = {}
        fields: dict[str, object] = {}
        time = next((name for name in TIME_COLUMNS if name in row.values), None)
        for name, value in row.values.items():
            key = self._columns.get(name)
            if key is not None:
                self._ask(asked, key, name, row)
            elif name != time:
                fields[name] = value
                self._check_name(row, name)
        route = self._route(row, tuple(asked.items()))
        if not row.source:
            self._type(row, fields, self._any_kinds if route is None else self._kinds[route.family])
        if self._root in fields:
            self._check_identity(row, fields, route or self._routes[0])
        return fields, None if route is None else route.index

    def _check_name(self, row: RecordedRow, name: str) -> None:
        """A key that is spelt otherwise would be a field, and its row go to any route."""
        if name not in self._names:
            self._names.add(name)
            if (meant := name.strip().casefold()) in self._meant:
                self._problems.add(row.line, f"found {shown(name)} as a name, allowed {shown(meant)}")

    def _ask(self, asked: dict[str, str], key: str, name: str, row: RecordedRow) -> None:
        text = row.text(name)
        if text is None:
            self._problems.add(row.line, f"{name}: found {shown(row.values[name])}, allowed text")
        elif asked.setdefault(key, text) != text:
            told = f"{name}: found {shown(text)} beside {shown(asked[key])}, allowed one of the two"
            self._problems.add(row.line, told)

    def _route(self, row: RecordedRow, asked: tuple[tuple[str, str], ...]) -> Route | None:
        """The first route that agrees with all that the row names and has least beside; None: all of them agree."""
        if asked not in self._by_asked:
            fit: Sequence[Route] = self._routes
            for key, value in asked:
                having = self._having[key].get(value, ())
                few, many = sorted((fit, having), key=len)
                known = {route.index for route in many}
                fit = [route for route in few if route.index in known]
            told = "" if fit else "; ".join(self._strangers(asked))
            least = min(fit, key=lambda route: len(route.keys)) if 0 < len(fit) < len(self._routes) else None
            self._by_asked[asked] = (least, told)
        route, told = self._by_asked[asked]
        if told:
            self._problems.add(row.line, told)
        return route

    def _strangers(self, asked: tuple[tuple[str, str], ...]) -> Iterator[str]:
        """What is wrong with keys that no route has together: each by itself, or else all of them."""
        alone = [(key, value) for key, value in asked if value not in self._having[key]]
        for key, value in alone:
            yield f"{key}: found {shown(value)}, allowed {_some(list(self._having[key]))}"
        if not alone:
            together = " with ".join(f"{key} {shown(value)}" for key, value in asked)
            yield f"found {together}, allowed what one family of these publishers has together"

    def _type(self, row: RecordedRow, fields: dict[str, object], kinds: Mapping[str, type]) -> None:
        """Make numbers of a table's texts where the event has numbers."""
        for name, value in fields.items():
            kind = kinds.get(name)
            if kind is None or not isinstance(value, str):
                continue
            number = self._file.number(value) if kind in (int, float) else None
            if number is None or (kind is int and not isinstance(number, int)):
                words = {int: "a whole number", float: f"a number such as {self._file.example}"}
                allowed = words.get(kind, "JSON lines for such a field")
                self._problems.add(row.line, f"{name}: found {shown(value)}, allowed {allowed}")
            else:
                fields[name] = number

    def _check_identity(self, row: RecordedRow, fields: Mapping[str, object], route: Route) -> None:
        event = market.build(route.event, random.Random(0), timestamp="", channel=route.channel)
        try:
            payload(event | dict(fields), self._identity, 0)
        except IdentityPathError as error:
            self._problems.add(row.line, f"{self._root}: found {shown(fields[self._root])}, allowed room for {error}")


def _names(route: Route) -> set[str]:
    """What the event of a route is called, in a profile and in its payload."""
    return {route.event, market.CATALOGUE[route.event].event_type}


def _some(values: Sequence[str]) -> str:
    more = f" and {len(values) - _KNOWN:,} more" if len(values) > _KNOWN else ""
    return ", ".join(shown(value) for value in values[:_KNOWN]) + more


def _kinds(route: Route) -> Mapping[str, type]:
    """Fields of a route's event that are no text, with their types."""
    event = market.build(route.event, random.Random(0), timestamp="", keys=dict(route.keys), channel=route.channel)
    return {name: type(value) for name, value in event.items() if not isinstance(value, str)}
