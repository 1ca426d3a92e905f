"""How long did it take, and how much was our own doing?  One function per measure of time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loadtests.measure.analysis import Analysis
from loadtests.measure.deliveries import QUANTILES, Bins, across_limit_ms, bins, judged, latency_spread, spread_of
from loadtests.measure.history_tables import KERNEL, READ, Bools, Ints
from loadtests.measure.phases import chosen
from loadtests.measure.selectors import Figure, came_rows
from loadtests.model.profile.tables import Threshold
from loadtests.model.results import Spread

CONTRADICTED = "by the read clock of all reads, which the sampled ones contradict"

# -- times


def of_spread(which: str, spread: Callable[[Analysis, Threshold], Spread]) -> Callable[[Analysis, Threshold], Figure]:
    def measure(analysis: Analysis, t: Threshold) -> Figure:
        found = spread(analysis, t)
        return Figure(
            value=getattr(found, which),
            why_not=f"{found.count} samples are too few" if found.count else "no samples",
            samples=CONTRADICTED if which in found.contradicted else "",
        )

    return measure


def latency(analysis: Analysis, t: Threshold) -> Spread:
    return latency_spread(analysis.came, came_rows(analysis, t) & analysis.clean, analysis.slow_read)


FEW = "by the read clock of all reads; the sampled ones, {:.4g} ms, are too few for this limit"


def latency_percentile(which: str) -> Callable[[Analysis, Threshold], Figure]:
    """By the sampled reads, unless they and all reads lie on two sides of the limit and only chance can be why."""

    def measure(analysis: Analysis, t: Threshold) -> Figure:
        figure = of_spread(which, latency)(analysis, t)
        if figure.value is None or figure.samples:
            return figure
        rows = came_rows(analysis, t) & analysis.clean
        whole = across_limit_ms(analysis.came, rows, analysis.slow_read, QUANTILES[which], figure.value, t.limit)
        return figure if whole is None else Figure(value=whole, samples=FEW.format(figure.value))

    return measure


def service(analysis: Analysis, t: Threshold) -> Spread:
    return service_spread(analysis, came_rows(analysis, t) & analysis.clean)


def service_spread(analysis: Analysis, rows: Bools) -> Spread:
    """Sent -> received of sampled reads."""
    kernel = analysis.came.service.dense(rows & (analysis.came.clock == KERNEL))
    read = analysis.came.service.dense(rows & (analysis.came.clock == READ))
    return judged(kernel, read if read.any() else kernel, count=int(kernel.sum() + read.sum()))


def publish_table(analysis: Analysis) -> tuple[Ints, Bins, Bins]:
    """PublishTimes rows with their histograms of own lag and blocked time."""
    held = [(p, p.publish.numpy()) for _, p in analysis.facts.each()]
    rows = np.concatenate([r for _, r in held] or [np.zeros((9, 0), dtype=np.int64)], 1)
    return rows, bins([(p.own_lag, r[7]) for p, r in held]), bins([(p.blocked, r[8]) for p, r in held])


def own_lag(analysis: Analysis, t: Threshold) -> Spread:
    rows, lag, _ = publish_table(analysis)
    wanted = chosen(t.phases)
    keep = np.ones(rows.shape[1], dtype=np.bool_)
    if wanted is not None:
        keep = np.isin(analysis.phases.codes(rows[1], rows[1]), sorted(wanted))
    return spread_of(lag.dense(keep))


latency_mean_ms, latency_max_ms = of_spread("mean", latency), of_spread("max", latency)
latency_p50_ms, latency_p95_ms, latency_p99_ms = map(latency_percentile, ("p50", "p95", "p99"))
service_p95_ms, service_p99_ms = of_spread("p95", service), of_spread("p99", service)
own_lag_p99_ms = of_spread("p99", own_lag)
