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
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import TypeVar

from loadtests.model.records import Closing
from loadtests.tally.anomalies import ROWS_A_RECORD
from loadtests.tally.cells import GroupCells
from loadtests.tally.shared_prefix import Follower, Kin


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
