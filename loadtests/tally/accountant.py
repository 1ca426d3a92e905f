"""What becomes of every delivery in this process?  One comparison, one histogram slot; exceptions leave the loop.

No clock and no socket: times come as arguments.  The sources call `take` once per read; the harness flushes once a
second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from loadtests.model.ids import SLICE_NS
from loadtests.model.records import Consumed, Record
from loadtests.tally.account import NEVER, Account
from loadtests.tally.batch import Batch, key_parts
from loadtests.tally.cells import BUCKET_OF_US, Cell, GroupCells
from loadtests.tally.closings import closings
from loadtests.tally.exceptions import DeviationRows, StrangeRows
from loadtests.tally.gaps import Gaps
from loadtests.tally.histogram import Histogram
from loadtests.tally.streams import Streams
from loadtests.tally.touch import TouchRing

_Taken = Literal["unique", "repeated", "strange"]
_TABLE: Final = len(BUCKET_OF_US)
RANGES_KEPT = 4_000_000
"""Missing ranges kept in one process (64 MB); what is opened beyond is counted, and its account says at least."""
NEVER_LATE_NS: Final = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Deliveries of this process so far; the histograms hold those of the last flush."""

    unique: int
    repeated: int
    missing: int  # of the open accounts: gaps not filled so far
    messages: int
    reads: int
    strange: int
    latency: Histogram
    read_delay: Histogram  # of the stamped reads


class Accountant:
    """The tally of one process and run."""

    def __init__(
        self,
        *,
        family_of_route: Sequence[int],
        copies_of_family: Sequence[int],
        consumer_groups: int,
        exceptions_per_s: int,
        now_ns: int,
        ranges_kept: int = RANGES_KEPT,
        late_ns: int = NEVER_LATE_NS,
    ) -> None:
        self.streams = Streams(family_of_route)
        self.strange = StrangeRows()
        self.miscounted: list[int] = []  # consumers whose closing did not add up, since the caller last looked
        self.groups = [GroupCells(group) for group in range(consumer_groups)]
        self._copies = copies_of_family
        self._rows = DeviationRows(exceptions_per_s)
        self._ranges_left = ranges_kept
        self._slice = now_ns // SLICE_NS
        self._slice_end = (self._slice + 1) * SLICE_NS
        self._touch = TouchRing(self._slice, late_ns)
        self._over: list[tuple[int, GroupCells, dict[int, Cell]]] = []  # cells of slices that ended
        self._closed: list[Account] = []
        self._unique = self._repeated = self._messages = self._reads = self._strange = 0
        self._missing = 0
        self._latency = Histogram()
        self._read_delay = Histogram()

    def account(self, *, consumer: int, epoch: int, group: int, routes: frozenset[int]) -> Account:
        """Open the account of one epoch of a consumer."""
        return Account(consumer=consumer, epoch=epoch, routes=routes, cells=self.groups[group])

    def close_account(self, account: Account) -> None:
        """The epoch is over: its closing goes out with the next flush."""
        self._closed.append(account)

    def take(self, account: Account, batch: Batch, now_ns: int) -> None:
        """Account one read."""
        if now_ns >= self._slice_end:
            self._turn(now_ns)
        last = account.last
        if batch.width > len(last):
            last.extend([NEVER] * (len(self.streams) - len(last)))
        cells = account.cells.cells
        cell: Cell | None = None
        strange = False
        for index, seq, due_ns, key, size, _ in batch.messages:
            again = 0
            if last[index] + 1 == seq:
                last[index] = seq
            else:
                taken = self._deviate(account, index, seq, now_ns)
                if taken == "strange":
                    strange = True
                    continue
                if taken == "repeated":
                    again = 1
            cell = cells.get(key)
            if cell is None:
                cell = cells[key] = Cell()
            if again:
                cell.repeated += 1
            cell.bytes += size
            us = (now_ns - due_ns) // 1000
            if 0 <= us < _TABLE:
                cell.latency[BUCKET_OF_US[us]] += 1
            else:
                cell.rare(us)
        if batch.strange:
            for kind, example in batch.strange:
                self.note_strange(kind, account.consumer, now_ns, example)
        if cell is None:
            return
        cell.reads += 1
        if strange:
            batch = self._own(account, batch)
        account.taken += batch.count
        log = self._touch.log
        log += (account, now_ns, batch)

    def take_sampled(self, account: Account, batch: Batch, now_ns: int, kernel_ns: int | None) -> None:
        """Account a read whose times are looked at more closely; `kernel_ns` is when the kernel got its last bytes."""
        self.take(account, batch, now_ns)
        group = account.cells
        for _, _, due_ns, key, _, sent_ns in self._own(account, batch).messages:
            if kernel_ns is None:
                group.cells[key].sampled(now_ns - sent_ns)
                continue
            place = (key, kernel_ns // SLICE_NS)
            cell = group.kernel.get(place)
            if cell is None:
                cell = group.kernel[place] = Cell()
            cell.rare((kernel_ns - due_ns) // 1000)
            cell.sampled(kernel_ns - sent_ns)
            cell.delayed(now_ns - kernel_ns)

    def note_strange(self, kind: str, consumer: int, at_ns: int, example: str) -> None:
        """Count a message that belongs to no account, or a breach of the protocol."""
        self._strange += 1
        self.strange.add(kind, consumer, at_ns, example)

    def open_touch(self, now_ns: int) -> None:
        """A fault was announced: whole slices are wanted, from the ring on until the matching close."""
        self._turn(now_ns)
        self._touch.open()

    def healed(self, healed_ns: int, until_ns: int) -> None:
        """A fault was healed: each consumer's first message since, and its first fresh one, are wanted until then."""
        self._touch.healed(healed_ns, until_ns)

    def close_touch(self, now_ns: int) -> None:
        """The recovery of one fault was closed."""
        self._turn(now_ns)
        self._touch.close()

    def flush(self, now_ns: int, *, final: bool = False) -> Iterator[Record]:
        """Everything that is due, piece by piece, so that the caller may let others run between two of them.

        The present slice stays open unless this is the final flush.
        """
        self._turn(now_ns + (SLICE_NS if final else 0))
        over, self._over = self._over, []
        closed, self._closed = self._closed, []
        latency = Histogram()
        for received_slice, group, cells in over:
            for key, cell in cells.items():
                yield self._consumed(received_slice, group, key, cell, latency)
        self._latency = latency
        self._read_delay = Histogram()
        for group in self.groups:
            for (key, received_slice), cell in group.turn_kernel().items():
                self._read_delay.merge((list(cell.read_delay), list(cell.read_delay.values())))
                yield cell.record(group=self._group(key, group), key=key, received_slice=received_slice, clock="kernel")
        yield from self._rows.records(everything=final)
        yield from self.strange.records()
        yield from self._touch.records()
        for account in closed:
            self._missing -= sum(gaps.missing for gaps in account.gaps.values())
            self._ranges_left += sum(len(gaps) for gaps in account.gaps.values())
            if not account.adds_up():
                self.miscounted.append(account.consumer)
        yield from closings(closed, self.streams.packed)

    def sums(self) -> Sums:
        """Deliveries so far, as of the last flush."""
        return Sums(
            unique=self._unique,
            repeated=self._repeated,
            missing=self._missing,
            messages=self._messages,
            reads=self._reads,
            strange=self._strange,
            latency=self._latency,
            read_delay=self._read_delay,
        )

    def _group(self, key: int, group: GroupCells) -> int:
        return key_parts(key)[1] * len(self.groups) + group.group

    def _consumed(self, received_slice: int, group: GroupCells, key: int, cell: Cell, latency: Histogram) -> Consumed:
        record = cell.record(group=self._group(key, group), key=key, received_slice=received_slice, clock="read")
        latency.merge(record.latency)
        group.shown.add(record)
        self._unique += record.unique
        self._repeated += record.repeated
        self._messages += record.unique + record.repeated
        self._reads += record.reads
        return record

    def _turn(self, now_ns: int) -> None:
        if now_ns < self._slice_end:
            return
        for group in self.groups:
            if group.cells:
                self._over.append((self._slice, group, group.turn()))
        self._slice = now_ns // SLICE_NS
        self._slice_end = (self._slice + 1) * SLICE_NS
        self._touch.turn(self._slice)

    def _own(self, account: Account, batch: Batch) -> Batch:
        """The batch without messages of routes that the consumer did not subscribe to."""
        route, routes = self.streams.route, account.routes
        own = [m for m in batch.messages if route[m[0]] in routes]
        return batch if len(own) == batch.count else Batch(own)

    def _deviate(self, account: Account, index: int, seq: int, now_ns: int) -> _Taken:
        """Anything but the next number of a stream."""
        last = account.last[index]
        if last == NEVER:
            if self.streams.route[index] not in account.routes:
                self.note_strange("foreign route", account.consumer, now_ns, f"stream {self.streams.packed[index]}")
                return "strange"
            account.first[index] = account.last[index] = seq
            return "unique"
        if seq > last:
            self._gap(account, index, last + 1, seq - 1, now_ns)
            account.last[index] = seq
            return "unique"
        first = account.first[index]
        if seq < first:
            # It came behind its successors: a gap that is filled at once, so that whoever reads the rows sees why.
            self._gap(account, index, seq, first - 1, now_ns)
            account.first[index] = seq
        gaps = account.gaps.get(index)
        ranges = len(gaps) if gaps is not None else 0
        if gaps is not None and gaps.fill(seq):
            self._ranges_left -= len(gaps) - ranges
            self._missing -= 1
            self._row("filled", account, index, seq, seq, now_ns)
            return "unique"
        account.not_unique += 1
        copies = self._copies[self.streams.family[index]]
        if copies == 1 or not account.within_copies(index, seq, copies):
            self._row("repeated", account, index, seq, seq, now_ns)
            account.cells.shown.repeats[self.streams.family[index]] += 1
        return "repeated"

    def _gap(self, account: Account, index: int, first: int, last: int, now_ns: int) -> None:
        gaps = account.gaps.get(index)
        if gaps is None:
            gaps = account.gaps[index] = Gaps()
        if self._ranges_left > 0:
            self._ranges_left -= 1
            gaps.open(first, last)
        else:
            gaps.forget(first, last)
            account.at_least = True
        self._missing += last - first + 1
        account.cells.shown.gaps[self.streams.family[index]] += last - first + 1
        self._row("gap", account, index, first, last, now_ns)

    def _row(
        self,
        kind: Literal["gap", "filled", "repeated"],
        account: Account,
        index: int,
        first: int,
        last: int,
        at_ns: int,
    ) -> None:
        self._touch.deviates(account.consumer)
        self._rows.add(kind, account.consumer, account.epoch, self.streams.packed[index], first, last, at_ns)
