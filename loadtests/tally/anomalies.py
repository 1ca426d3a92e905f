"""What went otherwise than gapless and once?  Rows for the history: so many per second, the rest in turn or counted."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator
from typing import Literal

from loadtests.model.records import Deviations, Strange

Kind = Literal["gap", "filled", "repeated"]
_KINDS: tuple[Kind, ...] = ("gap", "filled", "repeated")
_BACKLOG_SECONDS = 50
_WIDTH = 7
EXAMPLE = 120
ROWS_A_RECORD = 3000
"""Rows of one record: with seven columns it stays well below what a frame of the history holds."""
_EXAMPLES_A_RECORD = 300
"""Rows of one record where each shows an example, of up to four bytes a character."""


class DeviationRows:
    """Rows wait here for their second's budget; a row that continues its predecessor joins it."""

    def __init__(self, budget_per_s: int) -> None:
        self._budget = budget_per_s
        self._rows: deque[array[int]] = deque()
        self._newest: dict[tuple[Kind, int, int, int], array[int]] = {}
        self._more = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, kind: Kind, consumer: int, epoch: int, stream: int, first: int, last: int, at_ns: int) -> None:
        """Keep one row, or count it where fifty seconds' budgets wait already."""
        place = (kind, consumer, epoch, stream)
        newest = self._newest.get(place)
        if newest is not None and newest[5] + 1 == first:
            newest[5] = last
            return
        if len(self._rows) >= self._budget * _BACKLOG_SECONDS:
            self._more += 1
            return
        row = array("q", (_KINDS.index(kind), consumer, epoch, stream, first, last, at_ns))
        self._rows.append(row)
        self._newest[place] = row

    def records(self, *, everything: bool = False) -> Iterator[Deviations]:
        """The rows of this second's budget, or all of them, in records of bounded size."""
        self._newest.clear()
        left = len(self._rows) if everything else min(self._budget, len(self._rows))
        while left or self._more:
            rows = [self._rows.popleft() for _ in range(min(left, ROWS_A_RECORD))]
            left -= len(rows)
            kinds, consumers, epochs, streams, firsts, lasts, times = zip(*rows, strict=True) if rows else [()] * _WIDTH
            more, self._more = self._more, 0
            yield Deviations(
                kind=[_KINDS[k] for k in kinds],
                consumer=list(consumers),
                epoch=list(epochs),
                stream=list(streams),
                first=list(firsts),
                last=list(lasts),
                at_ns=list(times),
                more=more,
            )


class StrangeRows:
    """What is wrong with single messages, counted per kind, consumer and family with one example each."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int, int], tuple[int, int, str]] = {}

    def add(self, kind: str, consumer: int, at_ns: int, example: str, family: int = -1) -> None:
        """Count one."""
        place = (kind, consumer, family)
        count, first_ns, shown = self._rows.get(place, (0, at_ns, example[:EXAMPLE]))
        self._rows[place] = (count + 1, first_ns, shown)

    def records(self) -> Iterator[Strange]:
        """What was counted since the last time."""
        whole, self._rows = list(self._rows.items()), {}
        for begin in range(0, len(whole), _EXAMPLES_A_RECORD):
            rows = whole[begin : begin + _EXAMPLES_A_RECORD]
            yield Strange(
                kind=[kind for (kind, _, _), _ in rows],
                consumer=[consumer for (_, consumer, _), _ in rows],
                count=[count for _, (count, _, _) in rows],
                at_ns=[at_ns for _, (_, at_ns, _) in rows],
                example=[example for _, (_, _, example) in rows],
                family=[family for (_, _, family), _ in rows],
            )
