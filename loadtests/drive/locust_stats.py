"""How do millions of deliveries get into Locust's statistics?  One merged entry per name and second.

Locust's statistics are a live display, never evidence.  The fields of StatsEntry are not documented, so the range of
Locust in pyproject.toml is the tested one; the path is the one on which its master takes workers' reports.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from locust.stats import StatsEntry, StatsError, bucket_response_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from locust.env import Environment


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
