"""Which stretches of a long run may be added up before they are judged, so that no number changes?

Theory of operation.  A run of more than an hour is cut into blocks of 10 s from T0 on.  Of a block in which nothing
happens, every stream's published rows become one row, and so do the deliveries of every group, clock and process, all
dated to the block's begin: nothing that is judged tells them apart.  A block is *fine*, and stays as it came, where
something does, with a margin before and after it:

    marks, changes of the user count, steps of subscriptions, trouble of our own
    a fault, from 5 s before it (how often messages came) until its recovery limit and hold time are over
    publishes that failed or got no answer, gaps, duplicates, first and last message of an account, late deliveries

What a fault is, the leading process's file tells, so it is read first; the rest is known when all has been read.  A
history whose rest asks for more fine blocks than the first guess had is folded again.  What was lost without a gap
shows only in the account: where a coarse row has a loss, its block becomes fine and all is done once more.

Invariants: the account, and whatever else `analyse` makes of the rows, is the same with and without (`test_calm.py`);
blocks begin where steps of the timeline do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loadtests.measure.analysis import Analysis
from loadtests.measure.attribution import OVERRUN
from loadtests.measure.damage import LEADING
from loadtests.measure.fault_windows import Times, fault_windows, times
from loadtests.measure.harness_trouble import scopes
from loadtests.measure.history_tables import (
    KERNEL,
    READ,
    Bools,
    ClientHistograms,
    ClientSums,
    HistoryTables,
    Ints,
    ProcessFacts,
    fold,
    ints,
)
from loadtests.measure.interval_set import SHIFT
from loadtests.measure.stages import analyse
from loadtests.measure.streams import StreamTable
from loadtests.measure.timeline import BLOCK, LONG_S
from loadtests.model.codec import Frame, Torn
from loadtests.model.ids import NS_PER_MS, NS_PER_S, SLICE_NS
from loadtests.model.profile.profile import Profile
from loadtests.model.records import ClientLatency, Consumed, Published, PublishTimes, Record
from loadtests.tally.histogram import BUCKETS

History = Callable[[], Iterable[tuple[str, Frame | Torn]]]
"""Reads a history from its begin, the leading process's file first."""
Span = tuple[int, int]

_SURELY_S = 60.0
"""Longer than the timeline asks by so much is a run that is added up: then its steps are blocks for sure."""
_BEFORE_NS = 6 * NS_PER_S
_SPARE_NS = NS_PER_S
_EVER = 2**62
_ROUNDS = 4


def analysed(profile: Profile, history: History, *, long_s: float = LONG_S, block: int = BLOCK) -> Analysis:
    """All stages of a history; `long_s` and `block` are arguments for tests."""
    if profile.run.duration_s <= long_s:
        return analyse(profile, fold(history()))
    leading = fold((name, part) for name, part in _only(history(), LEADING))
    marks = times(leading, profile, 0)
    last_ns = max([marks.end_ns, *(s.at_ns for _, p in leading.each() for s in p.seconds)])
    if last_ns - marks.t0_ns <= (long_s + _SURELY_S) * NS_PER_S:
        return analyse(profile, fold(history()))
    low = marks.t0_ns // SLICE_NS
    blocks = Blocks(low=low, size=block, fine=np.zeros(_planned_slices(profile) // block + 1, dtype=np.bool_))
    blocks.refine(_spans(leading, profile, low + _planned_slices(profile)))
    del leading
    for _ in range(_ROUNDS):
        facts = fold(history(), CoarseFold(blocks))
        if blocks.refine(_spans(facts, profile, _last_slice(facts))):
            continue
        found = analyse(profile, facts)
        if not blocks.mark(_told_apart(found, blocks)):
            return found
    return analyse(profile, fold(history()))


def _only(history: Iterable[tuple[str, Frame | Torn]], process: str) -> Iterator[tuple[str, Frame | Torn]]:
    """The frames of one process's file."""
    for name, part in history:
        if name == process:
            yield name, part
        elif name > process:
            return


def _planned_slices(profile: Profile) -> int:
    return round(profile.run.length_s * NS_PER_S) // SLICE_NS


def _last_slice(facts: HistoryTables) -> int:
    rows = [p.published.column(1) for _, p in facts.each()] + [p.consumed.column(2) for _, p in facts.each()]
    return max((int(c.max()) for c in rows if len(c)), default=0)


@dataclass(slots=True, kw_only=True, eq=False)
class Blocks:
    """Blocks of slices from T0's on; what lies outside of them is fine."""

    low: int
    size: int
    fine: Bools

    def refine(self, spans: Iterable[Span]) -> bool:
        """Make all blocks fine that some stretches touch; whether any was not."""
        marks = np.zeros_like(self.fine)
        for from_ns, to_ns in spans:
            first, last = (at // SLICE_NS - self.low for at in (from_ns, to_ns))
            marks[max(first // self.size, 0) : max(last // self.size + 1, 0)] = True
        return self._add(marks)

    def mark(self, slices: Ints) -> bool:
        """Make the blocks of some slices fine; whether any was not."""
        marks = np.zeros_like(self.fine)
        marks[self.of(slices[self.coarse(slices)])] = True
        return self._add(marks)

    def _add(self, marks: Bools) -> bool:
        more = bool((marks & ~self.fine).any())
        self.fine |= marks
        return more

    def of(self, slices: Ints) -> Ints:
        """The block of each slice, clipped to those that there are."""
        return np.clip((slices - self.low) // self.size, 0, len(self.fine) - 1)

    def coarse(self, slices: Ints) -> Bools:
        """Which slices lie in a block that is added up."""
        inside: Bools = (slices >= self.low) & (slices < self.low + self.size * len(self.fine))
        return inside & ~self.fine[self.of(slices)]


# -- what tells moments apart


def _margin_ns(profile: Profile) -> int:
    run, steady = profile.run, profile.steady
    return round(run.late_s * NS_PER_S) + (run.settle_ms + steady.group_ms) * NS_PER_MS + _SPARE_NS


def _spans(facts: HistoryTables, profile: Profile, last_slice: int) -> Iterator[Span]:
    """Stretches in which something happened, as far as records tell that are no rows."""
    margin = _margin_ns(profile)
    marks = times(facts, profile, last_slice)
    for from_ns, to_ns in _happened(facts, profile, marks, last_slice):
        yield from_ns - margin, min(to_ns, _EVER) + margin


def _happened(facts: HistoryTables, profile: Profile, marks: Times, last_slice: int) -> Iterator[Span]:
    yield -_EVER, marks.t0_ns
    yield marks.warm_ns, marks.warm_ns
    yield marks.plan_end_ns, _EVER
    late_ns, hold_ns = round(profile.run.late_s * NS_PER_S), round(profile.steady.hold_s * NS_PER_S)
    for fault in fault_windows(facts, profile):
        if fault.begin_ns is not None:
            ends = [at for at in (fault.end_ns, fault.lifted_ns) if at is not None]
            until = _EVER if fault.end_ns is None else max(ends) + hold_ns + (fault.error_ns or 0)
            yield fault.begin_ns - _BEFORE_NS, until
    for _, process in facts.each():
        for step in process.fault_steps:
            yield step.before_ns, step.before_ns
            yield step.after_ns, step.after_ns
        yield from ((m.at_ns, m.at_ns) for m in process.marks)
        yield from ((u.at_ns, u.at_ns) for u in process.users)
        yield from ((e.at_ns, e.at_ns) for e in process.services_ended)
        yield from ((u.from_ns, u.to_ns) for u in process.chosen_users)
        yield from ((t.from_ns - late_ns, _EVER if t.to_ns < 0 else t.to_ns) for t in process.trouble)
        yield from _noticed(process)
        readings = sorted(process.samples.get(("redis", OVERRUN), ()))
        yield from ((a, b + late_ns) for (a, x), (b, y) in itertools.pairwise(readings) if y > x)
    yield from _absent(facts, profile)
    limit_ns = round(profile.recovery.limit_s * NS_PER_S)
    low = marks.t0_ns // SLICE_NS
    ours = scopes(facts, profile, low, max(last_slice + 1, low + 1))
    bad = np.flatnonzero((ours.behind | ours.trouble | ours.slow_read).any(axis=0)) + low
    yield from _seconds(bad * SLICE_NS)
    # An absence that began in it is our own trouble's until its recovery limit, and the target's after that.
    yield from _seconds(bad * SLICE_NS + limit_ns)


def _noticed(process: ProcessFacts) -> Iterator[Span]:
    yield from _seconds(process.deviations.column(6))
    yield from _seconds(process.settled.column(4))


def _seconds(at_ns: Ints) -> Iterator[Span]:
    """Moments, as the seconds that hold them."""
    for second in np.unique(at_ns // NS_PER_S).tolist():
        yield second * NS_PER_S, (second + 1) * NS_PER_S


def _absent(facts: HistoryTables, profile: Profile) -> Iterator[Span]:
    """Steps of subscriptions; whole absences where the contract replays."""
    at = np.concatenate([np.zeros(0, dtype=np.int64), *(p.subscriptions.column("at_ns") for _, p in facts.each())])
    yield from _seconds(at)
    if any(f.offline == "replayed" for f in profile.families):
        left: dict[int, int] = {}
        steps = ((s.at_ns, s.consumer, s.step) for _, p in facts.each() for s in p.subscriptions)
        for at_ns, consumer, step in sorted(steps):
            if step == "confirmed" and consumer in left:
                yield left.pop(consumer), at_ns
            elif step in ("leaving", "left"):
                left.setdefault(consumer, at_ns)


def _told_apart(found: Analysis, blocks: Blocks) -> Ints:
    """Slices of coarse blocks in which rows would have to be told apart after all."""
    table, came, ledger = found.table, found.came, found.ledger
    wait = _margin_ns(found.profile) // SLICE_NS
    odd = (came.received - came.due > wait) | (came.received < came.due)
    rows = table.ok_count != table.end - table.start
    for lost in (ledger.lost_rows, ledger.undecided_rows, ledger.unasked_rows, ledger.across_rows):
        rows |= lost.reshape(-1, lost.shape[-1]).any(axis=0)
    rows[_edges(found.facts, table)] = True
    return np.concatenate((came.due[odd], table.due[rows]))


def _edges(facts: HistoryTables, table: StreamTable) -> Ints:
    """Rows within which an account begins or ends, or that hold a message which came out of turn."""
    found = [np.zeros(0, dtype=np.int64)]
    for _, process in facts.each():
        for closing in process.closings:
            base = table.index(ints(closing.stream)) << SHIFT
            for at in (base + ints(closing.first), base + ints(closing.last) + 1):
                row = np.searchsorted(table.start, at, side="right") - 1
                found.append(row[(row >= 0) & (table.start[row] < at) & (at < table.end[row])])
        _, _, _, stream, first, last, _ = process.deviations.numpy()
        if len(stream):
            found.append(table.cut(table.line(stream, first, last))[0])
    return np.unique(np.concatenate(found))


# -- adding up


_Held = tuple[int, list[Any]]
"""A block, and the records that lie in it."""


def _dense(histograms: Iterable[tuple[Any, Any]]) -> Ints:
    """The sum of histograms whose columns are bytes or lists."""
    alike: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
    short: tuple[list[int], list[int]] = [], []
    for bucket, count in histograms:
        if bucket.__class__ is list:
            if bucket:
                short[0].extend(bucket)
                short[1].extend(count)
            continue
        letters = bucket[:1] + count[:1]
        pair = alike.get(letters)
        if pair is None:
            pair = alike[letters] = ([], [])
        pair[0].append(bucket[1:])
        pair[1].append(count[1:])
    found = np.zeros(BUCKETS, dtype=np.int64)
    pairs = [tuple(map(ints, short))]
    for letters, columns in alike.items():
        pairs.append(tuple(ints(letters[i : i + 1] + b"".join(c)) for i, c in enumerate(columns)))
    for buckets, counts in pairs:
        if len(buckets):
            found += np.bincount(buckets, weights=counts, minlength=BUCKETS).astype(np.int64)
    return found


@dataclass(slots=True, kw_only=True)
class _Process:
    """What one process's records of coarse blocks have added up to."""

    cells: dict[tuple[int, str], _Held] = field(default_factory=dict)  # consumer group x family, clock
    publish: dict[int, _Held] = field(default_factory=dict)  # publisher group
    streams: dict[int, list[int]] = field(default_factory=dict)  # stream -> block, first, last, bytes
    clients: _Clients | None = None


class _Clients:
    """Histograms of single consumers over neighbouring blocks."""

    def __init__(self, first: int) -> None:
        self.first = self.last = first
        self._sums = ClientSums()

    def add(self, record: ClientLatency) -> None:
        self.last = max(self.last, record.last_slice)
        self._sums.add(ClientHistograms.of(record))

    def record(self) -> ClientHistograms:
        consumers, counts = self._sums.sums()
        of, bucket = np.nonzero(counts)
        return ClientHistograms(
            self.first,
            self.last,
            consumers,
            np.bincount(of, minlength=len(consumers)),
            bucket.astype(np.uint8),
            counts[of, bucket],
        )


class CoarseFold:
    """Adds up what lies in coarse blocks; a `Coarser`."""

    def __init__(self, blocks: Blocks) -> None:
        self._low, self._size = blocks.low, blocks.size
        self._blocks = blocks
        self._fine = blocks.fine.tolist()
        self._held: dict[str, _Process] = {}
        self._facts: dict[str, ProcessFacts] = {}
        self._takes: dict[type[Any] | None, Callable[[_Process, ProcessFacts, Any], bool]] = {
            Consumed: self._consumed,
            PublishTimes: self._publish,
            Published: self._published,
            ClientLatency: self._clients,
        }

    def take(self, process: str, facts: ProcessFacts, record: Record) -> bool:
        """Whether it took a record of a process over; of some it leaves a part to the caller's `facts`."""
        held = self._held.get(process)
        if held is None:
            held = self._held[process] = _Process()
            self._facts[process] = facts
        kind = type(record)
        take = self._takes.get(kind) or self._takes.get(kind.__base__)
        return take is not None and take(held, facts, record)

    def hand_over(self) -> None:
        """Add the rows that are left."""
        for process, held in self._held.items():
            facts = self._facts[process]
            for cell in held.cells.values():
                self._cell(facts, *cell)
            for lags in held.publish.values():
                self._times(facts, *lags)
            for stream, row in held.streams.items():
                self._row(facts, stream, row)
            if held.clients is not None:
                facts.client_latency.append(held.clients.record())

    def _block(self, slice_: int) -> int:
        """The block of a slice; -1 where it is fine."""
        at = (slice_ - self._low) // self._size
        return at if 0 <= at < len(self._fine) and not self._fine[at] else -1

    def _begin(self, block: int) -> int:
        return self._low + block * self._size

    def _consumed(self, held: _Process, facts: ProcessFacts, c: Consumed) -> bool:
        block = self._block(c.due_slice)
        if block < 0 or (c.received_slice - self._low) // self._size != block:
            return False
        key = c.group, c.clock
        cell = held.cells.get(key)
        if cell is not None and cell[0] == block:
            cell[1].append(c)
            return True
        if cell is not None:
            self._cell(facts, *cell)
        held.cells[key] = block, [c]
        return True

    def _cell(self, facts: ProcessFacts, block: int, cells: list[Consumed]) -> None:
        at = self._begin(block)
        lengths = [
            _extend(facts.latency, _dense([c.latency for c in cells])),
            _extend(facts.service, _dense([c.service for c in cells])),
            _extend(facts.read_delay, _dense([c.read_delay for c in cells])),
            _extend(facts.sampled_read, _dense([c.sampled_read for c in cells])),
        ]
        numbers = np.array([(c.unique, c.repeated, c.bytes, c.negative, c.reads) for c in cells], dtype=np.int64)
        clock = KERNEL if cells[0].clock == "kernel" else READ
        facts.consumed.append(cells[0].group, at, at, clock, *numbers.sum(axis=0).tolist(), *lengths)

    def _publish(self, held: _Process, facts: ProcessFacts, p: PublishTimes) -> bool:
        block = self._block(p.due_slice)
        if block < 0:
            return False
        lags = held.publish.get(p.publishers)
        if lags is not None and lags[0] == block:
            lags[1].append(p)
            return True
        if lags is not None:
            self._times(facts, *lags)
        held.publish[p.publishers] = block, [p]
        return True

    def _times(self, facts: ProcessFacts, block: int, times_: list[PublishTimes]) -> None:
        lengths = [
            _extend(facts.own_lag, _dense([p.own_lag for p in times_])),
            _extend(facts.blocked, _dense([p.blocked for p in times_])),
        ]
        numbers = np.array([(p.sent, p.not_offered, p.receivers_zero) for p in times_], dtype=np.int64)
        sent, not_offered, zero = numbers.sum(axis=0).tolist()
        facts.publish.append(times_[0].publishers, self._begin(block), sent, not_offered, -1, -1, zero, *lengths)

    def _published(self, held: _Process, facts: ProcessFacts, p: Published) -> bool:
        rows = np.array([ints(c) for c in (p.stream, p.due_slice, p.sent_slice, p.first, p.last, p.bytes)])
        block = self._blocks.of(rows[1])
        coarse = self._blocks.coarse(rows[1]) & ((rows[2] - self._low) // self._size == block)
        if not coarse.all():
            facts.published.extend(*rows[:, ~coarse])
        rows, block = rows[:, coarse], block[coarse]
        if not len(block):
            return True
        stream, _, _, first, last, size = rows
        new = (np.diff(stream) != 0) | (np.diff(block) != 0) | (first[1:] != last[:-1] + 1)
        begin = np.concatenate(([0], np.flatnonzero(new) + 1))
        end = np.concatenate((begin[1:], [len(stream)])) - 1
        columns = (stream[begin], block[begin], first[begin], last[end], np.add.reduceat(size, begin))
        for of, at, *rest in zip(*(c.tolist() for c in columns), strict=True):
            row = held.streams.get(of)
            if row is not None and row[0] == at and row[2] + 1 == rest[0]:
                row[2] = rest[1]
                row[3] += rest[2]
                continue
            if row is not None:
                self._row(facts, of, row)
            held.streams[of] = [at, *rest]
        return True

    def _row(self, facts: ProcessFacts, stream: int, row: list[int]) -> None:
        block, first, last, size = row
        facts.published.append(stream, self._begin(block), self._begin(block), first, last, size)

    def _clients(self, held: _Process, facts: ProcessFacts, c: ClientLatency) -> bool:
        first, last = ((at - self._low) // self._size for at in (c.first_slice, c.last_slice))
        run = held.clients
        if first < 0 or last >= len(self._fine) or any(self._fine[first : last + 1]):
            return False
        if run is None or any(self._fine[(min(run.last, c.first_slice) - self._low) // self._size : last + 1]):
            if run is not None:
                facts.client_latency.append(run.record())
            run = held.clients = _Clients(c.first_slice)
        run.add(c)
        return True


def _extend(into: Any, dense: Ints) -> int:
    """Append the entries of a histogram; how many it has."""
    used = np.flatnonzero(dense)
    if len(used):
        into.extend(used, dense[used])
    return len(used)
