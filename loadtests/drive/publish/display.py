"""What does Locust show of the publishers?  Requests "PUBLISH <channel>", their time is that of Redis's reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtests.drive.locust_stats import merge
from loadtests.model.ids import NS_PER_MS

if TYPE_CHECKING:
    from locust.env import Environment

MOST_ERRORS = 100
"""Different error texts that are kept between two displays; the rest is counted as one."""


class ChannelSecond:
    """PUBLISH of one channel since the last display: whole ms -> answers, errors by their text, bytes."""

    __slots__ = ("bytes", "errors", "times_ms")

    def __init__(self) -> None:
        self.times_ms: dict[int, int] = {}
        self.errors: dict[str, int] = {}
        self.bytes = 0


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

    def failed(self, channel: str, why: str, count: int) -> None:
        """So many were refused, lost or not sent."""
        errors = self._channels.setdefault(channel, ChannelSecond()).errors
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
            merge(environment, self._shown, channel, times, total, sum(times.values()), second.bytes, second.errors)
