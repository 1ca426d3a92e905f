"""What did consumers receive, and how long did it take?  One table of Consumed rows; distributions of its parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadtests.measure.facts import KERNEL, READ, Bools, Columns, Facts, Floats, Ints
from loadtests.measure.sampled import contradiction
from loadtests.model.results import Bars, Spread
from loadtests.tally.histogram import BUCKETS, bounds_us, bucket_of, middle_ms

MIDDLE_MS: Floats = np.array([middle_ms(b) for b in range(BUCKETS)])
BEYOND = 10
"""A percentile needs that many samples beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bins:
    """Histogram entries of rows: (row, bucket, count)."""

    row: Ints
    bucket: Ints
    count: Ints

    def dense(self, rows: Bools) -> Ints:
        """One histogram of all entries of some rows."""
        chosen = rows[self.row]
        return _dense(self.bucket[chosen], self.count[chosen])

    def all(self) -> Ints:
        """One histogram of everything."""
        return _dense(self.bucket, self.count)


def _dense(bucket: Ints, count: Ints) -> Ints:
    return np.bincount(bucket, weights=count, minlength=BUCKETS).astype(np.int64)


def bins(parts: list[tuple[Columns, Ints]]) -> Bins:
    """Entries of several processes; the second is how many entries each row has."""
    columns = [c.numpy() for c, _ in parts]
    lengths = np.concatenate([n for _, n in parts]) if parts else np.zeros(0, dtype=np.int64)
    joined = np.concatenate(columns, 1) if columns else np.zeros((2, 0), dtype=np.int64)
    return Bins(row=np.repeat(np.arange(len(lengths)), lengths), bucket=joined[0], count=joined[1])


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
    sampled: Bins  # of the read clock's rows: what came with stamped reads
    weight: Ints

    def of_process(self, names: list[str]) -> dict[str, int]:
        """Unique deliveries per process."""
        return {name: int(self.unique[self.process == i].sum()) for i, name in enumerate(names)}


def deliveries(facts: Facts, consumer_groups: int) -> Deliveries:
    """The table of a history."""
    parts = [p.consumed.numpy() for _, p in facts.each()]
    rows = np.concatenate(parts or [np.zeros((14, 0), dtype=np.int64)], 1)
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
        sampled=bins([(p.sampled, part[13]) for p, part in held]),
        weight=rows[12],
    )


def later_than(table: Bins, rows: Bools, limit_ns: int) -> int:
    """Samples of some rows that are surely longer than a limit."""
    chosen = rows[table.row] & (table.bucket > bucket_of(limit_ns))
    return int(table.count[chosen].sum())


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


def judged(kernel: Ints, read: Ints, *, negative: int = 0, count: int | None = None, contradicted: str = "") -> Spread:
    """Each percentile by the kernel's clock where ten samples lie beyond it, else by the read clock.

    `contradicted`: what the sampled reads say that all reads do not; then the kernel's clock only tells the longest.
    """
    timed = np.zeros_like(kernel) if contradicted else kernel

    def pick(q: float) -> float | None:
        by_kernel = quantile_ms(timed, q)
        return quantile_ms(read, q) if by_kernel is None else by_kernel

    enough = int(timed.sum()) >= 2 * BEYOND
    return Spread(
        count=int(read.sum()) if count is None else count,
        mean=_mean(timed if enough else read),
        p50=pick(0.5),
        p90=pick(0.9),
        p95=pick(0.95),
        p99=pick(0.99),
        p999=pick(0.999),
        max=_max(read + kernel),  # the kernel knows some that slow reads of ours hide
        negative=negative,
        contradicted=contradicted,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timed:
    """Latencies of some rows by both clocks."""

    kernel: Ints  # of the stamped reads
    read: Ints  # of all reads, where our reading was prompt enough to be believed
    sampled: Ints  # of the stamped ones among these, by the read clock
    size: float  # independent messages that those are worth
    doubtful: bool  # some rows are not in `read`
    negative: int
    count: int

    def spread(self) -> Spread:
        """What is judged of them."""
        return judged(
            self.kernel, self.read, negative=self.negative, count=self.count, contradicted=self.contradicted()
        )

    def contradicted(self) -> str:
        """What the sampled reads say that all reads do not; empty: nothing."""
        q = contradiction(self.sampled, self.read, self.size)
        if q is None:
            return ""
        theirs, whole = (quantile_ms(dense, q, beyond=0) for dense in (self.sampled, self.read))
        return (
            f"p{q * 100:g} of the {int(self.sampled.sum())} sampled deliveries is {theirs:.4g} ms, "
            f"of all {int(self.read.sum())} it is {whole:.4g} ms, by one clock: that is no chance, all are judged"
        )


def timed(table: Deliveries, rows: Bools, slow_read: Bools) -> Timed:
    """Latency of some rows; `slow_read` are rows whose read clock came too late to be believed."""
    by_read = rows & (table.clock == READ)
    prompt = by_read & ~slow_read
    sampled, weight = table.sampled.dense(prompt), int(table.weight[prompt].sum())
    counted = rows & table.counts
    return Timed(
        kernel=table.latency.dense(rows & (table.clock == KERNEL)),
        read=table.latency.dense(prompt),
        sampled=sampled,
        size=float(sampled.sum()) ** 2 / weight if weight else 0.0,
        doubtful=bool((by_read & slow_read & table.counts).any()),
        negative=int(table.negative[counted].sum()),
        count=int(table.latency.count[counted[table.latency.row]].sum()),
    )


def latency_spread(table: Deliveries, rows: Bools, slow_read: Bools) -> Spread:
    """What is judged of the latencies of some rows."""
    return timed(table, rows, slow_read).spread()


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
