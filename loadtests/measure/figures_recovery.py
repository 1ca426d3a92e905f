"""How long did recoveries take, and which did not come?  One function per measure.

A limit is passed only where every planned fault acted and its value and error bar lie within; one that is surely beyond
outweighs those that are unsure.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loadtests.measure.absences import HARNESS, OWN_PLAN
from loadtests.measure.case import Case
from loadtests.measure.felt import NEVER
from loadtests.measure.frame import Act, never_in_force, unproved
from loadtests.measure.select import Figure
from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.profile import Threshold
from loadtests.model.results import RecoveryResult, Verdict


def _concerned(t: Threshold, name: str) -> bool:
    return t.fault in (None, name, name.rpartition("#")[0])


def _unsure(case: Case, t: Threshold, found: list[RecoveryResult]) -> list[str]:
    """Why nothing is known of some faults that a threshold is about."""
    told = {r.fault for r in found}
    never = [n for n in never_in_force(case.profile, case.acts) if _concerned(t, n) and n not in told]
    return [r.summary for r in found if r.verdict is Verdict.UNKNOWN] + [f"{n}: never in force" for n in never]


def of_faults(which: str) -> Callable[[Case, Threshold], Figure]:
    """The longest of the recoveries, or of the outages."""

    def measure(case: Case, t: Threshold) -> Figure:
        found = [r for r in case.recovery if _concerned(t, r.fault)]
        lines = [r.summary for r in found]
        if any(r.verdict is Verdict.FAIL for r in found):
            return Figure(value=None, evidence=lines, verdict=Verdict.FAIL, why_not="not recovered")
        values = {r.fault: v for r in found if (v := getattr(r, which)) is not None}
        sure = {r.fault for r in found if r.verdict is Verdict.PASS} - case.troubled
        beyond = [v for name, v in values.items() if v > t.limit and name in sure]
        if beyond:
            return Figure(value=max(beyond), evidence=lines)
        unsure = _unsure(case, t, found)
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


def not_recovered(case: Case, t: Threshold) -> Figure:
    """How many did not recover within their limit."""
    found = [r for r in case.recovery if _concerned(t, r.fault)]
    bad, unsure = [r for r in found if r.verdict is Verdict.FAIL], _unsure(case, t, found)
    return Figure(
        value=float(len(bad)) if found else None,
        evidence=[r.summary for r in bad] or unsure,
        verdict=Verdict.UNKNOWN if unsure and len(bad) <= t.limit else None,
        why_not="; ".join(unsure) or "no fault acted",
    )


def clients_not_back(case: Case, t: Threshold) -> Figure:
    """Consumers that got nothing fresh again within the recovery limit of a fault, over all faults."""
    lines, unsure, count = [], [], 0
    acted = False
    for act, felt in zip(case.acts, case.felt, strict=True):
        if not _concerned(t, act.name) or act.began_ns is None:
            continue
        acted = True
        if felt is None:
            unsure.append(f"{act.name}: what its clients felt is not in the history")
            continue
        until_ns = felt.healed_ns + act.limit_ns
        gone = [
            c
            for c, at in zip(felt.consumers, felt.fresh, strict=True)
            if at == NEVER
            and _offered(case, c, felt.healed_ns, until_ns)
            and not _ours(case, c, felt.healed_ns, until_ns)
        ]
        if not gone:
            continue
        if felt.cut_off or act.name in case.troubled or not act.proved:
            unsure.append(f"{act.name}: {len(gone)} clients were not back, but {_why_unsure(case, act, felt.cut_off)}")
            continue
        count += len(gone)
        lines += [f"{act.name}: consumer {c} never fresh within {act.limit_ns / NS_PER_S:g} s" for c in gone]
    return Figure(
        value=float(count) if acted else None,
        evidence=lines or unsure,
        verdict=Verdict.UNKNOWN if unsure and count <= t.limit else None,
        why_not="; ".join(unsure) or "no fault acted",
    )


def _why_unsure(case: Case, act: Act, cut_off: bool) -> str:
    if cut_off:
        return "the recovery limit had not passed"
    return unproved(act) if not act.proved else "the load generator was in trouble meanwhile"


def _offered(case: Case, consumer: int, from_ns: int, to_ns: int) -> bool:
    """Whether something was due for a consumer that could have shown that it is back."""
    late = case.phases.late_slices
    table = case.table
    due = (table.due * SLICE_NS >= from_ns) & ((table.due + 1 + late) * SLICE_NS <= to_ns) & (table.ok_count > 0)
    routes = np.array(sorted(case.contract.consumer(consumer).routes), dtype=np.int64)
    return bool(np.isin(table.route_of[table.stream[due]], routes).any())


def _ours(case: Case, consumer: int, from_ns: int, to_ns: int) -> bool:
    """Whether our plan or our trouble kept a consumer away."""
    away = case.ledger.away.get(consumer, ())
    return any(a.cause in (OWN_PLAN, HARNESS) and a.from_ns < to_ns and a.to_ns > from_ns for a in away)
