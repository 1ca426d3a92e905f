"""Which figures of a run can be compared from week to week? Results in, values by name out, each with its error.

A name is `measure` or `measure:of`, such as `first_fresh_p95_s:redis-cut`. All figures are kept in the store, not only
those that are gated today: a measure that is gated next month then has a past.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence

from loadtests.model.measures import MOST_GATED
from loadtests.model.results import ConsumerRecovery, RecoveryResult, Results, Spread, Verdict
from loadtests.model.store import Better, Value

CLOCK_S = 0.002
"""Error of a consumer's own time of recovery: what Toxiproxy and the kernel take to let the first bytes through."""
BUCKET = 0.016
"""Width of the histograms' buckets, as a share of the value."""
LEAST_MS = 0.02
READING_PERCENT = 1.0
"""Error of one reading of a process's CPU: the kernel counts ticks of 10 ms."""
GROWS_S = 600.0
"""In less time memory says nothing of a leak."""
PROVED = 0.75
"""Share of the occurrences of its faults that a run needs proved."""
DEFAULT_GATED = (
    r"first_fresh_p95_s:",
    r"latency_p95_ms:",
    r"growth_mb:gateway",
    r"cpu_s_per_million:gateway",
    r"query_p95_ms:",
)
"""What is gated where a profile does not say it, in this order, at most `MOST_GATED` figures."""
_OCCURRENCE = re.compile(r"#\d+$")
_LIMIT = re.compile("[<>]=")
_OF_FAULTS = ("every fault acted and was lifted", "recovered from every fault")
"""Conditions of which a part may be missing: `PROVED`."""
_OWN = re.compile(r"^cpu:(?!load generator)(.+)$")


def values_of(results: Results) -> dict[str, Value]:
    """Every figure that the run can carry."""
    return {name: value for name, value in _all(results) if value.value is not None or value.of}


def _all(results: Results) -> Iterator[tuple[str, Value]]:
    yield from _recoveries(results)
    yield from _latencies(results)
    seconds, delivered = results.run.duration_s, results.delivery.delivered
    for name, series in results.timeline.series.items():
        if (process := _OWN.match(name)) and seconds and delivered:
            known = [value for value in series if value is not None]
            percent = sum(known) / len(known) if known else None
            scale = seconds * 1e6 / delivered / 100
            error = scale * READING_PERCENT / math.sqrt(max(len(known), 1))
            spent = None if percent is None else percent * scale
            yield f"cpu_s_per_million:{process[1]}", _one(spent, "s", error=error)
    for growth in results.growth:
        if seconds and seconds >= GROWS_S and None not in (growth.low, growth.high):
            error = (float(growth.high or 0) - float(growth.low or 0)) / 2 * seconds / 3600
            yield (
                f"growth_mb:{growth.process} {growth.metric}".removesuffix(" rss_bytes"),
                _one(growth.growth_mb, "mb", error=error),
            )
    for query, parts in results.queries.items():
        if (spread := parts.get("query")) is not None:
            yield f"query_p95_ms:{query}", _ms(spread.p95)
            yield f"query_mean_ms:{query}", _ms(spread.mean)
    unseen = [value for value in results.timeline.series.get("unseen", []) if value is not None]
    yield "unseen_max", _one(max(unseen, default=None), "count", error=1.0)
    yield "received_per_s", _one(results.delivery.received_per_s, "per_s", better="more")
    if (found := results.capacity) is not None and found.confidence == "held" and found.low is not None:
        width = None if found.high is None else (found.high - found.low) / 2
        yield "capacity", _one(found.low, "per_s", error=width, better="more")


def _one(value: float | None, unit: str, *, error: float | None = None, better: Better = "less") -> Value:
    return Value(
        value=value,
        unit=unit,
        error=error,
        better=better,
        n=int(value is not None),
        of=[] if value is None else [value],
    )


def _ms(value: float | None) -> Value:
    return _one(value, "ms", error=None if value is None else max(BUCKET * value, LEAST_MS))


def _recoveries(results: Results) -> Iterator[tuple[str, Value]]:
    """Of each fault over its occurrences: the median, and each of them."""
    by_fault: dict[str, list[RecoveryResult]] = {}
    for back in results.recovery:
        by_fault.setdefault(_OCCURRENCE.sub("", back.fault), []).append(back)
    reads: tuple[tuple[str, Callable[[RecoveryResult], float | None], float | None], ...] = (
        ("first_fresh_p50_s", lambda back: _fresh(back.consumers, "p50"), CLOCK_S),
        ("first_fresh_p95_s", lambda back: _fresh(back.consumers, "p95"), CLOCK_S),
        ("recovery_s", lambda back: back.recovery_s, None),
        ("outage_s", lambda back: back.outage_s, None),
    )
    for fault, backs in by_fault.items():
        errors = [back.error_s for back in backs if back.error_s is not None]
        for name, read, error in reads:
            yield (
                f"{name}:{fault}",
                spread_value([read(back) for back in backs], "s", error or max(errors, default=None)),
            )


def _fresh(consumers: ConsumerRecovery, name: str) -> float | None:
    found: float | None = getattr(consumers.first_fresh, name)
    return found


def spread_value(of: Sequence[float | None], unit: str, error: float | None) -> Value:
    """The median over occurrences. Where half of them or more did not recover, there is none: thresholds judge that."""
    known = sorted(value for value in of if value is not None)
    censored = len(of) - len(known)
    ranked = [*known, *[None] * censored]  # who did not recover took longer than all who did
    low, high = (ranked[(len(of) - 1) // 2], ranked[len(of) // 2]) if ranked else (None, None)
    middle = None if low is None or high is None else (low + high) / 2
    return Value(value=middle, unit=unit, error=error, n=len(known), of=list(of))


def _latencies(results: Results) -> Iterator[tuple[str, Value]]:
    """Of each family the slowest group's, in calm phases; groups that are expected to be slow are left out."""
    families: dict[str, list[Spread]] = {}
    for route in results.routes:
        if not route.expect_slow:
            families.setdefault(route.group.partition("/")[0], []).append(route.calm_latency_ms)
    for family, spreads in families.items():
        for name in ("p50", "p95", "p99"):
            of = [getattr(spread, name) for spread in spreads]
            yield f"latency_{name}_ms:{family}", _ms(None if None in of else max(of, default=None))


def gated(profile_asks: Sequence[str], names: Sequence[str]) -> list[str]:
    """Which of the figures gate: those that a profile asks for, by full name or by measure, else the default ones."""
    if profile_asks:
        found = [name for ask in profile_asks for name in names if ask in (name, name.partition(":")[0])]
        lacking = [ask for ask in profile_asks if not any(ask in (n, n.partition(":")[0]) for n in names)]
        return list(dict.fromkeys([*found, *lacking]))
    chosen = [name for pattern in DEFAULT_GATED for name in names if re.match(pattern, name)]
    return list(dict.fromkeys(chosen))[:MOST_GATED]


def why_unusable(results: Results) -> list[str]:
    """Why a run's figures may not be compared: our own trouble, or faults that were not proved. Empty: they may."""
    found = [
        f"{check.name}: {check.summary}"
        for check in results.checks
        if check.verdict in (Verdict.UNKNOWN, Verdict.ABORTED)
        and not _LIMIT.search(check.name)
        and check.name not in _OF_FAULTS
    ]
    if results.run.finish != "plan done":
        found.append(f"the plan was not played to its end: {results.run.finish or 'the history holds no finish'}")
    if results.faults and sum(fault.proved for fault in results.faults) < PROVED * len(results.faults):
        found.append("fewer than three quarters of the faults were proved to act")
    return found
