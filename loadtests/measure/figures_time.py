"""How long did it take, and how much was our own doing?  One function per measure of time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loadtests.measure.case import Case
from loadtests.measure.deliveries import Bins, Timed, bins, judged, quantile_ms, spread_of, timed
from loadtests.measure.facts import KERNEL, READ, Bools, Ints
from loadtests.measure.phases import chosen
from loadtests.measure.select import Figure, came_rows
from loadtests.model.profile import Threshold
from loadtests.model.results import Spread

# -- times

QUANTILE_OF = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def of_spread(which: str, spread: Callable[[Case, Threshold], Spread]) -> Callable[[Case, Threshold], Figure]:
    def measure(case: Case, t: Threshold) -> Figure:
        found = spread(case, t)
        return Figure(
            value=getattr(found, which), why_not=f"{found.count} samples are too few" if found.count else "no samples"
        )

    return measure


def latency(which: str) -> Callable[[Case, Threshold], Figure]:
    """By the sampled reads' stamps; by all reads where these contradict them, or are too few to tell a limit kept."""

    def measure(case: Case, t: Threshold) -> Figure:
        found = timed(case.came, came_rows(case, t) & case.clean, case.slow_read)
        spread = found.spread()
        value: float | None = getattr(spread, which)
        if value is None:
            why_not = f"{spread.count} samples are too few" if spread.count else "no samples"
            return Figure(value=None, why_not=why_not)
        if spread.contradicted:
            return Figure(value=value, note=spread.contradicted)
        whole = _by_all(found, which, value, t.limit)
        if whole is None:
            return Figure(value=value)
        note = (
            f"of all {int(found.read.sum())} deliveries by the read clock: the sampled ones ({value:.4g}) are too few"
        )
        return Figure(value=whole, note=note)

    return measure


_MARGIN = 1.1
"""What our own reading may add to a limit: beyond a tenth of it no read is believed."""


def _by_all(found: Timed, which: str, value: float, limit: float) -> float | None:
    """A percentile of all reads where it is on the other side of a limit, and our own reading is not why.

    No message is read before the kernel has it: where all were read in time, all came in time, whatever a sample says.
    The other way round, what reading added to the sampled ones is taken off first.
    """
    if which not in QUANTILE_OF or not found.sampled.any():
        return None
    q = QUANTILE_OF[which]
    whole, sampled, kernel = (quantile_ms(dense, q) for dense in (found.read, found.sampled, found.kernel))
    if whole is None or sampled is None or kernel is None:
        return None
    if value > limit >= whole and not found.doubtful:
        return whole
    return whole if value <= limit and whole - max(sampled - kernel, 0.0) > limit * _MARGIN else None


def service(case: Case, t: Threshold) -> Spread:
    return service_spread(case, came_rows(case, t) & case.clean)


def service_spread(case: Case, rows: Bools) -> Spread:
    """Sent -> received of sampled reads."""
    kernel = case.came.service.dense(rows & (case.came.clock == KERNEL))
    read = case.came.service.dense(rows & (case.came.clock == READ))
    return judged(kernel, read if read.any() else kernel, count=int(kernel.sum() + read.sum()))


def publish_table(case: Case) -> tuple[Ints, Bins, Bins]:
    """PublishTimes rows with their histograms of own lag and blocked time."""
    held = [(p, p.publish.numpy()) for _, p in case.facts.each()]
    rows = np.concatenate([r for _, r in held] or [np.zeros((9, 0), dtype=np.int64)], 1)
    return rows, bins([(p.own_lag, r[7]) for p, r in held]), bins([(p.blocked, r[8]) for p, r in held])


def own_lag(case: Case, t: Threshold) -> Spread:
    rows, lag, _ = publish_table(case)
    wanted = chosen(t.phases)
    keep = np.ones(rows.shape[1], dtype=np.bool_)
    if wanted is not None:
        keep = np.isin(case.phases.codes(rows[1], rows[1]), sorted(wanted))
    return spread_of(lag.dense(keep))
