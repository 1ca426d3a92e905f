"""Everything that is known of a run before a limit is applied to it: the folds, side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from loadtests.measure.absences import Absences
from loadtests.measure.accounts import Sight
from loadtests.measure.attribution import Attribution, attribution
from loadtests.measure.consumer_recovery import Felt, felt
from loadtests.measure.consumer_slices import touches
from loadtests.measure.damage import BUT, Damage, believed, damage
from loadtests.measure.deliveries import Deliveries, deliveries
from loadtests.measure.expected import Owing
from loadtests.measure.fault_windows import FaultWindow, Times, acts, times
from loadtests.measure.growth import growth
from loadtests.measure.harness_trouble import TroubleScopes, coverage, scopes
from loadtests.measure.history_tables import Bools, HistoryTables
from loadtests.measure.ledger import Ledger, settle
from loadtests.measure.phases import Phases, Window, window
from loadtests.measure.planned import Planned, planned
from loadtests.measure.recovery import Outcome, as_seconds, felt_after_all, load, recoveries
from loadtests.measure.recovery_spread import NotBack, not_back, recovery_of, with_clients
from loadtests.measure.streams import StreamTable, streams
from loadtests.measure.subscriptions import SubscriptionTable, subscriptions
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_MS, NS_PER_S, SLICE_NS
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.tables import Steady
from loadtests.model.results import Growth, RecoveryResult, Verdict

__all__ = ["Analysis", "Sight", "case"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Analysis:
    """What a history says."""

    profile: Profile
    contract: Contract
    facts: HistoryTables
    damage: Damage
    times: Times
    acts: list[FaultWindow]
    windows: list[Window]
    phases: Phases
    table: StreamTable
    came: Deliveries
    subs: SubscriptionTable
    absences: Absences
    plan: Planned
    blame: Attribution
    ledger: Ledger
    scopes: TroubleScopes
    clean: Bools  # Consumed rows whose process, and those that publish when they were due, kept up without trouble
    offering: Bools  # slices in which a process that publishes could not keep up or was in trouble
    slow_read: Bools  # Consumed rows whose read clock is not believed
    behind: Bools  # slices in which a process of the load generator could not keep up, or left no reading of itself
    ours: Bools  # slices in which any process of the load generator was in trouble
    coverage: float | None
    outcomes: list[Outcome]
    troubled: frozenset[str]  # acts while or after which the load generator was in trouble, until it was steady
    recovery: list[RecoveryResult]
    felt: list[Felt | None]  # by act: what each consumer felt of it
    not_back: list[NotBack | None]  # by act: who did not come back; None where it was never in force
    growth: list[Growth]
    low: int
    high: int


def case(profile: Profile, facts: HistoryTables) -> Analysis:
    """Fold everything of a history."""
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
    plan = planned(facts, contract, table, marks, subs)
    found = acts(facts, profile)
    scope = scopes(facts, profile, low, high)
    behind: Bools = np.logical_or.reduce(scope.behind, axis=0)
    offering = _offering(facts, scope)
    ours: Bools = behind | np.logical_or.reduce(scope.trouble, axis=0)
    given = load(facts, contract, table, came, subs, plan, low, high, ours)
    found = felt_after_all(contract, given, marks, found, plan.changes)
    ends = [_decided_ns(a, found[index + 1 :], marks.plan_end_ns, profile.steady) for index, a in enumerate(found)]
    outcomes = [
        _outside(o, a, ours, low, end, broken)
        for o, a, end in zip(recoveries(contract, given, marks, found, plan.changes), found, ends, strict=True)
    ]
    windows = [
        w
        for a, o in zip(found, outcomes, strict=True)
        if a.charges and not a.missed and (w := window(a, o.settled_ns, marks.end_ns)) is not None
    ]  # a planted defect is the target's own, and what touched nobody cost nothing: calm stays calm
    late = -(-round(profile.run.late_s * NS_PER_S) // SLICE_NS)
    phases = Phases(marks, windows, low=low, high=high, late_slices=late)
    blame = attribution(facts, table, contract, windows)
    owing = Owing(table, came, contract, windows, end_ns=marks.end_ns)
    absences = Absences(contract, subs, plan, windows, marks, ours, low)
    everybody = [slot for slots in plan.slots for slot in slots]
    ledger = settle(
        facts, contract, table, subs, owing, absences, blame, came.of_process(facts.names), everybody, broken.of
    )
    touched = touches(facts, came, low, high)
    recovery, every, gone = [], [], []
    for index, (act, of_run) in enumerate(zip(found, outcomes, strict=True)):
        later = [
            a.began_ns
            for a in found[index + 1 :]
            if a.began_ns is not None and a.began_ns > (act.healed_ns or 0) and not a.missed
        ]
        one = None if act.missed else felt(
            facts, contract, table, subs, plan, ledger, touched, act, marks,
            limit_ms=of_run.limit_ms, next_ns=min(later, default=None),
        )  # fmt: skip
        every.append(one)
        who = not_back(act, one, found, ledger.unjudged, ours, low)
        gone.append(who)
        outcome = with_clients(of_run, who)
        recovery.append(
            RecoveryResult(
                fault=act.name,
                verdict=outcome.verdict,
                outage_s=as_seconds(outcome.outage_ns),
                recovery_s=as_seconds(outcome.recovery_ns),
                limit_s=act.limit_ns / NS_PER_S,
                error_s=as_seconds(act.error_ns),
                summary=outcome.summary,
                consumers=recovery_of(contract, one),
                ready_s=as_seconds(act.ready_ns),
            )
        )
    return Analysis(
        profile=profile,
        contract=contract,
        facts=facts,
        damage=broken,
        times=marks,
        acts=found,
        windows=windows,
        phases=phases,
        table=table,
        came=came,
        subs=subs,
        absences=absences,
        plan=plan,
        blame=blame,
        ledger=ledger,
        scopes=scope,
        clean=~(scope.of_rows(scope.behind | scope.trouble, came) | _due_in(offering, came, low)),
        offering=offering,
        slow_read=scope.of_rows(scope.slow_read, came),
        behind=behind,
        ours=ours,
        coverage=coverage(scope, offering, subs, phases.calm_slices()),
        outcomes=outcomes,
        troubled=frozenset(
            a.name for a, o, end in zip(found, outcomes, ends, strict=True) if _in_trouble(o, a, ours, low, end)
        ),
        recovery=recovery,
        felt=every,
        not_back=gone,
        growth=growth(facts, profile, windows, t0_ns=marks.t0_ns, plan_end_ns=marks.plan_end_ns, changes=plan.changes),
        low=low,
        high=high,
    )


def _offering(facts: HistoryTables, scope: TroubleScopes) -> Bools:
    """Slices in which a process that publishes could not keep up or was in trouble: what was due then left late."""
    rows = [i for i, (_, process) in enumerate(facts.each()) if len(process.publish)]
    found: Bools = np.logical_or.reduce((scope.behind | scope.trouble)[rows], axis=0)
    return found


def _due_in(slices: Bools, came: Deliveries, low: int) -> Bools:
    """Rows that were due in a marked slice."""
    rows: Bools = slices[np.clip(came.due - low, 0, len(slices) - 1)]
    return rows


def _decided_ns(act: FaultWindow, later: list[FaultWindow], plan_end_ns: int, steady: Steady) -> int | None:
    """Until when what came decides whether it recovered: a stretch that begins within the limit must hold on beyond
    it, but neither beyond the next fault nor beyond the plan.
    """
    if act.end_ns is None or act.healed_ns is None:
        return None
    begins = [
        at
        for a in later
        if not a.missed and (at := a.tried_ns if a.began_ns is None else a.began_ns) and at > act.healed_ns
    ]
    held_ns = round(steady.hold_s * NS_PER_S) + steady.group_ms * NS_PER_MS
    return max(act.end_ns, min(act.end_ns + held_ns, plan_end_ns, *begins))


def _in_trouble(outcome: Outcome, act: FaultWindow, ours: Bools, low: int, decided_ns: int | None) -> bool:
    """Whether the load generator was in trouble from the fault on until it was steady, or that was decided."""
    end_ns = decided_ns if outcome.steady_ns is None else outcome.steady_ns
    if act.began_ns is None or end_ns is None:
        return False
    span = slice(max(act.began_ns // SLICE_NS - low, 0), max(end_ns // SLICE_NS + 1 - low, 0))
    return bool(ours[span].any())


def _outside(
    outcome: Outcome, act: FaultWindow, ours: Bools, low: int, decided_ns: int | None, broken: Damage
) -> Outcome:  # fmt: skip
    """Not to have recovered is no finding where the load generator was in trouble meanwhile, or records are missing."""
    if outcome.verdict is not Verdict.FAIL:
        return outcome
    if broken.doubts("recovery"):
        why = BUT
    elif _in_trouble(outcome, act, ours, low, decided_ns):
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
