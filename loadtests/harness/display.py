"""What does Locust's display show of the publishers?  One merged entry per channel and second; never evidence."""

from __future__ import annotations

from typing import Any

from loadtests.drive.locust_stats import merge
from loadtests.drive.publishing import Publishing


def merge_publishes(environment: Any, publishing: Publishing) -> None:
    """Merge what was answered or failed since the last call; response time is the time of PUBLISH's reply."""
    for channel, second in publishing.channels().items():
        answered = sum(second.times_ms.values())
        merge(
            environment,
            "PUBLISH",
            channel,
            second.times_ms,
            float(sum(ms * count for ms, count in second.times_ms.items())),
            answered + sum(second.errors.values()),
            second.bytes,
            second.errors,
        )
