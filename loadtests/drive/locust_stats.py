"""How do millions of deliveries get into Locust's statistics?  One merged entry per name and second.

Consumers show as "receive <family>/<group>", from due to received, publishers as "PUBLISH <channel>" with the time of
Redis's reply.
Locust's statistics are a live display, never evidence.  The fields of StatsEntry are not documented, so the range of
Locust in pyproject.toml is the tested one; the path is the one on which its master takes workers' reports.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from locust.stats import StatsEntry, StatsError, bucket_response_time

from loadtests.model.ids import NS_PER_MS
from loadtests.model.registry import TRANSPORTS
from loadtests.model.words import plain
from loadtests.tally.histogram import middle_ms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from locust.env import Environment

    from loadtests.model.contract import Contract
    from loadtests.tally.cells import GroupCells

LOST = "message lost (gap in the stream)"
REPEATED = "message repeated (it was there before)"
MOST_ERRORS = 100
"""Different error texts that are kept between two displays; the rest is counted as one."""
_STATUS = re.compile(r"HTTP/1\.[01] (\d{3})\b")


class ConnectFailed(ConnectionError):  # noqa: N818  it names what came of it
    """Why a connection or subscription did not come about. Locust shows what an exception's repr says: here words."""

    def __repr__(self) -> str:
        return str(self)


def connect_failure(error: Exception) -> str:
    """In words, and never more of a target's own than a status: each different text is a row of Locust's page."""
    if (status := _STATUS.search(str(error))) is not None:
        return f"connect refused: {status[1]}"
    if isinstance(error, ConnectionRefusedError):
        return "connect refused: nobody listens there"
    if isinstance(error, OSError):
        return f"connect failed: {plain(error.strerror or str(error) or type(error).__name__, 100)}"
    return f"connect refused: {plain(str(error).partition(':')[0], 100)}"


def merge(
    environment: Environment,
    method: str,
    name: str,
    hist: Mapping[int, int],
    total_ms: float,
    count: int,
    size: int,
    failures: Mapping[str, int],
    now_s: float | None = None,
) -> None:
    """Add `count` requests; `hist` (milliseconds: times) holds those with a known time and `total_ms` is their sum.

    `size` are their bytes; `failures` counts what went wrong, by an error text: as in Locust, a failed request is a
    request too, so `count` includes them. `now_s` is the wall clock, by default the present.
    """
    failed = sum(failures.values())
    if not count and not failed:
        return
    stats = environment.stats
    second = int(time.time() if now_s is None else now_s)
    entry = StatsEntry(stats, name, method)
    entry.start_time = stats.get(name, method).start_time
    entry.num_requests = count
    entry.num_none_requests = max(0, count - sum(hist.values()))
    entry.num_failures = failed
    entry.total_content_length = size
    entry.last_request_timestamp = float(second)
    if count:
        entry.num_reqs_per_sec = {second: count}
    if failed:
        entry.num_fail_per_sec = {second: failed}
    if hist:
        entry.total_response_time = round(total_ms)
        entry.min_response_time = min(hist)
        entry.max_response_time = max(hist)
        for ms, times in hist.items():
            bucket = bucket_response_time(ms)
            entry.response_times[bucket] = entry.response_times.get(bucket, 0) + times
    stats.total.extend(entry)
    stats.get(name, method).extend(entry)
    for what, times in failures.items():
        if times:
            key = StatsError.create_key(method, name, what)
            error = stats.errors.get(key)
            if error is None:
                error = stats.errors[key] = StatsError(method, name, what)
            error.occurred()
            error.occurrences += times - 1


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
            failures = {LOST: shown.gaps.get(family, 0), REPEATED: shown.repeats.get(family, 0)}
            count += failures[LOST]
            name = f"receive {contract.group_name(index)}"
            merge(environment, method, name, milliseconds, total, count, size, failures)


class ChannelSecond:
    """PUBLISH of one channel since the last display: whole ms -> requests, those of no known time, errors by text."""

    __slots__ = ("bytes", "errors", "times_ms", "untimed")

    def __init__(self) -> None:
        self.times_ms: dict[int, int] = {}
        self.errors: dict[str, int] = {}
        self.bytes = self.untimed = 0


class PublishDisplay:
    """What Locust has not seen yet of one sink; `shown` is its request type. Never evidence."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._channels: dict[str, ChannelSecond] = {}

    def answered(self, channel: str, took_ns: int, count: int, size: int) -> None:
        """Redis answered so many, all after the same time."""
        second = self._channels.get(channel) or self._channels.setdefault(channel, ChannelSecond())
        ms = round(took_ns / NS_PER_MS)
        second.times_ms[ms] = second.times_ms.get(ms, 0) + count
        second.bytes += size

    def failed(self, channel: str, why: str, count: int, took_ns: int | None = None) -> None:
        """So many were refused, lost or not sent; each after a time, where it is known."""
        second = self._channels.get(channel) or self._channels.setdefault(channel, ChannelSecond())
        errors = second.errors
        if took_ns is None:
            second.untimed += count
        else:
            ms = round(took_ns / NS_PER_MS)
            second.times_ms[ms] = second.times_ms.get(ms, 0) + count
        text = why[:120] if why[:120] in errors or len(errors) < MOST_ERRORS else "other errors"
        errors[text] = errors.get(text, 0) + count

    def take(self) -> dict[str, ChannelSecond]:
        """What came since the last call."""
        found, self._channels = self._channels, {}
        return found

    def merge_into(self, environment: Environment) -> None:
        """Hand all to Locust's statistics."""
        for channel, second in self.take().items():
            times = second.times_ms
            total = float(sum(ms * count for ms, count in times.items()))
            count = sum(times.values()) + second.untimed
            merge(environment, self._shown, channel, times, total, count, second.bytes, second.errors)
