"""How is a history analysed?  Builds the four stages of an `Analysis`, each from the one before."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from loadtests.measure.absences import Absences
from loadtests.measure.analysis import Analysis, Faults, Offered, Owed
from loadtests.measure.attribution import attribution
from loadtests.measure.consumer_recovery import Felt, Touches, felt
from loadtests.measure.damage import BUT, believed, damage
from loadtests.measure.deliveries import Deliveries, deliveries
from loadtests.measure.expected import Owing
from loadtests.measure.fault_windows import FaultWindow, fault_windows, times
from loadtests.measure.growth import growth
from loadtests.measure.harness_trouble import TroubleScopes, coverage, scopes
from loadtests.measure.history_tables import Bools, HistoryTables
from loadtests.measure.interference import with_queries
from loadtests.measure.ledger import settle
from loadtests.measure.phases import Phases, window
from loadtests.measure.recovery import Outcome, as_seconds, felt_after_all, load, recoveries
from loadtests.measure.recovery_spread import NotBack, not_back, recovery_of, with_clients
from loadtests.measure.streams import streams
from loadtests.measure.subscriptions import planned, subscriptions
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_MS, NS_PER_S, SLICE_NS
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.tables import Steady
from loadtests.model.results import RecoveryResult, Verdict


def analyse(profile: Profile, facts: HistoryTables) -> Analysis:
    """All four stages of a history."""
    return recovered(owed(faults(offered(profile, facts))))


def offered(profile: Profile, facts: HistoryTables) -> Offered:
    """The first stage."""
    contract = Contract(profile)
    broken = damage(facts)
    facts = believed(facts, broken)
    table = streams(facts, contract)
    came = deliveries(facts, len(profile.consumers))
    known = [int(c.max()) for c in (table.due, table.sent, came.received) if len(c)]
    marks = times(facts, profile, max(known, default=0))
    low = marks.t0_ns // SLICE_NS
    high = max(marks.end_ns // SLICE_NS + 1, low + 1)
    subs = subscriptions(facts)
    scope = scopes(facts, profile, low, high)
    behind: Bools = np.logical_or.reduce(scope.behind, axis=0)
    ours: Bools = behind | np.logical_or.reduce(scope.trouble, axis=0)
    offering = _offering(facts, scope)
    return Offered(
        profile=profile,
        contract=contract,
        facts=facts,
        damage=broken,
        times=marks,
        low=low,
        high=high,
        table=table,
        came=came,
        subs=subs,
        plan=planned(facts, contract, table, marks, subs),
        scopes=scope,
        behind=behind,
        ours=ours,
        offering=offering,
        clean=~(scope.of_rows(scope.behind | scope.trouble, came) | _due_in(offering, came, low)),
        slow_read=scope.of_rows(scope.slow_read, came),
    )


def faults(of: Offered) -> Faults:
    """The second stage."""
    contract, marks, changes = of.contract, of.times, of.plan.changes
    given = load(of.facts, contract, of.table, of.came, of.subs, of.plan, of.low, of.high, of.ours)
    found = felt_after_all(contract, given, marks, fault_windows(of.facts, of.profile), changes)
    ends = [_decided_ns(a, found[index + 1 :], marks.plan_end_ns, of.profile.steady) for index, a in enumerate(found)]
    outcomes = [
        _outside(of, o, a, end)
        for o, a, end in zip(recoveries(contract, given, marks, found, changes), found, ends, strict=True)
    ]
    windows = [
        w
        for a, o in zip(found, outcomes, strict=True)
        if a.charges and not a.missed and (w := window(a, o.settled_ns, marks.end_ns)) is not None
    ]  # a planted defect is the target's own, and what touched no consumer cost nothing: calm stays calm
    late = -(-round(of.profile.run.late_s * NS_PER_S) // SLICE_NS)
    phases = Phases(marks, windows, low=of.low, high=of.high, late_slices=late)
    return Faults(
        **_held(of),
        fault_windows=found,
        outcomes=outcomes,
        troubled=frozenset(
            a.name for a, o, end in zip(found, outcomes, ends, strict=True) if _in_trouble(of, o, a, end)
        ),
        windows=windows,
        phases=phases,
        coverage=coverage(of.scopes, of.offering, of.subs, phases.calm_slices()),
    )


def owed(of: Faults) -> Owed:
    """The third stage."""
    blame = attribution(of.facts, of.table, of.contract, of.windows)
    owing = Owing(of.table, of.came, of.contract, of.windows, _route_sets(of), end_ns=of.times.end_ns)
    absences = Absences(of.contract, of.subs, of.plan, of.windows, of.times, of.ours, of.low)
    planned_slots = [slot for slots in of.plan.slots for slot in slots]
    received = of.came.of_process(of.facts.names)
    ledger = settle(
        of.facts, of.contract, of.table, of.subs, owing, absences, blame, received, planned_slots, of.damage.of
    )  # fmt: skip
    return Owed(**_held(of), blame=blame, absences=absences, ledger=ledger)


def recovered(of: Owed) -> Analysis:
    """The last stage."""
    touched = Touches(of.facts, of.came, of.low, of.high)
    every: list[Felt | None] = []
    gone: list[NotBack | None] = []
    for index, (fault, outcome) in enumerate(zip(of.fault_windows, of.outcomes, strict=True)):
        later = [
            a.began_ns
            for a in of.fault_windows[index + 1 :]
            if a.began_ns is not None and a.began_ns > (fault.healed_ns or 0) and not a.missed
        ]
        one = None if fault.missed else felt(
            of.facts, of.contract, of.table, of.subs, of.plan, of.ledger, touched, fault, of.times,
            limit_ms=outcome.limit_ms, next_ns=min(later, default=None),
        )  # fmt: skip
        every.append(one)
        gone.append(not_back(fault, one, of.fault_windows, of.ledger.unjudged, of.ours, of.low))
    back = [
        _recovery(of.contract, fault, with_clients(outcome, who), one)
        for fault, outcome, who, one in zip(of.fault_windows, of.outcomes, gone, every, strict=True)
    ]
    return Analysis(
        **_held(of),
        felt=every,
        not_back=gone,
        recovery=with_queries(of, back),
        growth=growth(
            of.facts, of.profile, of.windows,
            t0_ns=of.times.t0_ns, plan_end_ns=of.times.plan_end_ns, changes=of.plan.changes,
        ),
    )  # fmt: skip


def _held(stage: Offered) -> dict[str, Any]:
    """What a stage hands on to the next one: all of it."""
    return {field.name: getattr(stage, field.name) for field in fields(stage)}


def _route_sets(of: Faults) -> set[tuple[int, ...]]:
    """All that any consumer subscribed to, or was to."""
    asked = {interval.routes for intervals in of.subs.intervals.values() for interval in intervals}
    slots = {*of.subs.group_of, *(slot for slots in of.plan.slots for slot in slots)}
    return asked | {tuple(sorted(routes)) for routes in {of.contract.consumer_routes(slot) for slot in slots}}


# -- where the load generator was in trouble


def _offering(facts: HistoryTables, scope: TroubleScopes) -> Bools:
    """Slices in which a process that publishes could not keep up or was in trouble: what was due then left late."""
    rows = [i for i, (_, process) in enumerate(facts.each()) if len(process.publish)]
    found: Bools = np.logical_or.reduce((scope.behind | scope.trouble)[rows], axis=0)
    return found


def _due_in(slices: Bools, came: Deliveries, low: int) -> Bools:
    """Rows that were due in a marked slice."""
    rows: Bools = slices[np.clip(came.due - low, 0, len(slices) - 1)]
    return rows


# -- what a fault cost the run


def _decided_ns(fault: FaultWindow, later: list[FaultWindow], plan_end_ns: int, steady: Steady) -> int | None:
    """Until when what came decides whether it recovered: a stretch that begins within the limit must hold on beyond
    it, but neither beyond the next fault nor beyond the plan.
    """
    if fault.end_ns is None or fault.healed_ns is None:
        return None
    begins = [at for a in later if (at := a.acted_ns) is not None and at > fault.healed_ns]
    held_ns = round(steady.hold_s * NS_PER_S) + steady.group_ms * NS_PER_MS
    return max(fault.end_ns, min(fault.end_ns + held_ns, plan_end_ns, *begins))


def _in_trouble(of: Offered, outcome: Outcome, fault: FaultWindow, decided_ns: int | None) -> bool:
    """Whether the load generator was in trouble from the fault on until it was steady, or that was decided."""
    end_ns = decided_ns if outcome.steady_ns is None else outcome.steady_ns
    if fault.began_ns is None or end_ns is None:
        return False
    span = slice(max(fault.began_ns // SLICE_NS - of.low, 0), max(end_ns // SLICE_NS + 1 - of.low, 0))
    return bool(of.ours[span].any())


def _outside(of: Offered, outcome: Outcome, fault: FaultWindow, decided_ns: int | None) -> Outcome:
    """Not to have recovered is no finding where the load generator was in trouble meanwhile, or records are missing."""
    if outcome.verdict is not Verdict.FAIL:
        return outcome
    if of.damage.doubts("recovery"):
        why = BUT
    elif _in_trouble(of, outcome, fault, decided_ns):
        why = "but the load generator was in trouble meanwhile"
    else:
        return outcome
    return replace(
        outcome,
        verdict=Verdict.UNKNOWN,
        outage_ns=None,
        recovery_ns=None,
        steady_ns=None,
        settled_ns=None,
        summary=f"{outcome.summary}; {why}",
    )


def _recovery(contract: Contract, fault: FaultWindow, outcome: Outcome, one: Felt | None) -> RecoveryResult:
    return RecoveryResult(
        fault=fault.name,
        verdict=outcome.verdict,
        outage_s=as_seconds(outcome.outage_ns),
        recovery_s=as_seconds(outcome.recovery_ns),
        limit_s=fault.limit_ns / NS_PER_S,
        error_s=as_seconds(fault.error_ns),
        summary=outcome.summary,
        consumers=recovery_of(contract, one),
        ready_s=as_seconds(fault.ready_ns),
    )
