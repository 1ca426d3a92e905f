"""How fast did the database answer, per query and slice of the planned time?  A fold of single queries into records."""

from __future__ import annotations

from loadtests.model.records import Queried
from loadtests.tally.histogram import Histogram


class _Cell:
    __slots__ = ("connect", "example", "failed", "latency", "ok")

    def __init__(self) -> None:
        self.ok = 0
        self.failed = 0
        self.connect = Histogram()
        self.latency = Histogram()
        self.example = ""


class QueryTally:
    """The account of one reader."""

    def __init__(self, readers: int) -> None:
        self._readers = readers
        self._cells: dict[tuple[str, int], _Cell] = {}

    def connected(self, query: str, due_slice: int, took_ns: int) -> None:
        """A connection had to be made for a query."""
        self._cell(query, due_slice).connect.add(took_ns)

    def answered(self, query: str, due_slice: int, took_ns: int) -> None:
        """The rows are there; the time is without connecting."""
        cell = self._cell(query, due_slice)
        cell.ok += 1
        cell.latency.add(took_ns)

    def failed(self, query: str, due_slice: int, why: str) -> None:
        """No rows; `why` begins with the SQLSTATE where there is one."""
        cell = self._cell(query, due_slice)
        cell.failed += 1
        cell.example = cell.example or why

    def records(self) -> list[Queried]:
        """All that came since the last call, and forget it."""
        found = [
            Queried(
                readers=self._readers,
                query=query,
                due_slice=due_slice,
                ok=cell.ok,
                failed=cell.failed,
                connect=cell.connect.sparse(),
                latency=cell.latency.sparse(),
                example=cell.example,
            )
            for (query, due_slice), cell in sorted(self._cells.items())
        ]
        self._cells = {}
        return found

    def _cell(self, query: str, due_slice: int) -> _Cell:
        return self._cells.setdefault((query, due_slice), _Cell())
