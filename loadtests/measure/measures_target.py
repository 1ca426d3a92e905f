"""How did the target fare: queries, recovery, growth, CPU, health, connections?  One function per measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from loadtests.measure.analysis import Analysis, Faults
from loadtests.measure.deliveries import spread_of
from loadtests.measure.growth import NOT_TARGET
from loadtests.measure.history_tables import Bools, Ints
from loadtests.measure.measures_delivery import OURS
from loadtests.measure.phases import AFTER, CALM, FAULT, RECOVERY, WARM, chosen
from loadtests.measure.sample_counts import Sampled, every_ns, sampled, without
from loadtests.measure.selectors import Figure, groups_of, resting_on, spans_of, within
from loadtests.measure.target_words import said
from loadtests.model.ids import NS_PER_MS, NS_PER_S, SLICE_NS
from loadtests.model.profile.tables import Threshold
from loadtests.model.records import HEALTH_EVERY_S, Queried
from loadtests.model.results import Verdict
from loadtests.tally.histogram import BUCKETS, bounds_us

ALL = frozenset({WARM, CALM, FAULT, RECOVERY, AFTER})
Health = tuple[int, int, bool, str]
"""A probe of the health page: at_ns, took_ns, ok, detail."""
_WAITED = ("timeout", "connect: no answer", "57014")
"""How the error of a query begins that came only after all the time it had; 57014: the server cancelled it then."""
_BACK_WITHIN = 10 * NS_PER_S // SLICE_NS
"""So long those whom a target dropped in our stall may take to come back."""
HEALTH_PATIENCE_NS = 2 * NS_PER_S
"""A probe of the health page that has no answer by then has none."""

# -- the target and its faults


def queries_of(of: Faults, t: Threshold) -> Iterator[tuple[Queried, bool]]:
    """Cells of a threshold, and whether our trouble came before all their answers were there, or had to be.

    What was due in it is left out: it says nothing of the database.
    """
    wanted = chosen(t.phases)
    bad = of.scopes.behind | of.scopes.trouble
    for number, (_, process) in enumerate(of.facts.each()):
        for q in process.queried:
            at = np.array([q.due_slice])
            due = q.due_slice - of.low
            if _any(bad[number], due, due):
                continue
            if t.query in (None, q.query) and (wanted is None or int(of.phases.codes(at, at)[0]) in wanted):
                yield q, _any(bad[number], due, due + _took(of, q))


def _asked(analysis: Analysis, t: Threshold) -> list[Sampled]:
    """How many queries were answered or failed, by reader group, of those that its plan has."""
    found, spans = [], spans_of(analysis, chosen(t.phases), "postgres")
    for index, group in enumerate(analysis.profile.readers):
        share = sum(t.query in (None, query) for query in group.queries)
        cells = [
            q for _, p in analysis.facts.each() for q in p.queried if q.readers == index and t.query in (None, q.query)
        ]
        samples = sorted((q.due_slice * SLICE_NS, _took(analysis, q) * SLICE_NS, q.ok + q.failed) for q in cells)
        if not share:
            continue
        # One that is not answered when the plan ends keeps those behind it from being asked.
        late = [
            (at, analysis.times.plan_end_ns) for at, took, _ in samples[-1:] if at + took >= analysis.times.plan_end_ns
        ]
        within_ = without(spans, late)
        period_ns = every_ns(len(group.queries) / (share * group.rate_per_s))
        one = sampled(f"readers {group.name}", [(at, took) for at, took, _ in samples], period_ns, within_)
        count = sum(n for at, _, n in samples if any(a <= at < b for a, b in within_))
        found.append(replace(one, got=count, expected=one.expected * group.count))
    return found


def _took(of: Faults, q: Queried) -> int:
    """Slices from the due time of a cell's queries to the answer of the slowest, or until the last had to be there."""
    if q.failed and q.example.startswith(_WAITED):
        return -(-round(of.profile.readers[q.readers].timeout_s * NS_PER_S) // SLICE_NS)
    longest_us = max((bounds_us(int(bucket))[1] for bucket in q.latency[0]), default=0)
    return -(-round(longest_us * 1000) // SLICE_NS)


def _any(marks: Bools, first: int, last: int) -> bool:
    """Whether a slice from the first to the last is marked; beyond the axis its ends stand."""
    most = len(marks) - 1
    return bool(marks[min(max(first, 0), most) : min(max(last, 0), most) + 1].any())


def query(which: str) -> Callable[[Analysis, Threshold], Figure]:
    """One figure of the query times: of the threshold's query, or the worst of all."""

    def worst(cells: list[Queried]) -> Figure:
        held: dict[str, Ints] = {}
        for q in cells:
            dense = held.setdefault(q.query, np.zeros(BUCKETS, dtype=np.int64))
            dense[q.latency[0]] += np.array(q.latency[1], dtype=np.int64)
        values = {name: getattr(spread_of(dense), which) for name, dense in sorted(held.items())}
        thin = [name for name, value in values.items() if value is None]
        if thin or not values:
            return Figure(value=None, why_not=f"too few samples of {', '.join(thin)}" if thin else "no samples")
        lines = [f"{name}: {value:.3f} ms" for name, value in values.items()]
        return Figure(value=max(values.values()), evidence=lines)

    def measure(analysis: Analysis, t: Threshold) -> Figure:
        found = list(queries_of(analysis, t))
        figure = _unless_ours(t, worst([q for q, _ in found]), worst([q for q, ours in found if not ours]))
        return resting_on(analysis, t, figure, _asked(analysis, t), proves=which == "max")

    return measure


def _unless_ours(t: Threshold, of_all: Figure, clean: Figure) -> Figure:
    """A breach that only what our own trouble touched makes is neither a finding nor its absence."""
    breach = of_all.verdict is Verdict.FAIL or (of_all.value is not None and of_all.value > t.limit)
    stands = clean.verdict is Verdict.FAIL or (clean.value is not None and clean.value > t.limit)
    if breach and not stands:
        return replace(of_all, verdict=Verdict.UNKNOWN, why_not=OURS)
    return of_all


def query_failed(analysis: Analysis, t: Threshold) -> Figure:
    """Queries that failed, with one example of each error."""

    def count(cells: list[Queried]) -> Figure:
        lines = sorted({f"{q.query}: {q.example}" for q in cells if q.failed})
        return Figure(value=float(sum(q.failed for q in cells)) if cells else None, evidence=lines)

    found = list(queries_of(analysis, t))
    figure = _unless_ours(t, count([q for q, _ in found]), count([q for q, ours in found if not ours]))
    return resting_on(analysis, t, figure, _asked(analysis, t), proves=True)


def growth_mb(analysis: Analysis, t: Threshold) -> Figure:
    found = [g for g in analysis.growth if t.process in (None, g.process)]
    values = [g.growth_mb for g in found if g.growth_mb is not None]
    missing = [g.missing or f"too few samples of {g.process}" for g in found if g.growth_mb is None or g.missing]
    lines = [f"{g.process} {g.metric}: {g.growth_mb:+.2f} MB" for g in found if g.growth_mb is not None]
    worst = max(values, default=None)
    return Figure(
        value=worst,
        evidence=lines,
        verdict=Verdict.UNKNOWN if missing and worst is not None and worst <= t.limit else None,
        why_not="; ".join(missing) or "no samples",
    )


def growth_mb_per_h(analysis: Analysis, t: Threshold) -> Figure:
    found = [g for g in analysis.growth if t.process in (None, g.process)]
    lines = [f"{g.process} {g.metric}: {g.slope_mb_per_h} ({g.low} to {g.high}) MB/h: {g.verdict}" for g in found]
    said = {g.verdict for g in found}
    verdict = Verdict.FAIL if "LEAK" in said else Verdict.UNKNOWN if "UNKNOWN" in said or not said else Verdict.PASS
    missing = "; ".join(g.missing for g in found if g.missing)
    if missing and verdict is Verdict.PASS:
        verdict = Verdict.UNKNOWN
    values = [g.slope_mb_per_h for g in found if g.slope_mb_per_h is not None]
    why = missing or "too short for a slope: run longer"
    return Figure(value=max(values, default=None), evidence=lines, verdict=verdict, why_not=why)


def cpu(analysis: Analysis, t: Threshold) -> Figure:
    wanted = chosen(t.phases)
    means: dict[str, float] = {}
    found: list[Sampled] = []
    period_ns = every_ns(analysis.profile.sampling.every_s)
    for _, process in analysis.facts.each():
        for (source, metric), readings in sorted(process.samples.items()):
            if metric == "cpu_percent" and source not in NOT_TARGET and t.process in (None, source):
                values = sorted(v for at, v in readings if within(analysis, at, wanted) and at >= analysis.times.t0_ns)
                if values:
                    means[source] = sum(values) / len(values)
                    taken = [(at, 0) for at, _ in readings]
                    found.append(sampled(source, taken, period_ns, spans_of(analysis, wanted, source)))
    lines = [f"{name}: {value:.1f} %" for name, value in means.items()]
    return resting_on(analysis, t, Figure(value=max(means.values(), default=None), evidence=lines), found, proves=False)


def health(analysis: Analysis, t: Threshold) -> Figure:
    wanted = chosen(t.phases)
    probes = sorted(
        ((p.at_ns, p.took_ns, p.ok, p.detail) for _, f in analysis.facts.each() for p in f.probes if p.what == "health")
    )

    def worst(probes: list[Health]) -> Figure:
        bad = [
            f"{analysis.times.seconds(at):.1f} s: no healthy answer {detail}".rstrip()
            for at, took, ok, detail in probes
            if took < 0 or not ok
        ]
        slowest = None if bad else max((took for _, took, ok, _ in probes), default=None)
        return Figure(
            value=None if slowest is None else slowest / NS_PER_MS,
            evidence=bad,
            verdict=Verdict.FAIL if bad else None,
            why_not=f"{len(bad)} probes without a healthy answer" if bad else "no samples",
        )

    inside = [
        p for p in probes if p[0] >= analysis.times.t0_ns and _phase(analysis, p[0], _until(p)) in (wanted or ALL)
    ]
    # A machine that stands still answers late, and its gateway with it: that is no evidence against the gateway.
    clean = [
        p
        for p in inside
        if not _any(analysis.ours, p[0] // SLICE_NS - analysis.low, _until(p) // SLICE_NS - analysis.low)
    ]
    asked = [(at, _until((at, took, ok, detail)) - at) for at, took, ok, detail in probes]
    period_ns = every_ns(min(analysis.profile.sampling.every_s, HEALTH_EVERY_S))
    found = [sampled("health", asked, period_ns, spans_of(analysis, wanted, "gateway"))] if probes else []
    return resting_on(analysis, t, _unless_ours(t, worst(inside), worst(clean)), found, proves=True)


def _until(probe: Health) -> int:
    """When a probe of the health page was over; what was refused, was so at once."""
    at_ns, took_ns, _, detail = probe
    return at_ns + (HEALTH_PATIENCE_NS if detail == TimeoutError.__name__ else max(took_ns, 0))


def _phase(analysis: Analysis, from_ns: int, to_ns: int) -> int:
    """Phase of what lasted so long: that of a fault that began before it was over."""
    first, last = from_ns // SLICE_NS, to_ns // SLICE_NS
    return int(analysis.phases.codes(np.array([first]), np.array([last]))[0])


def coverage(analysis: Analysis, t: Threshold) -> Figure:
    figure = Figure(value=analysis.coverage, why_not="the load generator left no readings of itself")
    return resting_on(analysis, t, figure, own_readings(analysis), proves=False)


def own_readings(analysis: Analysis) -> list[Sampled]:
    """How many readings of itself each process of the load generator left, until it was lost where it was."""
    found = []
    for name, process in analysis.facts.each():
        if process.seconds:
            lost = [
                (t.from_ns, analysis.times.end_ns)
                for _, p in analysis.facts.each()
                for t in p.trouble
                if t.process == name
            ]
            at = [(s.at_ns, 0) for s in process.seconds]
            found.append(sampled(name, at, NS_PER_S, without(spans_of(analysis, None), lost)))
    return found


def _until_back(ours: Bools, per_slice: Ints) -> Bools:
    """Slices of our trouble, and those after it until as many are connected as before: whom a target dropped because
    we read nothing comes back by its own policy.
    """
    found = ours.copy()
    before, least, last = None, 0, 0
    for at in range(len(ours)):
        count = int(per_slice[at])
        if ours[at]:
            before = int(per_slice[max(at - 1, 0)]) if before is None else before
            least = count if at == 0 or not ours[at - 1] else min(least, count)
            last = at
        elif before is not None and least <= count < before and at - last <= _BACK_WITHIN:
            found[at] = True
        else:
            before = None
    return found


def connected(analysis: Analysis, t: Threshold) -> Figure:
    groups, wanted = set(groups_of(analysis, t)), chosen(t.phases)
    low = max(analysis.low, -(-analysis.times.t0_ns // SLICE_NS))
    high = analysis.times.plan_end_ns // SLICE_NS
    if not analysis.subs.intervals or high <= low:
        return Figure(value=None, why_not="the history has no subscriptions")
    per_slice = analysis.subs.connected(
        low, high, [c for c in analysis.subs.intervals if analysis.subs.group_of[c] in groups]
    )
    axis = np.arange(low, high)
    keep = np.ones(len(axis), dtype=np.bool_)
    if wanted is not None:
        keep = np.isin(analysis.phases.codes(axis, axis), sorted(wanted))
    if not keep.any():
        return Figure(value=None, why_not="the phases did not occur")
    ours = _until_back(analysis.ours[low - analysis.low : high - analysis.low], per_slice)
    value, clean = float(per_slice[keep].min()), keep & ~ours
    with_ours = per_slice + _in_trouble(analysis, low, high, groups)
    if value < t.limit and (not clean.any() or with_ours[clean].min() >= t.limit):
        return Figure(value=value, verdict=Verdict.UNKNOWN, why_not=OURS)
    words = said(analysis, analysis.times.t0_ns, analysis.times.plan_end_ns) if value < t.limit else []
    return Figure(value=value, evidence=words, because=words[0] if words else "")


def _in_trouble(analysis: Analysis, low: int, high: int, groups: set[int]) -> Ints:
    """Per slice, consumers of some groups whom trouble of ours kept away, or may have."""
    count = np.zeros(high - low, dtype=np.int64)
    for _, process in analysis.facts.each():
        for trouble in process.trouble:
            concerned = sum(analysis.subs.group_of.get(consumer) in groups for consumer in trouble.consumers)
            last = high if trouble.to_ns < 0 else trouble.to_ns // SLICE_NS + 1
            count[max(trouble.from_ns // SLICE_NS - low, 0) : max(last - low, 0)] += concerned
    return count


query_mean_ms, query_p95_ms, query_max_ms = map(query, ("mean", "p95", "max"))
