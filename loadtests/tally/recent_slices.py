"""What did each consumer receive in each slice of the last seconds?  A log of reads, folded only round a fault."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Any

from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.records import FirstAfter, Record, Touched
from loadtests.tally.account import ROWS_A_RECORD, Account
from loadtests.tally.batch import Batch

RING_SLICES = 2 * NS_PER_S // SLICE_NS
"""How far back an announced fault finds every consumer's slices."""


class _Slot:
    """The reads of one slice: who, when, what; and who deviated."""

    __slots__ = ("deviants", "index", "logs", "seen", "wanted", "written")

    def __init__(self, index: int, *, groups: int, wanted: bool) -> None:
        self.index = index
        self.wanted = wanted  # a fault is open: for every consumer
        self.written = False  # for every consumer
        self.seen = False  # its deviants are written, if it had any
        self.logs: list[list[Any]] = [[] for _ in range(groups)]  # as GroupCells.log
        self.deviants: set[int] = set()

    def reads(self) -> Iterator[tuple[Account, int, Batch]]:
        """Who read what, and when."""
        return zip(*[chain.from_iterable(self.logs)] * 3, strict=True)

    def fold(self, only: set[int] | None, late_ns: int) -> Iterator[Touched]:
        """Sum the log per consumer, or for some consumers only; many consumers take several records."""
        sums: dict[int, list[int]] = {}
        for account, now, batch in self.reads():
            consumer = account.consumer
            if only is not None and consumer not in only:
                continue
            greatest = batch.greatest_due_ns
            worst = now - batch.least_due_ns
            sum_ = sums.get(consumer)
            if sum_ is None:
                sums[consumer] = [batch.count, now, now, greatest, worst, now if worst > late_ns else 0]
                continue
            sum_[0] += batch.count
            sum_[2] = now
            if greatest > sum_[3]:
                sum_[3] = greatest
            if worst > sum_[4]:
                sum_[4] = worst
            if worst > late_ns:
                sum_[5] = now
        consumers = sorted(sums.items())
        for begin in range(0, max(1, len(consumers)), ROWS_A_RECORD):
            rows = consumers[begin : begin + ROWS_A_RECORD]
            yield Touched(
                received_slice=self.index,
                consumer=[consumer for consumer, _ in rows],
                count=[row[0] for _, row in rows],
                first_ns=[row[1] for _, row in rows],
                last_ns=[row[2] for _, row in rows],
                greatest_due_ns=[row[3] for _, row in rows],
                worst_latency_ns=[row[4] for _, row in rows],
                complete=only is None,
                late_ns=[row[5] for _, row in rows],
            )


class _Healing:
    """A fault that was healed: which consumers got something since, and which something fresh."""

    __slots__ = ("at_ns", "first", "fresh", "next", "until_ns")

    def __init__(self, at_ns: int, until_ns: int) -> None:
        self.at_ns, self.until_ns = at_ns, until_ns
        self.next = at_ns // SLICE_NS  # the first slice that was not looked at
        self.first: set[int] = set()
        self.fresh: set[int] = set()

    def fold(self, slot: _Slot) -> Iterator[FirstAfter]:
        """The consumers that are new in a slice."""
        self.next = slot.index + 1
        found: list[tuple[str, int, int]] = []
        for account, now, batch in slot.reads():
            consumer = account.consumer
            if consumer in self.fresh or now < self.at_ns:
                continue
            if consumer not in self.first:
                self.first.add(consumer)
                found.append(("byte", consumer, now))
            if batch.greatest_due_ns >= self.at_ns:
                self.fresh.add(consumer)
                found.append(("fresh", consumer, now))
        for begin in range(0, len(found), ROWS_A_RECORD):
            rows = found[begin : begin + ROWS_A_RECORD]
            yield FirstAfter(
                healed_ns=self.at_ns,
                kind=[kind for kind, _, _ in rows],
                consumer=[consumer for _, consumer, _ in rows],
                at_ns=[at_ns for _, _, at_ns in rows],
            )


class TouchRing:
    """The logs of the last slices; `logs` are those of the present one, one for each consumer group."""

    __slots__ = ("_groups", "_healings", "_late_ns", "_opened", "_present", "_slots", "logs")

    logs: list[list[Any]]

    def __init__(self, index: int, groups: int, late_ns: int) -> None:
        self._groups = groups
        self._slots: deque[_Slot] = deque()
        self._late_ns = late_ns
        self._opened = 0
        self._healings: list[_Healing] = []
        self._present = self._begin(index)

    def _begin(self, index: int) -> _Slot:
        slot = _Slot(index, groups=self._groups, wanted=self._opened > 0)
        self._slots.append(slot)
        self.logs = slot.logs
        return slot

    @property
    def opened(self) -> int:
        """How many faults or recoveries are open."""
        return self._opened

    def deviates(self, consumer: int) -> None:
        """A consumer had a gap or a duplicate in the present slice: its row is written whatever is open."""
        self._present.deviants.add(consumer)

    def turn(self, index: int) -> None:
        """Begin a slice. Slices in which no consumer read are there as well: while open they prove a silence."""
        for missed in range(max(self._present.index + 1, index - RING_SLICES), index + 1):
            self._present = self._begin(missed)

    def open(self) -> None:
        """A fault was announced: the ring, the present slice and all until the close are wanted whole."""
        self._opened += 1
        oldest = self._present.index - RING_SLICES
        for slot in self._slots:
            slot.wanted = slot.wanted or slot.index >= oldest

    def close(self) -> None:
        """A recovery was closed: the present slice is the last one wanted whole, unless another is open."""
        self._opened = max(0, self._opened - 1)

    def healed(self, at_ns: int, until_ns: int) -> None:
        """A fault was healed: firsts since are wanted until then; the ring must hold all since, or nothing is said."""
        if self._slots[0].index <= at_ns // SLICE_NS:
            self._healings.append(_Healing(at_ns, until_ns))

    def records(self, *, final: bool = False) -> Iterator[Record]:
        """Rows of the slices that are over (of all if final); those older than the ring are forgotten."""
        healings = list(self._healings)  # one that comes while the caller lets others run begins with the next call
        for slot in list(self._slots):
            if slot is self._present and not final:
                continue
            for healing in healings:
                if slot.index >= healing.next:
                    yield from healing.fold(slot)
            if slot.wanted and not slot.written:
                slot.written = slot.seen = True
                yield from slot.fold(None, self._late_ns)
            elif slot.deviants and not slot.seen:
                slot.seen = True
                yield from slot.fold(slot.deviants, self._late_ns)
            slot.seen = True
        self._healings = [h for h in self._healings if h.next * SLICE_NS < h.until_ns]
        oldest = self._present.index - RING_SLICES
        while self._slots[0].seen and self._slots[0].index < oldest:
            self._slots.popleft()
