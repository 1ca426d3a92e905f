"""A measure: how long the pollers waited, of what they recorded in the phases of the threshold."""

from __future__ import annotations

import numpy as np

from loadtests.measure.analysis import Analysis
from loadtests.measure.deliveries import quantile_ms
from loadtests.measure.phases import chosen
from loadtests.measure.selectors import Figure, within
from loadtests.model.ids import SLICE_NS
from loadtests.model.profile.tables import Threshold
from loadtests.tally.histogram import BUCKETS


def polled_p95_ms(analysis: Analysis, t: Threshold) -> Figure:
    """The p95; UNKNOWN where nothing was answered, since a target that answers nobody is not fast."""
    counts = np.zeros(BUCKETS, dtype=np.int64)
    answered = failed = 0
    for _, process in analysis.facts.each():
        for cell in process.requested:
            if cell.kind == "poller" and within(analysis, cell.due_slice * SLICE_NS, chosen(t.phases)):
                bucket, count = cell.latency
                counts[bucket] += np.array(count, dtype=np.int64)
                answered, failed = answered + cell.ok, failed + cell.failed
    if not answered:
        return Figure(value=None, why_not=f"no poll was answered, {failed} failed")
    return Figure(value=quantile_ms(counts, 0.95), samples=f"{answered} polls answered, {failed} failed")
