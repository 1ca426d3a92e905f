"""What did each consumer receive in each slice around a fault, and where is that not known for all of them?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadtests.measure.deliveries import Deliveries
from loadtests.measure.history_tables import LATE_NOT_TOLD, HistoryTables, Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slices:
    """What each consumer of some received per slice, consumer x slice from `low` on."""

    low: int
    consumers: list[int]
    count: Ints
    first: Ints
    last: Ints
    due: Ints
    worst: Ints
    late: Ints  # last moment at which something came late; LATE_NOT_TOLD where an old history does not say


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Touches:
    """All touched rows of a history, and the first slice from a given one on of which they do not tell everything."""

    rows: Ints
    told: Ints  # per slice of the axis: messages in touched rows
    came: Ints  # per slice of the axis: messages received
    low: int

    def complete_until(self, first: int, last: int) -> int:
        """First slice from `first` on that is not complete, at most `last`."""
        low, high = max(first - self.low, 0), max(last - self.low, 0)
        bad = np.flatnonzero(self.told[low:high] < self.came[low:high])
        return int(bad[0]) + first if len(bad) else last


def touches(facts: HistoryTables, came: Deliveries, low: int, high: int) -> Touches:
    """The touched rows of a history."""
    parts = [p.touched.numpy() for _, p in facts.each()]
    rows = np.concatenate(parts or [np.zeros((8, 0), dtype=np.int64)], 1)
    # A slice is told twice where a deviating consumer's row came before the fault was announced.
    rows = rows[:, np.lexsort((-rows[2], rows[1], rows[0]))]
    if rows.shape[1]:
        again = (np.diff(rows[0]) == 0) & (np.diff(rows[1]) == 0)
        rows = rows[:, np.concatenate(([True], ~again))]
    told, all_ = np.zeros(high - low, dtype=np.int64), np.zeros(high - low, dtype=np.int64)
    inside = (rows[0] >= low) & (rows[0] < high)
    np.add.at(told, rows[0][inside] - low, rows[2][inside])
    here = came.counts & (came.received >= low) & (came.received < high)
    np.add.at(all_, came.received[here] - low, (came.unique + came.repeated)[here])
    return Touches(rows=rows, told=told, came=all_, low=low)


def slices(found: Touches, consumers: list[int], low: int, high: int) -> Slices:
    shape = (len(consumers), high - low)
    count, last, worst, late = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    first, due = np.full(shape, 2**62, dtype=np.int64), np.full(shape, -(2**62), dtype=np.int64)
    known = np.array(sorted(consumers), dtype=np.int64)
    rows = found.rows[:, (found.rows[0] >= low) & (found.rows[0] < high) & np.isin(found.rows[1], known)]
    at = (np.searchsorted(known, rows[1]), rows[0] - low)
    np.add.at(count, at, rows[2])
    np.minimum.at(first, at, rows[3])
    np.maximum.at(last, at, rows[4])
    np.maximum.at(due, at, rows[5])
    np.maximum.at(worst, at, rows[6])
    np.maximum.at(late, at, rows[7])
    late[at[0][rows[7] == LATE_NOT_TOLD], at[1][rows[7] == LATE_NOT_TOLD]] = LATE_NOT_TOLD
    return Slices(
        low=low, consumers=sorted(consumers), count=count, first=first, last=last, due=due, worst=worst, late=late
    )


def firsts(facts: HistoryTables, healed_ns: int, kind: int, consumers: list[int]) -> Ints:
    """Per consumer the exact moment of its first message since a fault was healed; -1 where nothing says it."""
    found = np.full(len(consumers), 2**62, dtype=np.int64)
    known = np.array(consumers, dtype=np.int64)
    for _, process in facts.each():
        healed, code, consumer, at = process.first_after.numpy()
        mine = (healed == healed_ns) & (code == kind) & np.isin(consumer, known)
        np.minimum.at(found, np.searchsorted(known, consumer[mine]), at[mine])
    return np.where(found == 2**62, -1, found)
