"""How did the run go over time?  Series for the report: messages by due time, all else by the time of the event."""

from __future__ import annotations

import itertools

import numpy as np

from loadtests.measure.analysis import Analysis
from loadtests.measure.deliveries import Bins, quantile_ms
from loadtests.measure.history_tables import LINK_DELAY, Bools, Floats, Ints
from loadtests.measure.measures_time import publish_table
from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.results import Series
from loadtests.tally.histogram import BUCKETS

_SHORT_S = 60.0
_EVER = 2**62
LONG_S = 3600.0
"""A longer run has longer steps, of whole blocks."""
BLOCK = 100
"""Slices of a block: what a run of hours is added up to where it is calm (`calm`)."""
_STEPS = 2000
"""More steps than these has no long run: its page must stay one that opens."""
Values = list[float | None]


class _Axis:
    """Steps of several slices from T0's slice to the end."""

    def __init__(self, analysis: Analysis) -> None:
        lasted_s = (analysis.times.end_ns - analysis.times.t0_ns) / NS_PER_S
        self.slices = 5 if lasted_s < _SHORT_S else 10
        if lasted_s > LONG_S:
            self.slices = BLOCK * -(-(analysis.high - analysis.low) // (BLOCK * _STEPS))
        self.low = analysis.low
        self.steps = -(-(analysis.high - analysis.low) // self.slices)
        self.seconds = self.slices * SLICE_NS / NS_PER_S

    def sums(self, slices: Ints, weight: Ints) -> Ints:
        """Weights per step; what lies outside is left out."""
        step = (slices - self.low) // self.slices
        keep = (step >= 0) & (step < self.steps)
        found = np.zeros(self.steps, dtype=np.int64)
        np.add.at(found, step[keep], weight[keep])
        return found

    def rates(self, slices: Ints, weight: Ints) -> Values:
        return [round(float(v) / self.seconds, 3) for v in self.sums(slices, weight)]

    def means(self, readings: list[tuple[int, float]]) -> Values:
        readings = sorted(readings)
        step = (np.array([at_ns for at_ns, _ in readings], dtype=np.int64) // SLICE_NS - self.low) // self.slices
        there = (step >= 0) & (step < self.steps)
        values = np.array([value for _, value in readings])[there]
        sums = np.bincount(step[there], weights=values, minlength=self.steps).tolist()
        counts = np.bincount(step[there], minlength=self.steps).tolist()
        return [round(total / n, 3) if n else None for total, n in zip(sums, counts, strict=True)]


def timeline(analysis: Analysis) -> Series:
    """All series of a run."""
    axis, came, table = _Axis(analysis), analysis.came, analysis.table
    lost = analysis.ledger.lost_rows.sum(axis=(0, 1))
    publish, lag, _ = publish_table(analysis)
    series: dict[str, Values] = {
        "delivered_per_s": axis.rates(came.received, came.unique),
        "published_per_s": axis.rates(table.sent, table.end - table.start),
        "unseen": _unseen(analysis, axis),
        **_latencies(analysis, axis),
        "connected": _connected(analysis, axis),
        "repeated": [float(v) for v in axis.sums(came.received, came.repeated)],
        "lost_per_s": axis.rates(table.due, lost),
        "not_offered": [float(v) for v in axis.sums(publish[1], publish[3])],
        "own_lag_p99_ms": _quantiles(axis, lag, publish[1], (0.99,))[0],
    }
    for source, metric, name, scale in _readings(analysis):
        readings = [(at, v * scale) for _, p in analysis.facts.each() for at, v in p.samples.get((source, metric), ())]
        series[f"{name}:{source}"] = axis.means(readings)
    for process, facts in analysis.facts.each():
        if facts.seconds:
            own = f"load generator {process}"
            series[f"memory_mb:{own}"] = axis.means([(s.at_ns, s.rss_bytes / 1e6) for s in facts.seconds])
            series[f"cpu:{own}"] = axis.means([(s.at_ns, s.cpu_percent) for s in facts.seconds])
    return Series(slice_s=axis.seconds, from_s=analysis.times.seconds(analysis.low * SLICE_NS), series=series)


def _readings(analysis: Analysis) -> list[tuple[str, str, str, float]]:
    known = sorted({key for _, p in analysis.facts.each() for key in p.samples})
    names = {"rss_bytes": ("memory_mb", 1e-6), "cpu_percent": ("cpu", 1.0), LINK_DELAY: ("link_delay_ms", 1e-6)}
    return [(source, metric, *names[metric]) for source, metric in known if metric in names]


def _unseen(analysis: Analysis, axis: _Axis) -> Values:
    """At the end of each step."""
    level = unseen_per_slice(analysis)
    ends = np.minimum((np.arange(axis.steps) + 1) * axis.slices, len(level)) - 1
    return [float(v) for v in level[ends]]


def unseen_per_slice(analysis: Analysis) -> Ints:
    """Acknowledged and not yet delivered, at the end of each slice; a lost one counts until its delivery limit."""
    came, table = analysis.came, analysis.table
    lost = analysis.ledger.lost_rows.sum(axis=(0, 1))
    change = np.zeros(analysis.high - analysis.low + 1, dtype=np.int64)
    top = len(change) - 1

    def put(start: Ints, end: Ints, weight: Ints) -> None:
        np.add.at(change, np.clip(start - analysis.low, 0, top), weight)
        np.add.at(change, np.clip(np.maximum(end, start) - analysis.low, 0, top), -weight)

    put(came.due, came.received, came.unique)
    put(table.due, table.due + analysis.blame.late_slices, lost)
    level: Ints = np.cumsum(change)[:-1]
    return level


def _latencies(analysis: Analysis, axis: _Axis) -> dict[str, Values]:
    rows: Bools = analysis.came.counts & analysis.clean
    found = _quantiles(axis, analysis.came.latency, np.where(rows, analysis.came.due, -_EVER), (0.5, 0.95, 0.99))
    return {f"latency_{name}_ms": values for name, values in zip(("p50", "p95", "p99"), found, strict=True)}


def _quantiles(axis: _Axis, bins: Bins, slices: Ints, wanted: tuple[float, ...]) -> list[Values]:
    """Quantiles of the rows of each step; `slices` has the slice of each row."""
    step = (slices - axis.low) // axis.slices
    order = np.argsort(step, kind="stable")
    edges = np.searchsorted(step[order], np.arange(axis.steps + 1))
    found: list[Values] = [[] for _ in wanted]
    for low, high in itertools.pairwise(edges):
        _, bucket, count = bins.of(order[low:high])
        dense: Ints = np.bincount(bucket, weights=count, minlength=BUCKETS).astype(np.int64)
        for values, q in zip(found, wanted, strict=True):
            values.append(quantile_ms(dense, q) if len(bucket) else None)
    return found


def _connected(analysis: Analysis, axis: _Axis) -> Values:
    per_slice: Floats = analysis.subs.connected(analysis.low, analysis.high, analysis.subs.intervals).astype(np.float64)
    return [float(per_slice[i * axis.slices]) for i in range(axis.steps)]
