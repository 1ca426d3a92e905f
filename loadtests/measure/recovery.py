"""How long was the run out of its limits because of a fault, and how fast did it recover?

Theory of operation.  Everything is summed per slice of 100 ms of *due* time, so that a late message counts where the
plan wanted it (no coordinated omission).  A *slice group* begins in each slice and holds 500 ms, or more until enough
messages are in it.  The calm stretch before the fault gives the *baseline*: delivered / offered, and p95.  A group is
*good* (in the *band*) where it delivered its share of the baseline, at most 5 % of it were later than the band's limit,
enough consumers were connected, and something was offered if the plan wanted it.

    due       10.0 ....... 12.0 ...... 13.0 .................. 16.0
    groups    good | bad  bad  bad  bad | good good good good good    hold_s = 3
              injected     healed      steady

    recovery = steady - healed = 1.0 s       the first stretch of good groups that covers the hold time
    outage   = steady - injected = 3.0 s     if the groups were good before the healing already: up to the first of them

Invariants: a run is steady at the fault's healing at the earliest; a stretch that the next fault or the end of the plan
cuts off is UNKNOWN, not FAIL; a fault that touched no consumer has no outcome, and disturbs no other fault's; where two
overlap, the run can only recover from both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from loadtests.measure.deliveries import Bins, Deliveries, rank_of
from loadtests.measure.fault_windows import FaultWindow, Times, beside, meanwhile, unproved
from loadtests.measure.history_tables import Bools, HistoryTables, Ints, sums_at
from loadtests.measure.streams import StreamTable
from loadtests.measure.subscriptions import Planned, SubscriptionTable
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_MS, NS_PER_S, SLICE_NS
from loadtests.model.records import ACTED
from loadtests.model.results import Verdict
from loadtests.tally.histogram import BUCKETS, bounds_us


@dataclass(frozen=True, kw_only=True, eq=False)
class OfferedLoad:
    """Sums per slice of due time, over the groups that are not expected to be slow."""

    low: int
    high: int
    offered: Ints  # deliveries to all planned consumers
    delivered: Ints
    planned: Ints  # messages that the plan had, offered or not
    connected: Ints
    consumers: Ints  # planned
    ours: Bools  # slices in which a process of the load generator was in trouble
    latency: Bins
    rows: Ints  # rows of `latency` that count, in the order of their due slices
    due: Ints  # of each of them, the first slice is 0

    def times(self, first: int, last: int) -> tuple[Ints, Ints, Ints]:
        """Latencies of what was due from a slice to before another: slice, bucket, count."""
        low, high = np.searchsorted(self.due, (first, max(first, last)))
        place, bucket, count = self.latency.of(self.rows[low:high])
        return self.due[low:high][place], bucket, count

    @cached_property
    def runs(self) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        """Sums of all slices before each: offered, delivered, planned, how much a slice weighs, latencies."""
        samples = np.zeros(self.high - self.low, dtype=np.int64)
        for low in range(0, len(samples), _AT_ONCE):
            at, _, count = self.times(low, low + _AT_ONCE)
            samples += sums_at(at, count, len(samples))
        weight = np.maximum(self.offered, self.planned)
        return _run(self.offered), _run(self.delivered), _run(self.planned), _run(weight), _run(samples)


def load(
    facts: HistoryTables,
    contract: Contract,
    table: StreamTable,
    came: Deliveries,
    subs: SubscriptionTable,
    plan: Planned,
    low: int,
    high: int,
    ours: Bools,
) -> OfferedLoad:
    """The sums of a history."""
    profile, n = contract.profile, high - low
    groups = {i for i, c in enumerate(profile.consumers) if not c.expect_slow} or set(range(len(profile.consumers)))
    measured = np.array([f.mode != "unmeasured" for f in profile.families])
    rows = np.isin(came.consumers, sorted(groups)) & measured[came.family] & came.counts
    rows &= (came.due >= low) & (came.due < high)
    inside = (table.due >= low) & (table.due < high)
    offered = plan.offered_rows[sorted(groups)].sum(axis=0)
    wanted = np.zeros(n, dtype=np.int64)
    for _, process in facts.each():
        _, due, sent, missed, *_ = process.publish.numpy()
        there = (due >= low) & (due < high)
        np.add.at(wanted, due[there] - low, (sent + missed)[there])
    published = sums_at(table.due[inside] - low, (table.end - table.start)[inside], n)
    chosen = np.flatnonzero(rows)
    chosen = chosen[np.argsort(came.due[chosen], kind="stable")]
    return OfferedLoad(
        low=low,
        high=high,
        offered=sums_at(table.due[inside] - low, offered[inside], n),
        delivered=sums_at(came.due[rows] - low, came.unique[rows], n),
        planned=np.maximum(wanted, published),
        connected=subs.connected(low, high, [c for c in subs.intervals if subs.group_of[c] in groups]),
        consumers=plan.per_slice(low, high, groups),
        ours=ours,
        latency=came.latency,
        rows=chosen,
        due=came.due[chosen] - low,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What the calm stretch before a fault was like."""

    ratio: float  # delivered / offered
    p95_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one fault cost the run."""

    verdict: Verdict
    outage_ns: int | None
    recovery_ns: int | None
    steady_ns: int | None  # moment from which on it was steady
    settled_ns: int | None  # end of its first steady slice group, which still may hold what the band forgives
    limit_ms: float | None  # latency limit of the band
    summary: str
    visible: bool | None
    struck: bool = False  # while it was in force messages were late, or half of them or more were missing


_AT_ONCE = 6000
"""Slices whose latencies are looked at together."""
_STRUCK = 0.5
"""A fault that no probe could observe is proved by no less: a few losses may be the target's own."""


class Band:
    """In-band tests of the slice groups that begin from one slice to before another, for one baseline."""

    def __init__(self, contract: Contract, given: OfferedLoad, base: Base, first: int, last: int) -> None:
        steady = contract.profile.steady
        self.first = first
        self.limit_ms = max(base.p95_ms * steady.latency_factor, base.p95_ms + steady.latency_add_ms)
        n = given.high - given.low
        group = steady.group_ms * NS_PER_MS // SLICE_NS
        offered_, delivered_, planned_, weight, samples_ = given.runs
        start = np.arange(first, max(first, last))
        # Extended until it has enough; what the plan wanted counts as well, or an outage would join the recovery.
        end = np.maximum(start + group, np.searchsorted(weight, weight[start] + steady.group_min_messages))
        self.whole: Bools = end <= n
        self.end = np.minimum(end, n)
        top = int(self.end.max(initial=first))
        at, bucket, count = given.times(first, top)
        beyond = np.array([bounds_us(b)[0] / 1000 for b in range(BUCKETS)]) > self.limit_ms
        over = _run(sums_at(at[beyond[bucket]] - first, count[beyond[bucket]], top - first))
        away = given.connected[first:top] < np.ceil(steady.connected_min * given.consumers[first:top] - 1e-9)

        def of(run: Ints, before: int = 0) -> Ints:
            sums: Ints = run[self.end - before] - run[start - before]
            return sums

        offered, delivered = of(offered_), of(delivered_)
        late: Bools = of(over, first) * 100 > of(samples_) * 5
        silent: Bools = (offered == 0) & (of(planned_) > 0)
        self.struck: Bools = late | silent | (delivered < _STRUCK * base.ratio * offered)
        self.good: Bools = (
            (delivered >= steady.delivery_min * base.ratio * offered - 1e-9)
            & ~silent
            & ~late
            & (of(_run(away.astype(np.int64)), first) == 0)
        )


def _run(per_slice: Ints) -> Ints:
    return np.concatenate(([0], np.cumsum(per_slice)))


def baseline(given: OfferedLoad, from_ns: int, to_ns: int, least: int) -> Base | None:
    """The calm stretch from one moment to another, without our own trouble; None where it is too thin."""
    first = max(-(-from_ns // SLICE_NS) - given.low, 0)
    last = min(to_ns // SLICE_NS - given.low, given.high - given.low)
    if last <= first:
        return None
    clean = ~given.ours[first:last]
    offered, delivered = (int(c[first:last][clean].sum()) for c in (given.offered, given.delivered))
    dense = np.zeros(BUCKETS, dtype=np.int64)
    for low in range(first, last, _AT_ONCE):
        at, bucket, count = given.times(low, min(low + _AT_ONCE, last))
        chosen = clean[at - first]
        dense += np.bincount(bucket[chosen], weights=count[chosen], minlength=BUCKETS).astype(np.int64)
    total = int(dense.sum())
    if offered < least or not delivered or not total:
        return None
    bucket_ = int(np.searchsorted(np.cumsum(dense), rank_of(0.95, total)))
    return Base(ratio=min(delivered / offered, 1.0), p95_ms=bounds_us(bucket_)[1] / 1000)


def recoveries(
    contract: Contract, given: OfferedLoad, times: Times, windows: list[FaultWindow], changes: tuple[int, ...]
) -> list[Outcome]:
    """The outcome of every fault, in their order; a fault that met no consumer has none, and is none for the others."""
    found: list[Outcome] = []
    base: Base | None = None
    calm_from = times.warm_ns
    for index, fault in enumerate(windows):
        if fault.missed:
            found.append(_unknown(fault, unproved(fault)))
            continue
        if fault.began_ns is None:
            why = "was never in force" if fault.tried_ns is None else "could not be confirmed to be in force"
            found.append(_unknown(fault, f"{fault.name} {why}"))
            if fault.tried_ns is not None:
                calm_from = max(calm_from, times.plan_end_ns if fault.end_ns is None else fault.end_ns)
            continue
        start = max([calm_from] + [c for c in changes if c < fault.began_ns])
        # What came before is kept where two faults follow each other without a calm stretch between them.
        base = baseline(given, start, fault.began_ns, contract.profile.steady.group_min_messages) or base
        # A fault that began while this one was in force is part of the same trouble; the next one after it is not.
        healed_ns = fault.began_ns if fault.healed_ns is None else fault.healed_ns
        later = [at for a in windows[index + 1 :] if (at := a.acted_ns) is not None and at > healed_ns]
        next_ns = min(later, default=None)
        outcome = _outcome(
            contract, given, times, fault, base, next_ns, beside(windows, fault), meanwhile(windows, fault)
        )
        found.append(outcome)
        end = fault.end_ns if outcome.steady_ns is None else max(outcome.steady_ns, fault.healed_ns or 0)
        calm_from = max(calm_from, times.plan_end_ns if end is None else end)
    return found


def felt_after_all(
    contract: Contract, given: OfferedLoad, times: Times, windows: list[FaultWindow], changes: tuple[int, ...]
) -> list[FaultWindow]:
    """The faults; one that no probe could observe is proved where consumers on its path felt it while it was in force.

    What was seen to touch no consumer stays so, whatever happened meanwhile.
    """
    if not any(fault.unseen for fault in windows):
        return windows
    outcomes = recoveries(contract, given, times, windows, changes)
    return [
        replace(fault, touched=ACTED, proved=fault.in_force, doubt=fault.proof_doubt)
        if fault.unseen and fault.families and outcome.struck and not meanwhile(windows, fault)
        else fault
        for fault, outcome in zip(windows, outcomes, strict=True)
    ]


def _unknown(fault: FaultWindow, why: str) -> Outcome:
    return Outcome(
        verdict=Verdict.UNKNOWN,
        outage_ns=None,
        recovery_ns=None,
        steady_ns=None,
        settled_ns=None,
        limit_ms=None,
        summary=f"{fault.name}: {why}" if not why.startswith(fault.name) else why,
        visible=None,
    )


def _outcome(
    contract: Contract,
    given: OfferedLoad,
    times: Times,
    fault: FaultWindow,
    base: Base | None,
    next_ns: int | None,
    beside: list[FaultWindow],
    others: list[FaultWindow],
) -> Outcome:
    if base is None:
        return _unknown(fault, "no calm stretch before it says what steady is")
    if fault.healed_ns is None or fault.injected_ns is None or fault.began_ns is None:
        return _unknown(fault, "it was not lifted, so nothing recovered from it")
    hold = round(contract.profile.steady.hold_s * NS_PER_S) // SLICE_NS
    cut_ns = times.plan_end_ns if next_ns is None else min(next_ns, times.plan_end_ns)
    high = given.high - given.low
    first = min(max(fault.began_ns // SLICE_NS - given.low, 0), high)
    cut = min(cut_ns // SLICE_NS - given.low, high)
    band = Band(contract, given, base, first, min(max(cut, fault.healed_ns // SLICE_NS - given.low), high))
    # From here on slices count from the fault's begin.
    low, cut, end = given.low + first, cut - first, band.end - first
    good = band.good & (end <= cut) & band.whole
    at = fault.healed_ns // SLICE_NS - low
    last = (fault.healed_ns + fault.limit_ns) // SLICE_NS - low
    struck = bool(band.struck[: max(at, 0)].any())
    steady = _first_stretch(good, end, at, min(last, cut), hold)
    if steady is None and beside and (why := _not_alone(good, end, low, fault, beside, cut, hold)):
        return _unknown(fault, why)
    if steady is None and not fault.proved:
        why = f"{unproved(fault)}; it was not steady within {fault.limit_ns / NS_PER_S:g} s"
        return replace(_unknown(fault, why), struck=struck)
    if steady is None:
        if _open_end(good, int((band.whole & (end <= cut)).sum()), cut, at, last):
            why = "the next fault began" if next_ns is not None and cut_ns == next_ns else "the plan ended"
            after = (cut_ns - fault.healed_ns) / NS_PER_S
            return _unknown(fault, f"{why} {after:.1f} s after it was healed, too early to say whether it recovered")
        limit = fault.limit_ns / NS_PER_S
        return Outcome(
            verdict=Verdict.FAIL,
            outage_ns=None,
            recovery_ns=None,
            steady_ns=None,
            settled_ns=None,
            limit_ms=band.limit_ms,
            summary=f"{fault.name}: not recovered (> {limit:g} s)",
            visible=True,
        )
    since = steady
    while since > 0 and good[since - 1]:
        since -= 1
    visible = since > 0
    steady_ns = max((low + steady) * SLICE_NS, fault.healed_ns)
    outage_ns = max((low + since) * SLICE_NS - fault.injected_ns, 0) if visible else 0
    recovery_ns = steady_ns - fault.healed_ns
    if not fault.proved:
        verdict, summary = Verdict.UNKNOWN, f"{fault.name}: {unproved(fault)}"
    elif not visible:
        verdict, summary = Verdict.PASS, f"{fault.name}: no visible impact"
    else:
        verdict = Verdict.PASS
        cost = f"out of its limits for {outage_ns / 1e9:.2f} s, steady {recovery_ns / 1e9:.2f} s after it was healed"
        summary = f"{fault.name}: {cost}"
        late = [a for a in beside if a.healed_ns is not None and a.healed_ns <= steady_ns]
        if late:
            names = " and ".join(f'"{a.name}"' for a in late)
            lasted = (max(a.healed_ns or 0 for a in late) - fault.healed_ns) / NS_PER_S
            summary += f", at most: {names} lasted {lasted:.2f} s beyond it"
        elif others:
            summary += "; " + " and ".join(f'"{a.name}"' for a in others) + " was in force meanwhile"
    return Outcome(
        verdict=verdict,
        outage_ns=outage_ns,
        recovery_ns=recovery_ns,
        steady_ns=steady_ns,
        settled_ns=max((low + int(end[steady])) * SLICE_NS, steady_ns),
        limit_ms=band.limit_ms,
        summary=summary,
        visible=visible,
        struck=struck,
    )


def _not_alone(
    good: Bools, end: Ints, low: int, fault: FaultWindow, beside: list[FaultWindow], cut: int, hold: int
) -> str | None:
    """Why nothing is known of one that was not steady within its limit while others were in force; None: it is known.

    It is known where it was not steady within its limit after the last of them either.
    """
    assert fault.healed_ns is not None
    names = " and ".join(f'"{a.name}"' for a in beside)
    ends = [a.healed_ns for a in beside if a.healed_ns is not None]
    if len(ends) < len(beside):
        return f"{names} was in force when it was healed, and was never lifted"
    joint_ns = max(ends)
    last = (joint_ns + fault.limit_ns) // SLICE_NS - low
    steady = _first_stretch(good, end, joint_ns // SLICE_NS - low, min(last, cut), hold)
    lasted = f"{names} lasted {(joint_ns - fault.healed_ns) / NS_PER_S:.2f} s beyond it"
    if steady is not None:
        back = max((low + steady) * SLICE_NS - joint_ns, 0) / NS_PER_S
        return f"{lasted}, so its own recovery cannot be told; steady {back:.2f} s after both were healed"
    if cut <= last:
        return f"{lasted}, and what came then was too short to say whether it recovered"
    return None


def _first_stretch(good: Bools, end: Ints, at: int, last: int, hold: int) -> int | None:
    """First slice from `at` to `last` from which on all groups are good until they have covered the hold time."""
    bad = np.concatenate((np.flatnonzero(~good), [len(good)]))
    for start in range(max(at, 0), min(last, len(good) - 1) + 1):
        stop = int(bad[np.searchsorted(bad, start)])
        if stop > start and int(end[stop - 1]) - start >= hold:
            return start
    return None


def _open_end(good: Bools, whole: int, cut: int, at: int, last: int) -> bool:
    """Whether the search was cut off before the limit had passed, or in a stretch that might still have held."""
    start = whole
    while start > at and good[start - 1]:
        start -= 1
    return cut <= last or whole <= at or (start < whole and start <= last)


def as_seconds(ns: int | None) -> float | None:
    """Seconds in whole milliseconds, None stays None."""
    return None if ns is None else round(ns / NS_PER_S, 3)
