"""Which figures of a run can be compared from week to week? Results in, values by name out, each with its error.

A name is `measure` or `measure:of`, such as `first_fresh_p95_s:redis-cut`. All figures are kept in the store, not only
those that are gated today: a measure that is gated next month then has a past.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from loadtests.model.measures import GATEABLE, MOST_GATED
from loadtests.model.results import ConsumerRecovery, RecoveryResult, Results, Spread, Verdict
from loadtests.model.store import Value, middle_of

Kept = tuple[str, list[float | None], float | None]
"""Name, occurrences, and the error of their median."""

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
    found = {}
    for name, of, error in _all(results):
        if of:
            figure = GATEABLE[name.partition(":")[0]]
            found[name] = msgspec.structs.replace(spread_value(of, figure.unit, error), better=figure.better)
    return found


def _all(results: Results) -> Iterator[Kept]:
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
            yield f"cpu_s_per_million:{process[1]}", _one(spent), error
    for growth in results.growth:
        if seconds and seconds >= GROWS_S and None not in (growth.low, growth.high):
            error = (float(growth.high or 0) - float(growth.low or 0)) / 2 * seconds / 3600
            name = f"growth_mb:{growth.process} {growth.metric}".removesuffix(" rss_bytes")
            yield name, _one(growth.growth_mb), error
    for query, parts in results.queries.items():
        if (spread := parts.get("query")) is not None:
            yield _ms(f"query_p95_ms:{query}", spread.p95)
            yield _ms(f"query_mean_ms:{query}", spread.mean)
    unseen = [value for value in results.timeline.series.get("unseen", []) if value is not None]
    yield "unseen_max", _one(max(unseen, default=None)), 1.0
    yield "received_per_s", _one(results.delivery.received_per_s), None
    if (found := results.capacity) is not None and found.confidence == "held" and found.low is not None:
        yield "capacity", _one(found.low), None if found.high is None else (found.high - found.low) / 2


def _one(value: float | None) -> list[float | None]:
    return [] if value is None else [value]


def _ms(name: str, value: float | None) -> Kept:
    return name, _one(value), None if value is None else max(BUCKET * value, LEAST_MS)


def _recoveries(results: Results) -> Iterator[Kept]:
    """Of each fault each occurrence."""
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
            yield f"{name}:{fault}", [read(back) for back in backs], error or max(errors, default=None)


def _fresh(consumers: ConsumerRecovery, name: str) -> float | None:
    found: float | None = getattr(consumers.first_fresh, name)
    return found


def spread_value(of: Sequence[float | None], unit: str, error: float | None) -> Value:
    """The median over occurrences. Where half of them or more did not recover, there is none: thresholds judge that."""
    known = sum(value is not None for value in of)
    return Value(value=middle_of(of), unit=unit, error=error, n=known, of=list(of))


def _latencies(results: Results) -> Iterator[Kept]:
    """Of each family the slowest group's, in calm phases; groups that are expected to be slow are left out."""
    families: dict[str, list[Spread]] = {}
    for route in results.routes:
        if not route.expect_slow:
            families.setdefault(route.group.partition("/")[0], []).append(route.calm_latency_ms)
    for family, spreads in families.items():
        for name in ("p50", "p95", "p99"):
            of = [getattr(spread, name) for spread in spreads]
            yield _ms(f"latency_{name}_ms:{family}", None if None in of else max(of, default=None))


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
