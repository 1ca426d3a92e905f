"""How does a log of reads become histograms?  In bulk, when a slice is over: the receive loop only writes the log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from loadtests.tally.batch import Batch
from loadtests.tally.cells import Cell
from loadtests.tally.histogram import BUCKETS, buckets_of_us

_READS_A_PIECE: Final = 2048
_MESSAGES_A_PIECE: Final = 8192


def fold(log: list[Any], cells: dict[int, Cell]) -> Iterator[None]:
    """Add the reads of a log (account, now, batch, flat) to the cells by key; yields where others may run."""
    begin, end = 0, len(log)
    while begin < end:
        stop = min(end, begin + 3 * _READS_A_PIECE)
        nows: list[int] = log[begin + 1 : stop : 3]
        batches: list[Batch] = log[begin + 2 : stop : 3]
        if sum([batch.count for batch in batches]) > _MESSAGES_A_PIECE:
            kept = seen = 0
            for batch in batches:
                seen += batch.count
                kept += 1
                if seen >= _MESSAGES_A_PIECE:
                    break
            del nows[kept:], batches[kept:]
        _fold(nows, batches, cells)
        begin += 3 * len(nows)
        yield


def _fold(nows: list[int], batches: list[Batch], cells: dict[int, Cell]) -> None:
    times: defaultdict[Batch, list[int]] = defaultdict(list)
    for batch, now in zip(batches, nows, strict=True):
        times[batch].append(now)
    numbers: dict[int, int] = {}  # cell key -> its number here
    received: list[int] = []
    due: list[int] = []
    number: list[int] = []
    repeat: list[int] = []  # of each due: how many of `received` it belongs to
    for batch, when in times.items():
        n = len(when)
        key = 0
        for _, _, due_ns, key, size, _ in batch.messages:
            cell = cells.get(key)
            if cell is None:
                cell = cells[key] = Cell()
            cell.bytes += size * n
            due.append(due_ns)
            number.append(numbers.setdefault(key, len(numbers)))
            received += when
            repeat.append(n)
        cells[key].reads += n * batch.reads
    times_ns = np.array(received, dtype=np.int64) - np.repeat(np.array(due, dtype=np.int64), repeat)
    place = np.repeat(np.array(number, dtype=np.int64), repeat)
    keys = list(numbers)
    early = times_ns < 0
    if early.any():
        for at, count in enumerate(np.bincount(place[early], minlength=len(keys)).tolist()):
            cells[keys[at]].negative += count
        times_ns, place = times_ns[~early], place[~early]
    counts = np.bincount(place * BUCKETS + buckets_of_us(times_ns // 1000))
    for code in np.flatnonzero(counts).tolist():
        at, bucket = divmod(code, BUCKETS)
        cells[keys[at]].latency[bucket] += int(counts[code])
