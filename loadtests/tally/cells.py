"""How are deliveries of one consumer group summed up?  One cell per family, due slice, received slice and clock.

The receive loop only writes a log of reads; in bulk, when a slice is over, `fold` makes histograms of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from loadtests.model.records import Clock, Consumed, Sparse
from loadtests.tally.batch import Batch, key_parts
from loadtests.tally.client_latency import ClientLatencies
from loadtests.tally.histogram import BUCKETS, bucket_of_us, buckets_of_us

if TYPE_CHECKING:
    from loadtests.tally.account import Account

_READS_A_PIECE: Final = 2048
_MESSAGES_A_PIECE: Final = 8192


def _sparse(counts: dict[int, int]) -> Sparse:
    ordered = sorted(counts.items())
    return [bucket for bucket, _ in ordered], [count for _, count in ordered]


class Cell:
    """Sums of one cell. Unique deliveries are not counted: they are what latency and negative hold beyond repeated."""

    __slots__ = ("bytes", "latency", "negative", "read_delay", "reads", "repeated", "sampled_read", "service")

    def __init__(self) -> None:
        self.latency: defaultdict[int, int] = defaultdict(int)
        self.bytes = 0
        self.reads = 0
        self.repeated = 0
        self.negative = 0
        self.service: defaultdict[int, int] = defaultdict(int)
        self.read_delay: defaultdict[int, int] = defaultdict(int)
        self.sampled_read: defaultdict[int, int] = defaultdict(int)

    def took(self, us: int) -> None:
        """Count one latency in whole microseconds."""
        if us < 0:
            self.negative += 1
        else:
            self.latency[bucket_of_us(us)] += 1

    def sampled(self, service_ns: int) -> None:
        """Count the service time of a sampled read; a negative one is clock trouble, which `negative` shows already."""
        if service_ns >= 0:
            self.service[bucket_of_us(service_ns // 1000)] += 1

    def delayed(self, read_delay_ns: int) -> None:
        """Count how long bytes lay in the kernel; a negative time is a step of its clock."""
        if read_delay_ns >= 0:
            self.read_delay[bucket_of_us(read_delay_ns // 1000)] += 1

    def read(self, us: int) -> None:
        """Count one latency of a sampled read by the read clock."""
        if us >= 0:
            self.sampled_read[bucket_of_us(us)] += 1

    @property
    def deliveries(self) -> int:
        """Unique and repeated ones."""
        return sum(self.latency.values()) + self.negative

    def record(self, *, group: int, key: int, received_slice: int, clock: Clock) -> Consumed:
        """As the history keeps it. A kernel cell repeats deliveries of read cells, so it counts none of its own."""
        due_slice, _ = key_parts(key)
        return Consumed(
            group=group,
            due_slice=due_slice,
            received_slice=received_slice,
            clock=clock,
            unique=self.deliveries - self.repeated if clock == "read" else 0,
            repeated=self.repeated,
            bytes=self.bytes,
            latency=_sparse(self.latency),
            negative=self.negative,
            service=_sparse(self.service),
            read_delay=_sparse(self.read_delay),
            reads=self.reads,
            sampled_read=_sparse(self.sampled_read),
        )


class Shown:
    """What Locust's display gets of one consumer group, per family, since it was last asked for; never evidence."""

    __slots__ = ("families", "gaps", "repeats")

    def __init__(self) -> None:
        self.families: dict[int, tuple[defaultdict[int, int], list[int]]] = {}  # group: ms -> count, [count, bytes]
        self.gaps: defaultdict[int, int] = defaultdict(int)  # family: missing numbers found
        self.repeats: defaultdict[int, int] = defaultdict(int)

    def add(self, record: Consumed) -> None:
        """Add what one record holds."""
        counts, totals = self.families.setdefault(record.group, (defaultdict(int), [0, 0]))
        for bucket, count in zip(*record.latency, strict=True):
            counts[bucket] += count
        totals[0] += record.unique + record.repeated
        totals[1] += record.bytes

    def seen(self, consumer_groups: int) -> list[int]:
        """Families of which anything is to be shown."""
        return sorted({group // consumer_groups for group in self.families} | set(self.gaps) | set(self.repeats))


class GroupCells:
    """What one consumer group received in the present slice; swapped when the slice turns."""

    __slots__ = ("cells", "group", "kernel", "log", "shown")

    def __init__(self, group: int) -> None:
        self.group = group
        self.log: list[Any] = []  # account, now, batch of each read: flat, because a tuple each would cost more
        self.cells: dict[int, Cell] = {}  # what is counted at once; the log is folded into them later
        self.kernel: dict[tuple[int, int], Cell] = {}  # cell key, received slice by the kernel's clock
        self.shown = Shown()

    def cell(self, key: int) -> Cell:
        """The cell of a key, a new one if needed."""
        cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = Cell()
        return cell

    def turn(self, log: list[Any]) -> tuple[list[Any], dict[int, Cell]]:
        """Hand out log and cells of the slice that ended; the next one is written into `log`."""
        done = self.log, self.cells
        self.log, self.cells = log, {}
        return done

    def take_shown(self) -> Shown:
        """Hand out what is to be shown, and begin anew."""
        shown, self.shown = self.shown, Shown()
        return shown

    def turn_kernel(self) -> dict[tuple[int, int], Cell]:
        """Hand out the kernel cells; a key may come again later, and readers add them up."""
        done, self.kernel = self.kernel, {}
        return done


def fold(log: list[Any], cells: dict[int, Cell], clients: ClientLatencies) -> Iterator[None]:
    """Add the reads of a log (account, now, batch, flat) to the cells by key, and to their consumers' histograms.

    Yields where others may run.
    """
    begin, end = 0, len(log)
    while begin < end:
        stop = min(end, begin + 3 * _READS_A_PIECE)
        accounts: list[Account] = log[begin:stop:3]
        nows: list[int] = log[begin + 1 : stop : 3]
        batches: list[Batch] = log[begin + 2 : stop : 3]
        if sum([batch.count for batch in batches]) > _MESSAGES_A_PIECE:
            kept = seen = 0
            for batch in batches:
                seen += batch.count
                kept += 1
                if seen >= _MESSAGES_A_PIECE:
                    break
            del accounts[kept:], nows[kept:], batches[kept:]
        _fold([account.consumer for account in accounts], nows, batches, cells, clients)
        begin += 3 * len(nows)
        yield


def _fold(
    consumers: list[int], nows: list[int], batches: list[Batch], cells: dict[int, Cell], clients: ClientLatencies
) -> None:
    distinct = {batch: number for number, batch in enumerate(dict.fromkeys(batches))}
    batch_of = np.array([distinct[batch] for batch in batches], dtype=np.int64)  # of each read
    numbers: dict[int, int] = {}  # cell key -> its number here
    due: list[int] = []  # of each message of the distinct batches
    number: list[int] = []
    first: list[int] = []  # of each distinct batch: where its messages begin
    for batch, n in zip(distinct, np.bincount(batch_of).tolist(), strict=True):
        first.append(len(due))
        key = 0
        for _, _, due_ns, key, size, _ in batch.messages:
            cell = cells.get(key)
            if cell is None:
                cell = cells[key] = Cell()
            cell.bytes += size * n
            due.append(due_ns)
            number.append(numbers.setdefault(key, len(numbers)))
        cells[key].reads += n * batch.reads
    message = np.array(first, dtype=np.int64)[batch_of]
    who, received = np.array(consumers, dtype=np.int64), np.array(nows, dtype=np.int64)
    if len(due) > len(distinct):  # some read brought several
        many = np.array([batch.count for batch in distinct], dtype=np.int64)[batch_of]
        who, received = np.repeat(who, many), np.repeat(received, many)
        message = np.arange(len(who)) + np.repeat(message - np.cumsum(many) + many, many)
    times_ns = received - np.array(due, dtype=np.int64)[message]
    place = np.array(number, dtype=np.int64)[message]
    keys = list(numbers)
    early = times_ns < 0
    if early.any():
        for at, count in enumerate(np.bincount(place[early], minlength=len(keys)).tolist()):
            cells[keys[at]].negative += count
        who, times_ns, place = who[~early], times_ns[~early], place[~early]
    buckets = buckets_of_us(times_ns // 1000)
    clients.add(who, buckets)
    counts = np.bincount(place * BUCKETS + buckets)
    for code in np.flatnonzero(counts).tolist():
        at, bucket = divmod(code, BUCKETS)
        cells[keys[at]].latency[bucket] += int(counts[code])
