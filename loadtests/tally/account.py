"""What did one consumer get of each stream over one connection?  Gapless counting; exact ranges where it is not.

Theory of operation.  The seqs of a stream are consecutive, so per stream an account needs its first and last number and
the ranges between them that are missing: unique = last - first + 1 - missing.  Calm traffic costs one comparison a
message and no memory.

Example: of one stream seq 5, 6, 9, 7, 9 come.

    5, 6    first 5, last 6
    9       last 9, gap 7 to 8      (a row "gap")
    7       gap 8 to 8              (a row "filled": it came late, and is unique)
    9       duplicate               (a row "repeated", unless the contract allows that many copies)
    closing: first 5, last 9, unique 9 - 5 + 1 - 1 = 4 = taken 5 - not_unique 1

Invariant (`adds_up`): the streams' unique counts sum to what the reads brought, less duplicates.
Finished accounts go into the history as closings; those with equal vectors share one record.

What went otherwise than gapless and once becomes rows of the history (`DeviationRows`, `StrangeRows`): so many per
second, the rest in turn or counted.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Literal, TypeVar

from loadtests.model.records import Closing, Deviations, Strange
from loadtests.tally.cells import GroupCells
from loadtests.tally.shared_prefix import Follower, Kin

Kind = Literal["gap", "filled", "repeated"]
_KINDS: tuple[Kind, ...] = ("gap", "filled", "repeated")
_BACKLOG_SECONDS = 50
_WIDTH = 7
EXAMPLE = 120
ROWS_A_RECORD = 3000
"""Rows of one record: with seven columns it stays well below what a frame of the history holds."""
_EXAMPLES_A_RECORD = 300
"""Rows of one record where each shows an example, of up to four bytes a character."""


class Gaps:
    """Inclusive, disjoint ranges of missing `seq`; `missing` also counts the ranges that were not kept."""

    __slots__ = ("_first", "_last", "missing")

    def __init__(self) -> None:
        self._first = array("q")
        self._last = array("q")
        self.missing = 0

    def __len__(self) -> int:
        return len(self._first)

    def open(self, first: int, last: int) -> None:
        """Keep a range that overlaps none of the kept ones."""
        place = bisect_right(self._first, first) if self._first and self._first[-1] > first else len(self._first)
        self._first.insert(place, first)
        self._last.insert(place, last)
        self.missing += last - first + 1

    def forget(self, first: int, last: int) -> None:
        """Count a range without keeping it: nothing of it can be filled any more."""
        self.missing += last - first + 1

    def fill(self, seq: int) -> bool:
        """Take one number out; False where it is in no kept range."""
        place = bisect_right(self._first, seq) - 1
        if place < 0 or seq > self._last[place]:
            return False
        first, last = self._first[place], self._last[place]
        if first == last:
            del self._first[place]
            del self._last[place]
        elif seq == first:
            self._first[place] = seq + 1
        elif seq == last:
            self._last[place] = seq - 1
        else:
            self._last[place] = seq - 1
            self._first.insert(place + 1, seq + 1)
            self._last.insert(place + 1, last)
        self.missing -= 1
        return True

    def ranges(self) -> list[tuple[int, int]]:
        """The kept ranges, ascending."""
        return list(zip(self._first, self._last, strict=True))


_EXTRA_KEPT = 4096


class Account(Follower):
    """One epoch of one consumer."""

    __slots__ = ("at_least", "cells", "consumer", "epoch", "extra", "gaps", "not_unique", "own")

    def __init__(self, *, consumer: int, epoch: int, routes: frozenset[int], cells: GroupCells, kin: Kin) -> None:
        super().__init__(routes=routes, kin=kin)
        self.consumer = consumer
        self.epoch = epoch
        self.cells = cells
        self.own = b""  # what is in its frames and in nobody else's, where that is known (`single_frame`)
        self.gaps: dict[int, Gaps] = {}
        self.extra: dict[tuple[int, int], int] = {}  # stream index, seq -> duplicates, where the contract allows copies
        self.not_unique = 0  # of the messages taken: duplicates
        self.at_least = False

    def within_copies(self, index: int, seq: int, copies: int) -> bool:
        """Note one more copy of a message; True while the contract allows that many."""
        times = self.extra.pop((index, seq), 0) + 1
        self.extra[index, seq] = times
        if len(self.extra) > _EXTRA_KEPT:
            del self.extra[next(iter(self.extra))]
        return times < copies

    def missing(self, index: int) -> int:
        """Numbers of a stream between its first and last that did not come."""
        gaps = self.gaps.get(index)
        return 0 if gaps is None else gaps.missing  # also where no range of them was kept

    def vector(self) -> tuple[tuple[int, int, int, int], ...]:
        """Per stream that came: index, first, last, unique; by index."""
        last = self.last
        return tuple(
            (index, first, last[index], last[index] - first + 1 - self.missing(index))
            for index, first in sorted(self.first.items())
        )

    def adds_up(self) -> bool:
        """Whether the streams' unique counts sum to what the reads brought."""
        return sum(unique for *_, unique in self.vector()) == self.taken - self.not_unique


_T = TypeVar("_T")
_Vector = tuple[tuple[int, int, int, int], ...]


def closings(accounts: Iterable[Account], packed: Sequence[int]) -> Iterator[Closing]:
    """Closing records of finished accounts; `packed` holds the packed stream of each stream index."""
    alike: dict[tuple[_Vector, bool], list[Account]] = {}
    for account in accounts:
        alike.setdefault((account.vector(), account.at_least), []).append(account)
    for (vector, at_least), members in alike.items():
        for some, streams in product(_pieces(members), _pieces(vector)):
            yield Closing(
                consumer=[a.consumer for a in some],
                epoch=[a.epoch for a in some],
                stream=[packed[index] for index, *_ in streams],
                first=[first for _, first, _, _ in streams],
                last=[last for _, _, last, _ in streams],
                unique=[unique for *_, unique in streams],
                at_least=at_least,
            )


def _pieces(whole: Sequence[_T]) -> list[Sequence[_T]]:
    """Parts that leave a record below what a frame of the history holds; one empty part of nothing."""
    return [whole[begin : begin + ROWS_A_RECORD] for begin in range(0, max(1, len(whole)), ROWS_A_RECORD)]


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
