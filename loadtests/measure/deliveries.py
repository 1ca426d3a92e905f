"""What did consumers receive, and how long did it take?  One table of Consumed rows; distributions of its parts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtests.measure.history_tables import KERNEL, READ, Bools, Columns, Floats, HistoryTables, Ints
from loadtests.model.profile.rules import BEYOND
from loadtests.model.results import Bars, Spread
from loadtests.tally.histogram import BUCKETS, bounds_us, bucket_of, middle_ms

MIDDLE_MS: Floats = np.array([middle_ms(b) for b in range(BUCKETS)])


_AT_ONCE = 1 << 20
"""Entries that are spread out together."""


class Bins:
    """Histograms of rows: narrow columns of entries, and where those of each row end."""

    def __init__(self, lengths: Ints, bucket: npt.NDArray[Any], count: npt.NDArray[Any]) -> None:
        self._ends: Ints = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths)))
        self._bucket, self._count = bucket, count
        self._known: dict[bytes, Ints] = {}  # histograms of rows that were asked for, by the marks

    def dense(self, rows: Bools) -> Ints:
        """One histogram of all entries of some rows."""
        key = np.packbits(rows).tobytes()
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = np.zeros(BUCKETS, dtype=np.int64)
            for bucket, count in self._chosen(rows):
                found += _dense(bucket, count)
        return found.copy()

    def all(self) -> Ints:
        """One histogram of everything."""
        return self.dense(np.ones(len(self._ends) - 1, dtype=np.bool_))

    def later(self, rows: Bools, than: int) -> int:
        """Entries of some rows that are beyond a bucket, counted."""
        return int(self.dense(rows)[than + 1 :].sum())

    def of(self, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Entries of some rows, in their order: place in `rows`, bucket, count."""
        begin = self._ends[rows]
        length = self._ends[rows + 1] - begin
        place = np.repeat(np.arange(len(rows)), length)
        at = np.repeat(begin - (np.cumsum(length) - length), length) + np.arange(len(place))
        return place, self._bucket[at].astype(np.int64), self._count[at].astype(np.int64)

    def _chosen(self, rows: Bools) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        edges = np.unique(np.searchsorted(self._ends, np.arange(0, int(self._ends[-1]) + _AT_ONCE, _AT_ONCE)))
        edges = np.minimum(edges, len(rows))
        for low, high in itertools.pairwise(edges.tolist()):
            if (chosen := rows[low:high]).any():
                marks = np.repeat(chosen, np.diff(self._ends[low : high + 1]))
                span = slice(int(self._ends[low]), int(self._ends[high]))
                yield self._bucket[span][marks], self._count[span][marks]


def _dense(bucket: npt.NDArray[Any], count: npt.NDArray[Any]) -> Ints:
    return np.bincount(bucket, weights=count, minlength=BUCKETS).astype(np.int64)


def bins(parts: list[tuple[Columns, Ints]]) -> Bins:
    """Entries of several processes; the second is how many entries each row has."""
    lengths = np.concatenate([n for _, n in parts]) if parts else np.zeros(0, dtype=np.int64)
    columns = [c.joined() for c, _ in parts if len(c)]
    if len(columns) < 2:
        return Bins(lengths, *(columns[0] if columns else (np.zeros(0, np.uint8), np.zeros(0, np.uint8))))
    return Bins(lengths, *(np.concatenate(c) for c in zip(*columns, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deliveries:
    """Consumed rows of all processes. Rows of the kernel's clock may repeat deliveries of the read clock's."""

    process: Ints  # index into the sorted names of processes
    group: Ints  # family x consumer group
    family: Ints
    consumers: Ints  # consumer group
    due: Ints
    received: Ints
    clock: Ints
    unique: Ints
    repeated: Ints
    byte_count: Ints
    negative: Ints
    reads: Ints
    counts: Bools  # rows that count deliveries of their own
    latency: Bins
    service: Bins
    read_delay: Bins
    sampled_read: Bins  # read clock of the sampled reads, in rows of the kernel's clock

    def of_process(self, names: list[str]) -> dict[str, int]:
        """Unique deliveries per process."""
        return {name: int(self.unique[self.process == i].sum()) for i, name in enumerate(names)}


def deliveries(facts: HistoryTables, consumer_groups: int) -> Deliveries:
    """The table of a history."""
    parts = [p.consumed.numpy() for _, p in facts.each()]
    rows = np.concatenate(parts or [np.zeros((13, 0), dtype=np.int64)], 1)
    group, due, received, clock, unique, repeated, size, negative, reads = rows[:9]
    held = [(p, part) for (_, p), part in zip(facts.each(), parts, strict=True)]
    return Deliveries(
        process=np.repeat(np.arange(len(parts)), [p.shape[1] for p in parts]),
        group=group,
        family=group // consumer_groups,
        consumers=group % consumer_groups,
        due=due,
        received=received,
        clock=clock,
        unique=unique,
        repeated=repeated,
        byte_count=size,
        negative=negative,
        reads=reads,
        counts=(unique + repeated) > 0,
        latency=bins([(p.latency, part[9]) for p, part in held]),
        service=bins([(p.service, part[10]) for p, part in held]),
        read_delay=bins([(p.read_delay, part[11]) for p, part in held]),
        sampled_read=bins([(p.sampled_read, part[12]) for p, part in held]),
    )


def later_than(table: Bins, rows: Bools, limit_ns: int) -> int:
    """Samples of some rows that are surely longer than a limit."""
    return table.later(rows, bucket_of(limit_ns))


def rank_of(q: float, total: int) -> int:
    """Nearest rank of a quantile."""
    return -int(-round(q * 1000) * total // 1000)


def quantile_ms(dense: Ints, q: float, beyond: int = BEYOND) -> float | None:
    """Nearest rank in milliseconds; None while fewer than `beyond` samples lie beyond it."""
    total = int(dense.sum())
    rank = rank_of(q, total)
    if total == 0 or total - rank < beyond:
        return None
    return float(MIDDLE_MS[int(np.searchsorted(np.cumsum(dense), rank))])


def _mean(dense: Ints) -> float | None:
    total = int(dense.sum())
    return round(float((dense * MIDDLE_MS).sum()) / total, 6) if total else None


def _max(dense: Ints) -> float | None:
    used = np.flatnonzero(dense)
    return float(MIDDLE_MS[used[-1]]) if len(used) else None


def spread_of(dense: Ints, negative: int = 0) -> Spread:
    """A distribution of one clock."""
    return judged(np.zeros_like(dense), dense, negative=negative)


def judged(
    kernel: Ints,
    read: Ints,
    *,
    negative: int = 0,
    count: int | None = None,
    whole: Ints | None = None,
    sampled: Ints | None = None,
    reads: int = 0,
) -> Spread:
    """Each percentile by the kernel's clock where ten sampled reads lie beyond it, else by the read clock.

    The kernel's clock knows a random part of the reads.  Where the read clock of that part (`sampled`, of so many
    reads) contradicts that of all (`whole`), the percentile is the read clock's, and so is each above it.
    """
    contradicted: list[str] = []

    def pick(name: str, q: float) -> float | None:
        by_kernel = quantile_ms(kernel, q)
        if by_kernel is None or (reads and reads * (1 - q) < BEYOND):
            return quantile_ms(read, q)
        if whole is not None and sampled is not None and contradicts(sampled, whole, q, reads):
            contradicted.append(name)
        return quantile_ms(read, q) if contradicted else by_kernel

    found = {name: pick(name, q) for name, q in QUANTILES.items()}
    enough = int(kernel.sum()) >= 2 * BEYOND and not contradicted
    return Spread(
        count=int(read.sum()) if count is None else count,
        mean=_mean(kernel if enough else read),
        **found,
        max=_max(read + kernel),  # the kernel knows some that slow reads of ours hide
        negative=negative,
        contradicted=contradicted,
    )


QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
_DEVIATIONS = 4.5


def contradicts(sampled: Ints, whole: Ints, q: float, reads: int) -> bool:
    """Whether a random part of the reads cannot have this quantile, given all of them.

    The share of all that lies at or below the part's quantile is q but for sampling: a binomial share of as many draws
    as reads were sampled (messages of one read are not drawn apart) deviates by more than 4.5 of its standard
    deviations once in 150,000 times.  Half a percent is allowed for the grain of the buckets.
    """
    total, part = int(whole.sum()), int(sampled.sum())
    if reads * (1 - q) < BEYOND or not total or not part:
        return False
    place = int(np.searchsorted(np.cumsum(sampled), rank_of(q, part)))
    below, up_to = float(whole[:place].sum()) / total, float(whole[: place + 1].sum()) / total
    allowed = _DEVIATIONS * math.sqrt(q * (1 - q) / reads) + 0.005 + 1 / reads
    return below > q + allowed or up_to < q - allowed


def latency_spread(table: Deliveries, rows: Bools, slow_read: Bools) -> Spread:
    """Latency of some rows; `slow_read` are rows whose read clock came too late to be believed."""
    sampled = rows & (table.clock == KERNEL)
    kernel = table.latency.dense(sampled)
    whole = table.latency.dense(rows & (table.clock == READ))
    read = table.latency.dense(rows & (table.clock == READ) & ~slow_read)
    count = int(table.latency.dense(rows & table.counts).sum())
    return judged(
        kernel, read, negative=int(table.negative[rows & table.counts].sum()), count=count,
        whole=whole, sampled=table.sampled_read.dense(sampled), reads=int(table.reads[sampled].sum()),
    )  # fmt: skip


_MARGIN = 1.1
"""What our reading may add to a limit: beyond a tenth of it the read clock is not believed."""


def across_limit_ms(
    table: Deliveries, rows: Bools, slow_read: Bools, q: float, value: float, limit: float
) -> float | None:
    """A quantile of all reads where a sample's value is on the other side of a limit and our reading is not why.

    No message is read before the kernel has it: where all were read in time, all came in time, whatever a sample says.
    The other way round, what reading added to the sampled ones is taken off first.  None where the sample stands.
    """
    stamped, by_read = rows & (table.clock == KERNEL), rows & (table.clock == READ)
    kernel, sampled, whole = (
        quantile_ms(bins_.dense(which), q)
        for bins_, which in (
            (table.latency, stamped),
            (table.sampled_read, stamped),
            (table.latency, by_read & ~slow_read),
        )
    )
    if kernel is None or sampled is None or whole is None:
        return None
    if value > limit >= whole:
        return None if (by_read & slow_read & table.counts).any() else whole
    return whole if value <= limit and whole - max(sampled - kernel, 0.0) > limit * _MARGIN else None


def bars(dense: Ints) -> Bars:
    """A histogram for drawing: from the first used bucket on, neighbours joined to at most 120 bars."""
    used = np.flatnonzero(dense)
    if not len(used):
        return Bars(upper_ms=[], count=[])
    low, high = int(used[0]), int(used[-1]) + 1
    width = -(-(high - low) // 120)
    edges = list(range(low, high, width))
    return Bars(
        upper_ms=[bounds_us(min(e + width, high) - 1)[1] / 1000 for e in edges],
        count=[int(dense[e : e + width].sum()) for e in edges],
    )
