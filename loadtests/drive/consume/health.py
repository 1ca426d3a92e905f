"""What are the harness and Locust told of the receiving side?  Readings since the last one, and merged statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loadtests.drive.hub_lag import HubLag
from loadtests.drive.locust_stats import merge
from loadtests.model.contract import Contract
from loadtests.model.transports import TRANSPORTS
from loadtests.tally.accountant import Sums
from loadtests.tally.cells import GroupCells
from loadtests.tally.histogram import middle_ms

if TYPE_CHECKING:
    from locust.env import Environment

_READ_DELAYS_NEEDED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the receiving side stands."""

    connected: int  # consumers with a confirmed subscription
    open: int  # connections, confirmed or not


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessReading:
    """How the receiving side fared since the last reading."""

    messages: int
    reads: int
    read_delay_p99_ns: int  # -1: too few stamped reads
    hub_lag_p99_ns: int
    hub_lag_max_ns: int
    connected: int
    frames: int
    checked: int


class Readings:
    """Turns sums since the start into sums since the last reading."""

    def __init__(self, sums: Sums) -> None:
        self._before = sums

    def reading(
        self, sums: Sums, read_delays: Mapping[int, int], lag: HubLag, connected: int, *, frames: int, checked: int
    ) -> HarnessReading:
        """What came between the last call's sums and these; lag and read delays reach up to now."""
        before, self._before = self._before, sums
        lag_p99, lag_max = lag.take()
        return HarnessReading(
            messages=sums.messages - before.messages,
            reads=sums.reads - before.reads,
            read_delay_p99_ns=_p99_ns(read_delays),
            hub_lag_p99_ns=lag_p99,
            hub_lag_max_ns=lag_max,
            connected=connected,
            frames=frames,
            checked=checked,
        )


def merge_received(environment: Environment, contract: Contract, groups: Sequence[GroupCells]) -> None:
    """Hand to Locust's statistics what each consumer group got since the last call. Never evidence."""
    for group in groups:
        shown = group.take_shown()
        transport = contract.profile.consumers[group.group].transport
        method = TRANSPORTS[transport].shown
        for family in shown.seen(len(groups)):
            index = contract.group_index(family, group.group)
            counts, (count, size) = shown.families.get(index, ({}, [0, 0]))
            milliseconds: dict[int, int] = {}
            total = 0.0
            for bucket, times in counts.items():
                value = middle_ms(bucket)
                total += value * times
                milliseconds[round(value)] = milliseconds.get(round(value), 0) + times
            failures = {"gap": shown.gaps.get(family, 0), "repeated": shown.repeats.get(family, 0)}
            count += failures["gap"]
            merge(environment, method, contract.group_name(index), milliseconds, total, count, size, failures)


def _p99_ns(counts: Mapping[int, int]) -> int:
    total = sum(counts.values())
    if total < _READ_DELAYS_NEEDED:
        return -1
    rank = -(-99 * total // 100)
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return round(middle_ms(bucket) * 1_000_000)
    return -1
