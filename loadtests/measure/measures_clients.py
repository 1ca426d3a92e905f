"""How slow was the slowest client?  The p95 of each consumer by itself, which a pooled one hides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadtests.measure.analysis import Analysis
from loadtests.measure.deliveries import rank_of
from loadtests.measure.history_tables import Bools, Ints
from loadtests.measure.phases import chosen
from loadtests.measure.selectors import Figure, groups_of
from loadtests.model.profile.tables import Threshold
from loadtests.model.results import Verdict
from loadtests.tally.client_latency import COARSE, coarse_bounds_ms

ENOUGH = 200
"""Deliveries below which a consumer's p95 is not judged."""
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowest:
    """The p95 of consumers, the slowest first, as (consumer, from ms, below ms); how many had too few deliveries."""

    judged: list[tuple[int, float, float]]
    few: int
    captured: bool  # the history has latencies of single consumers


def slowest(analysis: Analysis, groups: list[int], wanted: set[int] | None) -> Slowest:
    """Of some consumer groups, in stretches that lie in the wanted phases as a whole and in which we kept up."""
    held = np.zeros((0, COARSE), dtype=np.int64)  # by consumer
    seen: set[int] = set()
    captured = False
    bad = analysis.scopes.behind | analysis.scopes.trouble | analysis.scopes.slow_read
    for number, (_, process) in enumerate(analysis.facts.each()):
        for record in process.client_latency:
            captured = True
            if not _usable(analysis, bad[number], record.first_slice, record.last_slice, wanted):
                continue
            seen.update(record.consumer.tolist())
            more = max(seen, default=-1) + 1 - len(held)
            if more > 0:
                held = np.concatenate((held, np.zeros((more, COARSE), dtype=np.int64)))
            consumer = np.repeat(record.consumer.astype(np.int64), record.buckets)
            np.add.at(held.reshape(-1), consumer * COARSE + record.bucket, record.counts.astype(np.int64))
    # When a slow reader of ours read a message says nothing but how slowly it reads.
    mine = {
        c: held[c]
        for c in seen
        for group, spec in [analysis.contract.consumer_group(c)]
        if group in groups and spec.read_bytes_per_s is None
    }
    enough = {c: dense for c, dense in mine.items() if int(dense.sum()) >= ENOUGH}
    found = [(c, *coarse_bounds_ms(_p95(dense))) for c, dense in sorted(enough.items())]
    found.sort(key=lambda one: (-one[1], one[0]))
    return Slowest(judged=found, few=len(mine) - len(enough), captured=captured)


def _usable(analysis: Analysis, bad: Bools, first: int, last: int, wanted: set[int] | None) -> bool:
    """Whether we kept up all the while, and those that publish since the first of it may have been due."""
    low, high = max(first - analysis.low, 0), max(last + 1 - analysis.low, 0)
    if bad[low:high].any() or analysis.offering[max(low - analysis.phases.late_slices, 0) : high].any():
        return False
    return wanted is None or analysis.phases.of_stretch(first, last) in wanted


def _p95(dense: Ints) -> int:
    return int(np.searchsorted(np.cumsum(dense), rank_of(0.95, int(dense.sum()))))


def slowest_client_p95_ms(analysis: Analysis, t: Threshold) -> Figure:
    """The greatest p95 of a consumer; UNKNOWN where the limit lies within the grain of the histogram."""
    found = slowest(analysis, groups_of(analysis, t), chosen(t.phases))
    if not found.judged:
        few = f"{found.few} consumers had fewer than {ENOUGH} deliveries in stretches that count"
        why = few if found.captured else "the history has no latencies of single consumers"
        return Figure(value=None, why_not=why)
    lines = [
        f"consumer {c} ({analysis.contract.consumer_group(c)[1].name}): p95 {low:.4g} to {high:.4g} ms"
        for c, low, high in found.judged[:_SHOWN]
    ]
    _, low, high = found.judged[0]
    value = (low + high) / 2
    beyond = sum(1 for _, from_ms, _ in found.judged if from_ms > t.limit)
    samples = f"{len(found.judged)} consumers judged" + (f", {found.few} had too few deliveries" if found.few else "")
    if low <= t.limit < high:
        why = f"the limit lies within the grain of the measure, {low:.4g} to {high:.4g} ms"
        return Figure(value=value, evidence=lines, verdict=Verdict.UNKNOWN, why_not=why, samples=samples)
    because = f"{beyond} of {len(found.judged)} consumers are beyond it" if beyond else ""
    return Figure(value=value, evidence=lines, samples=samples, because=because)
