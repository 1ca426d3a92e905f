"""What was each level of a run worth?  The stored history in, a `Trial` for each level out.

A level is judged in its hold alone, by the profile's own limits and the functions of their measures: they get the same
analysis with other marks, in which only the hold is calm (`in_hold`).  What our own trouble spoiled is UNUSABLE before
any limit is asked.  All comes from the records, so that `tickstorm analyze` says the same again, or under other limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress, groupby
from typing import get_args

import msgspec
import numpy as np

from loadtests.measure.analysis import Analysis
from loadtests.measure.checks import not_offered, own_lag_ms, threshold_check
from loadtests.measure.deliveries import MIDDLE_MS, latency_spread
from loadtests.measure.growth import slope
from loadtests.measure.harness_trouble import coverage
from loadtests.measure.history_tables import READ, Bools, Floats, Ints
from loadtests.measure.phases import CALM, Phases
from loadtests.measure.selectors import came_rows
from loadtests.measure.timeline import unseen_per_slice
from loadtests.model.capacity import Judged, Kind, Trial
from loadtests.model.ids import NS_PER_MS, NS_PER_S, SLICE_NS
from loadtests.model.measures import MEASURES, OF_THE_RUN
from loadtests.model.profile.rules import QUANTILES
from loadtests.model.profile.tables import Threshold
from loadtests.model.profile.threshold_rules import Limit, limits
from loadtests.model.records import Level
from loadtests.model.results import Check, Verdict, worst
from loadtests.tally.histogram import bucket_of

LITTLE_LEAST, LITTLE_TOLERANCE = 100, 0.1
"""Unseen messages from which on two ways of counting them are compared; how far they may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedLevel:
    """A level, the run as seen from its hold, and what it was worth."""

    level: Level
    view: Analysis
    trial: Trial


def levels_of(analysis: Analysis) -> list[Level]:
    """The levels of a run whose hold ended before the plan did."""
    found = [level for _, process in analysis.facts.each() for level in process.levels]
    by_index = {level.index: level for level in found if _possible(level) and level.to_ns <= analysis.times.plan_end_ns}
    return [by_index[index] for index in sorted(by_index)]


def _possible(level: Level) -> bool:
    """Whether a level of a stranger's history can have been played: it offered something, and its hold took time."""
    return level.factor > 0 and level.hold_ns < level.to_ns


def in_hold(analysis: Analysis, level: Level) -> Analysis:
    """The same run, in which only the hold of a level is calm, but for what faults disturb: its own, and no other."""
    times = replace(analysis.times, warm_ns=level.hold_ns, plan_end_ns=level.to_ns)
    phases = Phases(
        times, analysis.windows, low=analysis.low, high=analysis.high, late_slices=analysis.phases.late_slices
    )
    covered = coverage(analysis.scopes, analysis.offering, analysis.subs, phases.calm_slices())
    mine = [level.hold_ns <= (fault.begin_ns or -1) < level.to_ns for fault in analysis.fault_windows]
    names = {fault.name for fault, inside in zip(analysis.fault_windows, mine, strict=True) if inside}
    return replace(
        analysis,
        times=times,
        phases=phases,
        coverage=covered,
        fault_windows=[*compress(analysis.fault_windows, mine)],
        outcomes=[*compress(analysis.outcomes, mine)],
        felt=[*compress(analysis.felt, mine)],
        not_back=[*compress(analysis.not_back, mine)],
        recovery=[one for one in analysis.recovery if one.fault in names],
    )


def bounding(analysis: Analysis) -> list[Limit]:
    """The limits that hold for every level: those that a hold can judge, or those of them that the search names.

    Where levels carry a fault, those of faults and of the way back as well.
    """
    table = analysis.profile.capacity
    chosen = set(table.limits) if table is not None else set()
    under = table is not None and table.under is not None
    found = []
    for threshold, default in limits(analysis.profile, faults=under):
        row = MEASURES[threshold.measure]
        if threshold.measure in OF_THE_RUN or (chosen and threshold.measure not in chosen):
            continue
        if "faults" in row.needs and not under:
            continue
        phases = ["calm", "fault", "recovery"] if "all" in threshold.phases else threshold.phases
        phases = [phase for phase in phases if phase == "calm" or under]
        if phases or "faults" in row.needs:
            found.append(Limit(threshold.model_copy(update={"phases": phases or ["calm"]}), default))
    return found


def played(analysis: Analysis) -> list[PlayedLevel]:
    """Every level of a run, judged."""
    unseen = unseen_per_slice(analysis)
    bounds = bounding(analysis)
    found = []
    for level in levels_of(analysis):
        view = in_hold(analysis, level)
        found.append(PlayedLevel(level=level, view=view, trial=_trial(view, level, bounds, unseen)))
    return found


def held(levels: Sequence[PlayedLevel]) -> PlayedLevel | None:
    """The level that the run's verdict rests on: of the highest that held, the longest hold."""
    good = [one for one in levels if one.trial.verdict == "GOOD" and one.trial.kind != "settle-in"]
    long = [one for one in good if one.trial.kind == "long"]
    return max(long or good, key=lambda one: one.level.factor, default=None)


def over_stages(levels: Sequence[PlayedLevel], threshold: Threshold, *, default: bool) -> Check:
    """A limit over all stages of a profile: as bad as the worst of them, which its summary names."""
    found = [(one, threshold_check(one.view, threshold, default=default)) for one in levels]
    verdict = worst([check.verdict for _, check in found])
    of_it = [(one, check) for one, check in found if check.verdict is verdict]
    one, check = of_it[0]
    where = f"stage {one.level.index + 1} of {len(levels)} (x{one.level.factor:g})"
    summary = f"{where}: {check.summary}" if verdict is not Verdict.PASS else f"in all {len(levels)} stages"
    lines = [f"stage {p.level.index + 1} (x{p.level.factor:g}): {c.summary}" for p, c in of_it[1:]]
    evidence = [*(lines if verdict is not Verdict.PASS else []), *check.evidence]
    return msgspec.structs.replace(check, summary=summary, evidence=evidence)


# -- one level


def _trial(view: Analysis, level: Level, bounds: Sequence[Limit], unseen: Ints) -> Trial:
    seconds = (level.to_ns - level.hold_ns) / NS_PER_S
    first, last = level.hold_ns // SLICE_NS, level.to_ns // SLICE_NS
    inside: Bools = (view.came.due >= first) & (view.came.due < last)
    meanwhile: Bools = (view.came.received >= first) & (view.came.received < last)
    published = (view.table.due >= first) & (view.table.due < last)
    spread = latency_spread(view.came, inside & view.clean, view.slow_read)
    owed = int(view.ledger.offered_rows[..., published].sum())
    line = unseen[first - view.low : last - view.low].astype(np.float64)
    grown = slope([at * SLICE_NS / NS_PER_S for at in range(len(line))], line.tolist())
    late = _late_slices(view, inside, bounds)
    little, contradicted = _little(view, inside, seconds)
    verdict, broke = _judged(view, bounds, grows=grown is not None and grown.low > 0, line=line)
    if contradicted and verdict != "UNUSABLE":
        verdict, broke = (
            "UNUSABLE",
            [f"account and clock disagree: {little} times as much was on its way (Little's law)"],
        )
    missed = not_offered(view, calm=True)
    connected = view.subs.connected(first, first + 1, view.subs.intervals)
    return Trial(
        run=next((h.run for _, p in view.facts.each() for h in p.headers), ""),
        index=level.index,
        kind=_kind(level),
        factor=level.factor,
        from_s=view.times.seconds(level.hold_ns),
        to_s=view.times.seconds(level.to_ns),
        verdict=verdict,
        broke=broke,
        clients=int(connected[0]) if len(connected) else 0,
        gateways=1,
        published_per_s=round(float((view.table.end - view.table.start)[published].sum()) / seconds, 3),
        offered_per_s=round(owed / seconds, 3),
        delivered_per_s=round(float(view.came.unique[meanwhile].sum()) / seconds, 3),
        latency_ms={name: getattr(spread, name) for name in ("p50", "p95", "p99")},
        lost=int(view.ledger.lost_rows[..., published].sum()),
        unseen_start=float(line[:5].mean()) if len(line) else None,
        unseen_end=float(line[-5:].mean()) if len(line) else None,
        unseen_slope_per_s=round(grown.low / 3600, 6) if grown else None,
        little_ratio=little,
        own_lag_p99_ms=own_lag_ms(view, {CALM}),
        not_offered=missed[1] if missed else 0,
        slices=len(late),
        late_slices=sum(late),
        longest_late_s=max((len(list(run)) for bad, run in groupby(late) if bad), default=0) * SLICE_NS / NS_PER_S,
        resources=dict(_resources(view, level)),
    )


def _kind(level: Level) -> Kind:
    known: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    return known.get(level.kind, "planned")


def _judged(view: Analysis, bounds: Sequence[Limit], *, grows: bool, line: Floats) -> tuple[Judged, list[str]]:
    ours = _our_trouble(view)
    if ours:
        return "UNUSABLE", ours
    if not bounds:
        return "UNUSABLE", ["no limit of the profile can be judged in a hold"]
    checks = [threshold_check(view, limit.threshold, default=limit.default) for limit in bounds]
    bad = [check.name.replace(" calm", "") for check in checks if check.verdict is Verdict.FAIL]
    if not bad and grows and line[-5:].mean() > _noise(line) + line[:5].mean():
        bad = [f"the backlog grew from {line[:5].mean():,.0f} to {line[-5:].mean():,.0f} messages"]
    if bad:
        return "BAD", bad
    unsure = [f"{check.name}: {check.summary}" for check in checks if check.verdict is not Verdict.PASS]
    return ("UNUSABLE", unsure) if unsure else ("GOOD", [])


def _noise(line: Floats) -> float:
    """How far the backlog swings from one slice to the next."""
    steps = np.abs(np.diff(line))
    return 4 * float(np.median(steps)) + 1 if len(steps) else 1.0


def _our_trouble(view: Analysis) -> list[str]:
    guard, found = view.profile.guard, []
    missed = not_offered(view, calm=True)
    if missed is None:
        return ["nothing was published in its hold"]
    if missed[0] > guard.not_offered_share:
        found.append(f"{missed[1]:,} of {missed[2]:,} planned messages were not offered")
    if view.coverage is None or view.coverage < guard.clean_coverage_min:
        share = "no reading of itself" if view.coverage is None else f"kept up in {view.coverage:.0%} of the hold"
        found.append(f"the load generator {'left ' if view.coverage is None else ''}{share}")
    lag = own_lag_ms(view, {CALM})
    if lag is not None and lag > guard.own_lag_p99_ms:
        found.append(f"our own lag was {lag:.0f} ms (p99)")
    return found


def _late_slices(view: Analysis, inside: Bools, bounds: Sequence[Limit]) -> list[bool]:
    """Of each slice of the hold in which something was due: whether more was late than a percentile allows.

    Of the deliveries that a limit is about, and of no others: what another family or group may take is not late.
    """
    due = view.came.due - view.low
    width = int(due.max(initial=-1)) + 1
    there, late = np.zeros(width, dtype=bool), np.zeros(width, dtype=bool)
    for limit in (one.threshold for one in bounds if one.threshold.measure in QUANTILES):
        of_it = came_rows(view, limit) & inside & view.clean & (view.came.clock == READ) & view.came.counts
        rows = np.flatnonzero(of_it)
        place, bucket, count = view.came.latency.of(rows)
        beyond = bucket > bucket_of(round(limit.limit * NS_PER_MS))
        total = np.bincount(due[rows][place], weights=count, minlength=width)
        too_late = np.bincount(due[rows][place], weights=count * beyond, minlength=width)
        there |= total > 0
        late |= too_late > (1 - QUANTILES[limit.measure]) * total
    return [bool(bad) for bad in late[there]]


def _little(view: Analysis, inside: Bools, seconds: float) -> tuple[float | None, bool]:
    """What was on its way, counted by slices, over what the latencies make of it; whether the two contradict.

    Little's law as time integrals: both sum, over the messages of the hold, how long each was on its way.  Counting by
    slices may be wrong by one of them.
    """
    rows: Bools = inside & (view.came.clock == READ) & view.came.counts
    by_latency = float((view.came.latency.dense(rows) * MIDDLE_MS).sum()) / 1000
    if by_latency / seconds < LITTLE_LEAST:
        return None, False
    slice_s, count = SLICE_NS / NS_PER_S, view.came.unique[rows]
    slices = float((count * (view.came.received - view.came.due)[rows]).sum()) * slice_s
    allowed = LITTLE_TOLERANCE * by_latency + slice_s * float(count.sum())
    return round(slices / by_latency, 4), abs(slices - by_latency) > allowed


def _resources(view: Analysis, level: Level) -> Iterator[tuple[str, float]]:
    """What each process used in the hold: CPU in percent of a core, the last memory in MB."""

    def mean(readings: Sequence[tuple[int, float]]) -> float | None:
        mine = [value for at, value in readings if level.hold_ns < at <= level.to_ns]
        return sum(mine) / len(mine) if mine else None

    sources = sorted({key for _, process in view.facts.each() for key in process.samples})
    for source, metric in sources:
        readings = [pair for _, p in view.facts.each() for pair in p.samples.get((source, metric), ())]
        value = mean(readings) if metric in ("cpu_percent", "rss_bytes") else None
        if value is not None and metric == "cpu_percent":
            yield f"{source} cpu", round(value, 3)
        elif value is not None:
            yield f"{source} memory", round(value / 1e6, 3)
    own = [
        value
        for _, process in view.facts.each()
        if (value := mean([(s.at_ns, s.cpu_percent) for s in process.seconds])) is not None
    ]
    if own:
        yield "generator cpu", round(max(own), 3)
