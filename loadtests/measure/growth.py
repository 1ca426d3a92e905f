"""Does a process of the target grow?  Theil-Sen slope of block medians after the warm-up, with its 95 % interval.

Theory of operation.  Readings of one life of a process (from its warm-up to its end) are cut into twelve blocks, and
each block becomes its median: one garbage collection moves no block.  The slope is the median of the slopes of all
pairs of blocks (Theil 1950), its interval the pairs at the ranks that the variance of Kendall's S gives (Sen 1968): of
the 66 pairs of twelve blocks the 18th and the 49th.

Example: block medians of five hours, one of them a spike.

    MB       100  101  102  250  104
    slopes   -146, 1, 1, 1, 1, 1, 1, 50, 74.5, 148     median 1 MB/h; least squares would say 15.7

The verdict is LEAK where the whole interval lies above the limit, CLEAN where it lies below, else UNKNOWN: run longer.

Invariants: fewer than twelve blocks, too short a stretch or too few samples are never a verdict; a restart begins a new
life, since memory falls with it even where it leaks; the worst of the long lives speaks for a service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from loadtests.measure.history_tables import Floats, HistoryTables
from loadtests.measure.phases import Window
from loadtests.measure.sample_counts import Sampled, every_ns, sampled, without
from loadtests.model.fault_kinds import named
from loadtests.model.ids import NS_PER_S
from loadtests.model.profile.profile import Profile
from loadtests.model.records import NO_ANSWER
from loadtests.model.results import Growth

BLOCKS = 12
LIMIT_MB_PER_H = 20.0
"""Limit of the slope where the profile has none."""
SHORTEST_S = 300.0
"""A shorter stretch carries no leak verdict: a quarter of a megabyte of noise in 48 s spreads the slope by 50 MB/h.

For a limit looser than the default, the stretch may be shorter by the same factor: what must be told apart is larger.
"""
_AROUND_NS = 10 * NS_PER_S
NOT_TARGET = frozenset({"toxiproxy"})
_OF_PROCESS = "rss_bytes"
_MEMORY = (_OF_PROCESS, "used_memory")
_NEW_PROCESS = named(lambda kind: kind.ends_process)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Robust slope of a series, MB per hour, and its 95 % interval."""

    middle: float
    low: float
    high: float
    growth_mb: float
    blocks: int


def slope(at_s: Sequence[float], mb: Sequence[float]) -> Slope | None:
    """The slope over block medians; None with fewer than three blocks."""
    blocks = min(BLOCKS, len(at_s))
    if blocks < 3:
        return None
    times, values = np.array(at_s, dtype=np.float64), np.array(mb, dtype=np.float64)
    index = np.arange(len(times)) * blocks // len(times)
    x: Floats = np.array([np.median(times[index == b]) for b in range(blocks)]) / 3600
    y: Floats = np.array([np.median(values[index == b]) for b in range(blocks)])
    i, j = np.triu_indices(blocks, 1)
    apart = x[j] > x[i]
    if not apart.any():
        return None
    pairs = np.sort((y[j] - y[i])[apart] / (x[j] - x[i])[apart])
    # Sen's interval: ranks around the middle, from the variance of Kendall's S.
    spread = 1.96 * sqrt(blocks * (blocks - 1) * (2 * blocks + 5) / 18)
    below = max(int(np.floor((len(pairs) - spread) / 2)) - 1, 0)
    above = min(int(np.ceil((len(pairs) + spread) / 2)), len(pairs) - 1)
    return Slope(
        middle=float(np.median(pairs)),
        low=float(pairs[below]),
        high=float(pairs[above]),
        growth_mb=float(y[-1] - y[0]),
        blocks=blocks,
    )


def growth_verdict(found: Slope | None, *, span_s: float, limit: float) -> str:
    """LEAK if the interval lies above the limit, CLEAN if below, else UNKNOWN: run longer.

    A few readings have no interval of 95 %: less than all blocks are no verdict.
    """
    if found is None or found.blocks < BLOCKS or span_s < shortest_s(limit):
        return "UNKNOWN"
    if found.low > limit:
        return "LEAK"
    return "CLEAN" if found.high < limit else "UNKNOWN"


def shortest_s(limit: float) -> float:
    """How long a stretch must be to carry a verdict."""
    return SHORTEST_S * min(1.0, LIMIT_MB_PER_H / limit) if limit > 0 else SHORTEST_S


def limit_of(profile: Profile, process: str) -> float:
    """The profile's limit for one process, or the default."""
    limits = [t.limit for t in profile.thresholds if t.measure == "growth_mb_per_h" and t.process in (None, process)]
    return min(limits, default=LIMIT_MB_PER_H)


def growth(
    facts: HistoryTables,
    profile: Profile,
    windows: list[Window],
    *,
    t0_ns: int,
    plan_end_ns: int,
    changes: tuple[int, ...],
) -> list[Growth]:
    """Every process of the target, by name; Redis by its own figure as well."""
    series: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for _, process in facts.each():
        for (source, metric), readings in process.samples.items():
            if metric in _MEMORY and source not in NOT_TARGET:
                series.setdefault((source, metric), []).extend(readings)
    found = []

    def seconds(at_ns: int) -> float:
        return (at_ns - t0_ns) / NS_PER_S

    # The first quarter is warm-up, and so is all until the user count is constant.
    start = max([t0_ns + (plan_end_ns - t0_ns) // 4, *(c for c in changes if c < plan_end_ns)])
    for (source, metric), values in sorted(series.items()):
        values.sort()
        inside = [(at, v / 1e6) for at, v in values if t0_ns <= at < plan_end_ns]
        limit, period_ns = limit_of(profile, source), every_ns(profile.sampling.every_s)
        asked = [(at, 0) for at, _ in values] + (_unanswered(facts, source) if metric != _OF_PROCESS else [])
        held = [(w.from_ns, w.healed_ns) for w in windows if w.fault.link == source]
        lives = [
            _life(inside, span, limit, sampled(f"{source} {metric}", asked, period_ns, without([span], held)))
            for span in lives_of(facts, windows, source, start, plan_end_ns)
        ]
        grew = [life.robust.growth_mb for life in lives if life.robust is not None]
        # A leak is one whichever process had it; a long life that says nothing is not outweighed by a clean one.
        long = [life for life in lives if life.span_s >= shortest_s(limit)] or lives
        worst = max(long, key=lambda life: (("CLEAN", "UNKNOWN", "LEAK").index(life.verdict), life.span_s))
        robust = worst.robust
        found.append(
            Growth(
                process=source,
                metric=metric,
                verdict=worst.verdict,
                slope_mb_per_h=round(robust.middle, 3) if robust else None,
                low=round(robust.low, 3) if robust else None,
                high=round(robust.high, 3) if robust else None,
                growth_mb=round(max(grew), 3) if grew else None,
                samples=worst.samples,
                around_faults=[_around(w, inside) for w in windows],
                missing="; ".join(life.of.said(seconds) for life in lives if not life.of.enough),
            )
        )
    return found


def _unanswered(facts: HistoryTables, source: str) -> list[tuple[int, int]]:
    """When a server was asked for its figures and gave none, and how long that took."""
    return [(at, round(took)) for _, p in facts.each() for at, took in p.samples.get((source, NO_ANSWER), ())]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLife:
    """What one process of a service did, from its warm-up to its end."""

    verdict: str
    robust: Slope | None
    span_s: float
    samples: int
    of: Sampled


def _life(inside: list[tuple[int, float]], span: tuple[int, int], limit: float, of: Sampled) -> ProcessLife:
    kept = [(at, mb) for at, mb in inside if span[0] <= at < span[1]]
    # Readings that are too few, end early or stop for long say nothing about what was not read.
    robust = slope([at / NS_PER_S for at, _ in kept], [mb for _, mb in kept]) if of.enough else None
    span_s = (kept[-1][0] - kept[0][0]) / NS_PER_S if kept else 0.0
    verdict = growth_verdict(robust, span_s=span_s, limit=limit)
    return ProcessLife(verdict=verdict, robust=robust, span_s=span_s, samples=len(kept), of=of)


def lives_of(
    facts: HistoryTables, windows: list[Window], service: str, from_ns: int, to_ns: int
) -> list[tuple[int, int]]:
    """Stretches in which one process served, without the warm-up of processes that were started meanwhile.

    Memory starts anew with a process: over its restart even a leak goes down.
    """
    gone = [(w.from_ns, w.healed_ns) for w in windows if w.fault.link == service and w.fault.kind in _NEW_PROCESS]
    gone += [(e.at_ns, e.at_ns) for _, p in facts.each() for e in p.services_ended if e.service == service]
    found, start = [], from_ns
    for begin, end in sorted(gone):
        if begin > start:
            found.append((start, min(begin, to_ns)))
        start = max(start, end)
    found.append((start, to_ns))
    return [(a, b) if a == from_ns else (a + (b - a) // 4, b) for a, b in found if b > a] or [(from_ns, to_ns)]


def _around(w: Window, inside: list[tuple[int, float]]) -> dict[str, float | str | None]:
    def middle(from_ns: int, to_ns: int) -> float | None:
        chosen = [mb for at, mb in inside if from_ns <= at < to_ns]
        return round(float(np.median(chosen)), 3) if chosen else None

    return {
        "fault": w.fault.name,
        "before_mb": middle(w.from_ns - _AROUND_NS, w.from_ns),
        "during_mb": middle(w.from_ns, w.healed_ns),
        "after_mb": middle(w.to_ns, w.to_ns + _AROUND_NS),
    }
