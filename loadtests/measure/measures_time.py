"""How long did it take, for all or the slowest, and how much was our own doing?  One function per measure of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from loadtests.measure.analysis import Analysis
from loadtests.measure.deliveries import (
    QUANTILES,
    Bins,
    across_limit_ms,
    bins,
    judged,
    latency_spread,
    rank_of,
    spread_of,
)
from loadtests.measure.fault_windows import never_in_force
from loadtests.measure.history_tables import KERNEL, READ, Bools, ClientSums, Ints
from loadtests.measure.phases import chosen
from loadtests.measure.selectors import Figure, came_rows, groups_of
from loadtests.model.profile.tables import Threshold
from loadtests.model.results import RecoveryResult, Spread, Verdict
from loadtests.tally.client_latency import coarse_bounds_ms

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
    sums = ClientSums()
    captured = False
    bad = analysis.scopes.behind | analysis.scopes.trouble | analysis.scopes.slow_read
    for number, (_, process) in enumerate(analysis.facts.each()):
        for record in process.client_latency:
            captured = True
            if _usable(analysis, bad[number], record.first_slice, record.last_slice, wanted):
                sums.add(record)
    consumers, counts = sums.sums()
    # When a slow reader of ours read a message says nothing but how slowly it reads.
    mine = {
        c: dense
        for c, dense in zip(consumers.tolist(), counts, strict=True)
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


# -- recovery


def concerned(t: Threshold, name: str) -> bool:
    """Whether a threshold is about a fault of this name."""
    return t.fault in (None, name, name.rpartition("#")[0])


def _unsure(analysis: Analysis, t: Threshold, found: list[RecoveryResult]) -> list[str]:
    """Why nothing is known of some faults that a threshold is about."""
    told = {r.fault for r in found}
    never = [n for n in never_in_force(analysis.profile, analysis.fault_windows) if concerned(t, n) and n not in told]
    return [r.summary for r in found if r.verdict is Verdict.UNKNOWN] + [f"{n}: never in force" for n in never]


def of_faults(which: str) -> Callable[[Analysis, Threshold], Figure]:
    """The longest of the recoveries, or of the outages."""

    def measure(analysis: Analysis, t: Threshold) -> Figure:
        found = [r for r in analysis.recovery if concerned(t, r.fault)]
        lines = [r.summary for r in found]
        if any(r.verdict is Verdict.FAIL for r in found):
            return Figure(value=None, evidence=lines, verdict=Verdict.FAIL, why_not="not recovered")
        values = {r.fault: v for r in found if (v := getattr(r, which)) is not None}
        sure = {r.fault for r in found if r.verdict is Verdict.PASS} - analysis.troubled
        beyond = [v for name, v in values.items() if v > t.limit and name in sure]
        if beyond:
            return Figure(value=max(beyond), evidence=lines)
        unsure = _unsure(analysis, t, found)
        for r in found:
            value, error = values.get(r.fault), r.error_s or 0.0
            if r.verdict is Verdict.PASS and value is not None and value + error > t.limit:
                own = value > t.limit
                why = "the load generator was in trouble meanwhile" if own else f"its error bar is {error:.2f} s"
                unsure.append(f"{r.fault}: {value:.2f} s, but {why}")
        return Figure(
            value=max(values.values(), default=None),
            evidence=lines,
            verdict=Verdict.UNKNOWN if unsure else None,
            why_not="; ".join(unsure) or "no fault acted",
        )

    return measure


def not_recovered(analysis: Analysis, t: Threshold) -> Figure:
    """How many did not recover within their limit."""
    found = [r for r in analysis.recovery if concerned(t, r.fault)]
    bad, unsure = [r for r in found if r.verdict is Verdict.FAIL], _unsure(analysis, t, found)
    return Figure(
        value=float(len(bad)) if found else None,
        evidence=[r.summary for r in bad] or unsure,
        verdict=Verdict.UNKNOWN if unsure and len(bad) <= t.limit else None,
        why_not="; ".join(unsure) or "no fault acted",
    )


def clients_not_back(analysis: Analysis, t: Threshold) -> Figure:
    """Consumers that were not steadily back within the recovery limit of a fault, over all faults."""
    found = [who for who in analysis.not_back if who is not None and concerned(t, who.fault)]
    count, lines = sum(len(who.gone) for who in found), [line for who in found for line in who.lines]
    unsure = [who.doubt for who in found if who.doubt]
    return Figure(
        value=float(count) if found else None,
        evidence=lines or unsure,
        verdict=Verdict.UNKNOWN if unsure and count <= t.limit else None,
        why_not="; ".join(unsure) or "no fault acted",
    )


recovery_s = of_faults("recovery_s")
outage_s = of_faults("outage_s")
