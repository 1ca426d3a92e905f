"""How long did recoveries take, and which did not come?  One function per measure.

A limit is passed only where every planned fault acted and its value and error bar lie within; one that is surely beyond
outweighs those that are unsure.
"""

from __future__ import annotations

from collections.abc import Callable

from loadtests.measure.analysis import Analysis
from loadtests.measure.fault_windows import never_in_force
from loadtests.measure.selectors import Figure
from loadtests.model.profile.tables import Threshold
from loadtests.model.results import RecoveryResult, Verdict


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
