"""What becomes of every delivery in this process?  One comparison and a log entry; anomalies leave the loop.

No clock and no socket: times come as arguments.  Per read the receiver calls one of three, the cheapest first:

    follow      the bytes equal the reference of the consumer's kin (`shared_prefix`): nothing is parsed
    take_first  a parsed read that ends with a whole frame: the follower leads, or is accounted and may join again
    take        a parsed read, message by message: `last + 1 == seq` is calm, all else goes to `_deviate`

Each appends (account, now, batch) to the log of its consumer group and does no arithmetic.  When a slice of 100 ms is
over, its log is folded in bulk into cells and histograms (`cells`); `flush` hands out their records once a second.

Example: three consumers read one frame of two messages in the slice 50.  The log holds three entries that share one
batch; the fold adds 6 deliveries, 3 reads and 6 histogram counts to the cell (family, due slice, received slice 50).
A fourth that got the message before, and then only the second of the two, has a gap: a row "gap" goes out within its
second's budget.

Invariants: a message is in exactly one of unique, repeated and strange; latency starts where the plan wanted the send,
or a sender that stalls would hide its own stall (coordinated omission); the histogram is log-linear with a bounded
relative error (HdrHistogram).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from loadtests.model.ids import SLICE_NS
from loadtests.model.records import Consumed, Record
from loadtests.tally.account import Account, DeviationRows, Gaps, StrangeRows, closings
from loadtests.tally.batch import Batch, key_parts
from loadtests.tally.cells import Cell, GroupCells, fold
from loadtests.tally.client_latency import ClientLatencies
from loadtests.tally.followers import BUDGET_BYTES, Kinship
from loadtests.tally.histogram import Histogram, bucket_of_us
from loadtests.tally.recent_slices import TouchRing
from loadtests.tally.shared_prefix import NEVER, NOWHERE
from loadtests.tally.streams import STREAMS_KEPT, Streams

_Taken = Literal["unique", "repeated", "strange"]
RANGES_KEPT = 4_000_000
"""Missing ranges kept in one process (64 MB); what is opened beyond is counted, and its account says at least."""
NEVER_LATE_NS: Final = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Deliveries of this process so far; the histogram holds those of the last flush."""

    unique: int
    repeated: int
    missing: int  # of the open accounts: gaps not filled so far
    messages: int
    reads: int
    strange: int
    latency: Histogram


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
        streams_kept: int = STREAMS_KEPT,
        references_bytes: int = BUDGET_BYTES,
    ) -> None:
        self.streams = Streams(family_of_route, streams_kept)
        self.strange = StrangeRows()
        self.miscounted: list[int] = []  # consumers whose closing did not add up, since the caller last looked
        self.groups = [GroupCells(group) for group in range(consumer_groups)]
        self._copies = copies_of_family
        self._rows = DeviationRows(exceptions_per_s)
        self._ranges_left = ranges_kept
        self._slice = now_ns // SLICE_NS
        self.slice_end = (self._slice + 1) * SLICE_NS
        self._touch = TouchRing(self._slice, consumer_groups, late_ns)
        for group, log in zip(self.groups, self._touch.logs, strict=True):
            group.turn(log)
        self._over: list[tuple[int, GroupCells, list[Any], dict[int, Cell]]] = []  # logs and cells of slices that ended
        self.kinship = Kinship(references_bytes)
        self._closed: list[Account] = []
        self._unique = self._repeated = self._messages = self._reads = self._strange = 0
        self._missing = 0
        self._latency = Histogram()
        self._clients = ClientLatencies()
        self._read_delays: dict[int, int] = {}

    def account(self, *, consumer: int, epoch: int, group: int, routes: frozenset[int], transport: str = "") -> Account:
        """Open the account of one epoch of a consumer; those of equal transport and routes may get equal bytes."""
        kin = self.kinship.of(transport, routes)
        account = Account(consumer=consumer, epoch=epoch, routes=routes, cells=self.groups[group], kin=kin)
        self.kinship.enter(account)
        return account

    def close_account(self, account: Account) -> None:
        """The epoch is over: its closing goes out with the next flush."""
        self.kinship.depart(account)
        self._closed.append(account)

    def follow(self, account: Account, chunk: bytes, now_ns: int) -> tuple[Batch | None, int]:
        """Account as much of a read as equals the reference that the account follows.

        Returns what came with it, if any message became whole, and how many bytes were accounted.
        """
        reference = account.reference
        if reference is None:
            return None, 0
        begin, held = account.place
        at, held, equal = reference.follow(begin, held, chunk)
        if not equal:
            return None, 0
        if held:
            account.at, account.held = NOWHERE, (at, held)
        else:
            account.at, account.held = at, None
        if at is begin:
            return None, equal
        if now_ns >= self.slice_end:
            self.turn(now_ns)
        batch = reference.between(begin, at)
        log = account.cells.log
        log += (account, now_ns, batch)
        return batch, equal

    def leave(self, account: Account) -> None:
        """Follow the reference no further."""
        self.kinship.leave(account)

    def take_first(self, account: Account, batch: Batch, now_ns: int) -> None:
        """Account a read that ended with a whole frame and was not followed; then follow, or lead, the reference."""
        kinship = self.kinship
        if kinship.lead(account, batch, self.streams.route):
            if now_ns >= self.slice_end:
                self.turn(now_ns)
            log = account.cells.log
            log += (account, now_ns, batch)
            return
        led = kinship.leads(account)
        kinship.leave(account)
        in_order = self.take(account, batch, now_ns)
        kinship.stand(account, batch, in_order=in_order, led=led)

    def take(self, account: Account, batch: Batch, now_ns: int) -> bool:
        """Account one read, message by message; whether each was the next of its stream."""
        if now_ns >= self.slice_end:
            self.turn(now_ns)
        last = account.last
        if batch.width > len(last):
            last.extend([NEVER] * (len(self.streams) - len(last)))
        strange = 0
        in_order = True
        for index, seq, _, key, _, _ in batch.messages:
            if last[index] + 1 == seq:
                last[index] = seq
                continue
            begins = last[index] == NEVER
            taken = self._deviate(account, index, seq, now_ns)
            in_order = in_order and begins and taken == "unique"
            if taken == "strange":
                strange += 1
            elif taken == "repeated":
                account.cells.cell(key).repeated += 1
        if batch.strange:
            for kind, example, family in batch.strange:
                self.note_strange(kind, account.consumer, now_ns, example, family)
        if strange == batch.count:
            return False
        if strange:
            batch = self._own(account, batch)
        account.taken += batch.count
        log = account.cells.log
        log += (account, now_ns, batch)
        return in_order

    def sampled(self, account: Account, batch: Batch, now_ns: int, kernel_ns: int | None) -> None:
        """Look at the times of a read that was accounted; `kernel_ns` is when the kernel got its last bytes."""
        group = account.cells
        counted = False
        for _, _, due_ns, key, _, sent_ns in self._own(account, batch).messages:
            if kernel_ns is None:
                group.cell(key).sampled(now_ns - sent_ns)
                continue
            place = (key, kernel_ns // SLICE_NS)
            cell = group.kernel.get(place)
            if cell is None:
                cell = group.kernel[place] = Cell()
            if not counted:
                counted = True
                cell.reads += 1
            cell.took((kernel_ns - due_ns) // 1000)
            cell.read((now_ns - due_ns) // 1000)
            cell.sampled(kernel_ns - sent_ns)
            delay_ns = now_ns - kernel_ns
            cell.delayed(delay_ns)
            if delay_ns >= 0:
                bucket = bucket_of_us(delay_ns // 1000)
                self._read_delays[bucket] = self._read_delays.get(bucket, 0) + 1

    def note_strange(self, kind: str, consumer: int, at_ns: int, example: str, family: int = -1) -> None:
        """Count a message that belongs to no account or is not what was published, or a breach of the protocol."""
        self._strange += 1
        self.strange.add(kind, consumer, at_ns, example, family)

    def open_touch(self, now_ns: int) -> None:
        """A fault was announced: whole slices are wanted, from the ring on until the matching close."""
        self.turn(now_ns)
        self._clients.cut(self._slice)
        self._touch.open()

    def healed(self, healed_ns: int, until_ns: int) -> None:
        """A fault was healed: each consumer's first message since, and its first fresh one, are recorded until then."""
        self._touch.healed(healed_ns, until_ns)

    def close_touch(self, now_ns: int) -> None:
        """The recovery of one fault was closed."""
        self.turn(now_ns)
        self._clients.cut(self._slice)
        self._touch.close()

    def warm(self, at_ns: int) -> None:
        """The warm-up ends then: what a consumer got before is told apart from what it gets after."""
        self._clients.cut(-(-at_ns // SLICE_NS))

    def flush(self, now_ns: int, *, final: bool = False) -> Iterator[Record]:
        """Everything that is due at once."""
        return (record for record in self.pieces(now_ns, final=final) if record is not None)

    def pieces(self, now_ns: int, *, final: bool = False) -> Iterator[Record | None]:
        """Everything that is due, piece by piece, so that the caller may let others run between two of them; a None
        stands for work that brought no record yet.

        The present slice stays open unless this is the final flush.
        """
        self.turn(now_ns + (SLICE_NS if final else 0))
        over, self._over = self._over, []
        closed, self._closed = self._closed, []
        latency = Histogram()
        for received_slice, group, read, cells in over:
            yield from self._clients.begin(received_slice)
            yield from fold(read, cells, self._clients)
            for key, cell in cells.items():
                yield self._consumed(received_slice, group, key, cell, latency)
        self._latency = latency
        for group in self.groups:
            for (key, received_slice), cell in group.turn_kernel().items():
                yield cell.record(group=self._group(key, group), key=key, received_slice=received_slice, clock="kernel")
        if final:
            yield from self._clients.take()
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
        )

    def take_read_delays(self) -> dict[int, int]:
        """How long the bytes of stamped reads had lain in the kernel, up to now since the last call: bucket, count."""
        taken, self._read_delays = self._read_delays, {}
        return taken

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

    def turn(self, now_ns: int) -> None:
        """Begin the slice of this time, unless it has begun."""
        if now_ns < self.slice_end:
            return
        over = self._slice
        self._slice = now_ns // SLICE_NS
        self.slice_end = (self._slice + 1) * SLICE_NS
        self._touch.turn(self._slice)
        for group, log in zip(self.groups, self._touch.logs, strict=True):
            done, cells = group.turn(log)
            if done or cells:
                self._over.append((over, group, done, cells))

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
            # It came behind its successors: a gap that is filled at once, so that the rows tell why.
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
