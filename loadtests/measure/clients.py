"""How long did it take to the slowest consumer?  Each one's own p95, by the read clock of all its reads.

A percentile over all consumers does not show a few: three of sixty-four are 4.7 % of the deliveries.  The history holds
what each got in stretches of slices; a stretch counts where all of it lies in the wanted phases, and the process that
read it, and those that publish, kept up and read promptly throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadtests.measure.case import Case
from loadtests.measure.facts import Bools, Floats, Ints
from loadtests.measure.phases import CALM, chosen
from loadtests.measure.select import Figure, groups_of
from loadtests.model.profile import Threshold
from loadtests.model.results import ClientLatency, SlowestClients
from loadtests.tally.histogram import COARSE_BUCKETS, coarse_middle_ms

LEAST = 200
"""Deliveries of one consumer below which its p95 says nothing: ten must lie beyond it."""
NAMED = 5
_Q = 0.95
_MIDDLE_MS: Floats = np.array([coarse_middle_ms(b) for b in range(COARSE_BUCKETS)])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Own:
    """Consumers that got anything in the wanted phases, ascending."""

    consumer: Ints
    count: Ints
    p95_ms: Floats

    @property
    def judged(self) -> Ints:
        """Places of those with enough deliveries, the slowest first; of equal ones the first consumer."""
        enough = np.flatnonzero(self.count >= LEAST)
        order: Ints = enough[np.argsort(-self.p95_ms[enough], kind="stable")]
        return order


def captured(case: Case) -> bool:
    """Whether the history tells consumers apart: older ones do not."""
    return any(len(p.clients) for _, p in case.facts.each())


def own_latencies(case: Case, groups: list[int], wanted: set[int] | None) -> Own:
    """What consumers of some groups got in some phases; None stands for all.

    When a slow reader read a message tells its own pace only.
    """
    paced = [c.read_bytes_per_s is not None for c in case.profile.consumers]
    known = {c for c, group in case.subs.group_of.items() if group in groups and not paced[group]}
    parts: list[Ints] = []
    for index, (_, process) in enumerate(case.facts.each()):
        rows, entries = process.clients.numpy(), process.client_latency.numpy()
        first, last, consumer, lengths = rows
        keep = np.isin(consumer, sorted(known)) & _believed(case, index, first, last)
        if wanted is not None:
            keep &= np.isin(case.phases.of_stretches(first, last), sorted(wanted))
        of_entry = np.repeat(np.arange(len(lengths)), lengths)
        chosen_ = keep[of_entry]
        parts.append(np.stack([consumer[of_entry[chosen_]], *entries[:, chosen_]]))
    consumer, bucket, count = np.concatenate(parts or [np.zeros((3, 0), dtype=np.int64)], 1)
    order = np.lexsort((bucket, consumer))
    consumer, bucket, count = consumer[order], bucket[order], count[order]
    names, first = np.unique(consumer, return_index=True)
    ends = np.append(first, len(consumer))[1:]
    run = np.cumsum(count)
    before = np.append(0, run)[first]
    totals = (np.append(0, run)[ends] - before).astype(np.int64)
    ranks = before + -(-totals * round(_Q * 100) // 100)
    return Own(consumer=names, count=totals, p95_ms=_MIDDLE_MS[bucket[np.searchsorted(run, ranks)]])


def _believed(case: Case, process: int, first: Ints, last: Ints) -> Bools:
    """Stretches in which a process kept up and read promptly, and those that publish when it was due as well."""
    scope = case.scopes
    ours = scope.behind[process] | scope.trouble[process] | scope.slow_read[process]
    found: Bools = ~(
        _any(ours, first - case.low, last - case.low)
        | _any(case.offering, first - case.low - case.phases.late_slices, last - case.low)
    )
    return found


def _any(marks: Bools, first: Ints, last: Ints) -> Bools:
    before, top = np.append(0, np.cumsum(marks)), len(marks)
    found: Bools = before[np.clip(last + 1, 0, top)] > before[np.clip(first, 0, top)]
    return found


def slowest_p95_ms(case: Case, t: Threshold) -> Figure:
    """The measure `slowest_client_p95_ms`."""
    if not captured(case):
        return Figure(value=None, why_not="not captured: the history does not tell consumers apart")
    own = own_latencies(case, groups_of(case, t), chosen(t.phases))
    few = int((own.count < LEAST).sum())
    some = f"{few} of {len(own.consumer)} consumers had fewer than {LEAST} deliveries" if few else ""
    order = own.judged
    if not len(order):
        return Figure(value=None, why_not=some or "no samples")
    lines = [
        f"consumer {one.consumer} ({one.group}): p95 {one.p95_ms:.4g} ms of {one.deliveries} deliveries"
        for one in _named(case, own)
    ]
    value = float(own.p95_ms[order[0]])
    return Figure(value=value, evidence=[*lines, *([some] if some else [])], note=f"{lines[0]}{some and '; '}{some}")


def _named(case: Case, own: Own) -> list[ClientLatency]:
    return [
        ClientLatency(
            consumer=int(own.consumer[at]),
            group=case.profile.consumers[case.subs.group_of[int(own.consumer[at])]].name,
            p95_ms=round(float(own.p95_ms[at]), 6),
            deliveries=int(own.count[at]),
        )
        for at in own.judged[:NAMED].tolist()
    ]


def slowest_clients(case: Case) -> SlowestClients | None:
    """The slowest in the calm phases; None where the history does not tell consumers apart."""
    if not captured(case):
        return None
    groups = case.profile.consumers
    own = own_latencies(case, [i for i, g in enumerate(groups) if not g.expect_slow], {CALM})
    return SlowestClients(judged=len(own.judged), too_few=int((own.count < LEAST).sum()), slowest=_named(case, own))
