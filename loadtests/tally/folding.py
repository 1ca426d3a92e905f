"""How does a log of reads become histograms?  In bulk, when a slice is over: the receive loop only writes the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from loadtests.tally.batch import Batch
from loadtests.tally.cells import Cell
from loadtests.tally.client_latency import ClientLatencies
from loadtests.tally.histogram import BUCKETS, buckets_of_us

if TYPE_CHECKING:
    from loadtests.tally.account import Account

_READS_A_PIECE: Final = 2048
_MESSAGES_A_PIECE: Final = 8192


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
