"""How fast was each request answered, per name and slice of planned time?  A fold of single requests into records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loadtests.tally.histogram import Histogram


class _Cell:
    __slots__ = ("connect", "example", "failed", "latency", "ok")

    def __init__(self) -> None:
        self.ok = 0
        self.failed = 0
        self.connect = Histogram()
        self.latency = Histogram()
        self.example = ""


class RequestTally:
    """The account of one user that asks. `record` makes what goes into the history: of a name, and a cell's numbers."""

    def __init__(self, record: Callable[..., Any]) -> None:
        self._record = record
        self._cells: dict[tuple[str, int], _Cell] = {}

    def connected(self, name: str, due_slice: int, took_ns: int) -> None:
        """A connection had to be made for a request."""
        self._cell(name, due_slice).connect.add(took_ns)

    def answered(self, name: str, due_slice: int, took_ns: int) -> None:
        """The answer is there; the time is without connecting."""
        cell = self._cell(name, due_slice)
        cell.ok += 1
        cell.latency.add(took_ns)

    def failed(self, name: str, due_slice: int, why: str) -> None:
        """No answer; `why` begins with a code, say the SQLSTATE, where there is one."""
        cell = self._cell(name, due_slice)
        cell.failed += 1
        cell.example = cell.example or why

    def records(self) -> list[Any]:
        """All that came since the last call, and forget it."""
        found = [
            self._record(
                name,
                due_slice=due_slice,
                ok=cell.ok,
                failed=cell.failed,
                connect=cell.connect.sparse(),
                latency=cell.latency.sparse(),
                example=cell.example,
            )
            for (name, due_slice), cell in sorted(self._cells.items())
        ]
        self._cells = {}
        return found

    def _cell(self, name: str, due_slice: int) -> _Cell:
        return self._cells.setdefault((name, due_slice), _Cell())
