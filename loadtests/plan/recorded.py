"""Which rows does a recorded file hold?  Bytes as programs and spreadsheets write them -> rows, each with its line.

JSON lines, or a table with comma, semicolon or tab between the columns.  Values stay what the file says: those of a
table are text, and what a number looks like is decided once for a file.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

MAX_PROBLEMS = 20
"""So many are told of one file; the rest are counted."""
_SHOWN = 60

# The marks of UTF-32 begin as those of UTF-16 do, so they come first.
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_ENCODINGS = "UTF-8, or UTF-16 with a byte order mark"
_DELIMITERS = ",;\t"
_WITH_DECIMAL_COMMA = ";\t"
_SEPARATOR_LINE = re.compile(r"sep=(.)(?:\r\n|\r|\n)")  # a spreadsheet's own first line
_LINE_END = re.compile(r"\r\n|\r|\n")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,38})(?:([.,])[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,4})?")


class ReplayError(ValueError):
    """The file cannot be replayed; each problem names its line."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


@dataclass(slots=True)
class Problems:
    """What is wrong with a file: each thing once, with the first line that has it."""

    _found: dict[str, list[int]] = field(default_factory=dict)  # text -> first line, how many more
    _further: int = 0

    def add(self, line: int, text: str) -> None:
        """Note a problem of a line."""
        if (known := self._found.get(text)) is not None:
            known[1] += 1
        elif len(self._found) < MAX_PROBLEMS:
            self._found[text] = [line, 0]
        else:
            self._further += 1

    def check(self) -> None:
        """Raise ReplayError where there is any."""
        if self._found:
            told = [
                f"line {line}: {text}" + (f" (and {more:,} more lines)" if more else "")
                for text, (line, more) in self._found.items()
            ]
            raise ReplayError(told + ([f"and {self._further:,} more problems"] if self._further else []))


@dataclass(frozen=True, slots=True)
class RecordedRow:
    """One row; `source` is its JSON text, empty where it is of a table."""

    line: int
    values: dict[str, object]
    source: str

    def text(self, name: str) -> str | None:
        """A value as text exactly as the file has it, a JSON number by its digits; None: neither text nor number."""
        value = self.values[name]
        if isinstance(value, str):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        raw = msgspec.json.decode(self.source, type=dict[str, msgspec.Raw])[name]
        return bytes(raw).decode()


def decoded(data: bytes) -> str:
    """The text of a file: UTF-8, or what a byte order mark says.  Raises ReplayError."""
    mark, encoding = next(((m, e) for m, e in _MARKS if data.startswith(m)), (b"", "utf-8"))
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode(encoding, "ignore")
        line = len(_LINE_END.findall(before)) + 1
        guess = "" if mark else " but perhaps Windows-1252"
        found = f"the byte 0x{error.object[error.start]:02X}, which is no {encoding.upper()}{guess}"
        raise ReplayError([f"line {line}: found {found}, allowed {_ENCODINGS}"]) from None
    if "\0" in text:
        line = len(_LINE_END.findall(text, 0, text.index("\0"))) + 1
        raise ReplayError([f"line {line}: found binary data, allowed text in {_ENCODINGS}"])
    return text


class Recorded:
    """The rows of one file.  `needs`: one of these columns is in every row."""

    def __init__(self, text: str, needs: Sequence[str], problems: Problems) -> None:
        self._problems, self._needs = problems, needs
        self._mark = ""  # of decimals, once a number had one
        self._marks = "."
        head = text.lstrip(" \t\r\n")[:1]
        self.columns: list[str] = []  # of a table
        self.rows: Iterable[RecordedRow]
        if head == "{":
            self.rows = self._json(text)
        elif head == "[":
            raise ReplayError(["line 1: found a JSON array, allowed one JSON object a line"])
        else:
            self.rows = self._table(text)

    def number(self, text: str) -> int | float | None:
        """What a table's value is as a number, by the syntax of JSON; None where it is none."""
        found = _NUMBER.fullmatch(text)
        if found is None:
            return None
        if mark := found[1]:
            if mark not in self._marks or mark != (self._mark or mark):
                return None
            self._mark = mark
        elif "e" not in text and "E" not in text:
            return int(text)
        value = float(text.replace(",", "."))
        return value if value - value == 0 else None

    @property
    def example(self) -> str:
        """How a number of this file looks."""
        return f"0{self._mark or self._marks[0]}5"

    def _json(self, text: str) -> Iterator[RecordedRow]:
        # A JSON text cannot hold a raw line end inside a value; other separators, such as U+2028, it can.
        for number, line in enumerate(_LINE_END.split(text), 1):
            if not line.strip(" \t"):
                continue
            try:
                values = msgspec.json.decode(line, type=dict[str, object])
            except (msgspec.DecodeError, RecursionError) as error:
                self._problems.add(number, f"found {shown(line)}, allowed one JSON object a line: {error}")
                continue
            yield RecordedRow(number, values, line)

    def _table(self, text: str) -> Iterator[RecordedRow]:
        first = 1
        given = None
        if found := _SEPARATOR_LINE.match(text):
            text, first, given = text[found.end() :], 2, found[1]
        delimiter, self.columns = self._header(text, first, given)
        if delimiter in _WITH_DECIMAL_COMMA:
            self._marks = ".,"
        while self.columns and not self.columns[-1]:
            self.columns.pop()
        self._check_columns(first)
        width = len(self.columns)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        line, seen_header = first, False
        while True:
            try:
                values = next(reader, None)
            except csv.Error as error:
                self._problems.add(line, f"found a row that is no CSV, allowed quotes in pairs: {error}")
                return
            if values is None:
                return
            at, line = line, first + reader.line_num
            if not any(values):
                continue
            if not seen_header:
                seen_header = True
                continue
            if len(values) < width or any(values[width:]):
                self._problems.add(
                    at, f"found {len(values)} values, allowed as many as the header has columns, {width}"
                )
                continue
            yield RecordedRow(at, dict(zip(self.columns, values[:width], strict=True)), "")

    def _header(self, text: str, line: int, given: str | None) -> tuple[str, list[str]]:
        """Delimiter and columns: the delimiter is the one by which a column of time is found."""
        if given is not None and given not in _DELIMITERS:
            raise ReplayError([f"line 1: found sep={given}, allowed a comma, a semicolon or a tab between columns"])
        found: list[str] = []
        for delimiter in (given,) if given else _DELIMITERS:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            try:
                found = next((row for row in reader if any(row)), [])
            except csv.Error:
                continue
            if any(name.strip().casefold() in self._needs for name in found):
                return delimiter, found
        if not text.strip():
            raise ReplayError(["line 1: found no event, allowed JSON lines, or a table with a header"])
        raise ReplayError(
            [
                f"line {line}: found no time in {shown(text.lstrip()[:200].splitlines()[0])}, allowed a JSON object a "
                f"line, or a header with one of {', '.join(self._needs)} and a comma, semicolon or tab between columns"
            ]
        )

    def _check_columns(self, line: int) -> None:
        for place, name in enumerate(self.columns, 1):
            if not name.strip():
                self._problems.add(line, f"column {place}: found no name, allowed a name for each column with values")
            elif name in self.columns[: place - 1]:
                self._problems.add(line, f"column {place}: found {shown(name)} again, allowed each name once")


def shown(value: object) -> str:
    """A value in quotes for a sentence, cut where it is long."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    cut = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return f'"{cut}"' if isinstance(value, str) else cut
