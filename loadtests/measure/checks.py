"""Does each limit hold?  Thresholds of the profile; what else must hold for a run to be believed is `validity`.

A threshold FAILs on evidence outside harness trouble only; it is UNKNOWN where data are missing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loadtests.measure.absences import HARNESS
from loadtests.measure.analysis import Analysis
from loadtests.measure.deliveries import quantile_ms
from loadtests.measure.harness_trouble import incomplete
from loadtests.measure.measures_delivery import moved_times
from loadtests.measure.measures_time import publish_table
from loadtests.measure.phases import CALM, chosen
from loadtests.measure.selectors import Figure
from loadtests.measure.subscriptions import left_out
from loadtests.model.ids import NS_PER_MS
from loadtests.model.kinds import part
from loadtests.model.measures import AT_LEAST, SELECTORS
from loadtests.model.measures import MEASURES as ROWS
from loadtests.model.profile.tables import Threshold
from loadtests.model.profile.threshold_rules import limits
from loadtests.model.results import Check, Verdict

MEASURES: dict[str, Callable[[Analysis, Threshold], Figure]] = {name: part(row.by) for name, row in ROWS.items()}
"""Measure of a threshold -> what computes it: the functions that the table of measures names, bound once."""

LINES = 20
DISCONNECTED = "lost_disconnected"


def name_of(t: Threshold) -> str:
    """`latency_p95_ms<=100 calm`, with the parts that it is confined to."""
    sign = ">=" if t.measure in AT_LEAST else "<="
    parts = [str(v) for s in SELECTORS if (v := getattr(t, s)) is not None]
    return " ".join([f"{t.measure}{sign}{t.limit:g}", "+".join(t.phases), *parts])


def threshold_check(analysis: Analysis, t: Threshold, *, default: bool = False) -> Check:
    """One threshold; `default`: it holds though the profile does not name it."""
    figure = MEASURES[t.measure](analysis, t)
    value = figure.value
    holds = value is not None and (value >= t.limit if t.measure in AT_LEAST else value <= t.limit)
    if figure.verdict is not None:
        verdict = figure.verdict
        if verdict is not Verdict.PASS or holds or value is None:
            summary = _said(t, figure)
        else:
            verdict, summary = Verdict.FAIL, _said(t, figure)
    elif value is None:
        verdict, summary = Verdict.UNKNOWN, figure.why_not
    else:
        verdict, summary = Verdict.PASS if holds else Verdict.FAIL, _said(t, figure)
    doubt = _doubt(analysis, t, verdict)
    if doubt is not None:
        verdict, summary = Verdict.UNKNOWN, f"{summary}; {doubt}"
    if value is not None and (more := _elsewhere(analysis, t, value)):
        summary = f"{summary}; {more:g} more outside the phase{'s' * (len(t.phases) > 1)} {', '.join(t.phases)}"
    if value is not None and (slow := _slow_readers(analysis, t)):
        summary = f"{summary}; {slow:g} more by slow readers, who are expected to be"
    evidence = figure.evidence[:LINES] if verdict is not Verdict.PASS or ROWS[t.measure].shown else []
    return Check(
        name=name_of(t),
        verdict=verdict,
        summary=summary,
        limit=t.limit,
        measured=None if value is None else round(value, 6),
        phases=list(t.phases),
        evidence=evidence,
        default=default,
    )


def _said(t: Threshold, figure: Figure) -> str:
    if figure.value is None:
        return figure.why_not
    side = "at least" if t.measure in AT_LEAST else "at most"
    text = f"{figure.value:.6g}, {side} {t.limit:g} allowed" + (f"; {figure.samples}" if figure.samples else "")
    if figure.verdict is Verdict.UNKNOWN:
        text = f"{text}; {figure.why_not}"
    return f"{text}; {figure.because}" if figure.because else text


def _elsewhere(analysis: Analysis, t: Threshold, value: float) -> float:
    """How much of the same there was in the phases that a threshold is not about."""
    if not ROWS[t.measure].none_better or "all" in t.phases:
        return 0.0
    everywhere = MEASURES[t.measure](analysis, t.model_copy(update={"phases": ["all"]})).value
    return 0.0 if everywhere is None else everywhere - value


def _slow_readers(analysis: Analysis, t: Threshold) -> float:
    """How much of the same there was by those whom a threshold leaves out because they are expected to be slow."""
    if not (ROWS[t.measure].none_better or t.measure == "late") or t.group is not None:
        return 0.0
    groups = [group.name for group in analysis.profile.consumers if group.expect_slow]
    theirs = (t.model_copy(update={"phases": ["all"], "group": name}) for name in groups)
    return sum(MEASURES[t.measure](analysis, their).value or 0.0 for their in theirs)


def _doubt(analysis: Analysis, t: Threshold, verdict: Verdict) -> str | None:
    """Why a verdict does not stand."""
    needs = ROWS[t.measure].needs
    if verdict is Verdict.UNKNOWN:
        return None
    if "sent" in needs and (why := moved_times(analysis, t)):
        return why
    if "clock" in needs and (why := _clocks(analysis, t)):
        return why
    if verdict is Verdict.FAIL:
        if "own" in needs:
            return "but that says nothing of the target: the load generator did not keep up"
        if "due" in needs:
            lag = max(own_lag_ms(analysis, {CALM}) or 0.0, own_lag_ms(analysis, chosen(t.phases)) or 0.0)
            if lag > analysis.profile.guard.own_lag_p99_ms:
                return f"but our own lag was {lag:.1f} ms or more (p99)"
        for kind, why in left_out(analysis.facts).items():
            if kind in needs:
                return f"but {why}"
        if "whole" in needs and (incomplete(analysis.facts, analysis.damage) or not plan_done(analysis)):
            return "but the run was cut short or its history is not whole"
        if (
            "whole" in needs
            and (missed := not_offered(analysis))
            and missed[0] > analysis.profile.guard.not_offered_share
        ):
            return f"but {missed[0]:.2%} of the planned messages were not offered"
        if (
            "whole" in needs
            and analysis.coverage is not None
            and analysis.coverage < analysis.profile.guard.clean_coverage_min
        ):
            return f"but the load generator kept up in {analysis.coverage:.1%} of the calm time only"
        if "account" in needs and (holes := _publisher_holes(analysis)):
            return f"but outcomes are missing: {holes[0]}"
        return None
    if "seen" in needs and analysis.ledger.unjudged:
        consumer, why = min(analysis.ledger.unjudged.items())
        return f"but nothing is known of {len(analysis.ledger.unjudged)} consumers; {consumer}: {why}"
    if "account" in needs:
        if (share := undecided_share(analysis)) is not None and share > analysis.profile.guard.undecided_share:
            return None if disconnected_breaks(analysis) else f"but {share:.2%} of what was offered is undecided"
        if holes := _publisher_holes(analysis):
            return f"but outcomes are missing: {holes[0]}"
    return None


def _clocks(analysis: Analysis, t: Threshold) -> str | None:
    error = max((h.clock_error_ns for _, p in analysis.facts.each() for h in p.headers), default=0)
    if error * 10 > t.limit * NS_PER_MS:
        return f"but clocks agree to {error / NS_PER_MS:.3f} ms only, more than a tenth of the limit"
    return None


def _publisher_holes(analysis: Analysis) -> list[str]:
    return [
        f"{n}: {hole}" for n, p in analysis.facts.each() if len(p.published) for hole in analysis.damage.of.get(n, ())
    ]


def plan_done(analysis: Analysis) -> bool:
    """Whether the history says that the plan had ended."""
    finishes = [f for _, p in analysis.facts.each() for f in p.finishes]
    return bool(finishes) and all(f.plan_done for f in finishes)


def disconnected_breaks(analysis: Analysis) -> bool:
    """Whether the target kept more from those whom it had disconnected than it may: then no more is to decide."""
    return any(
        t.measure == DISCONNECTED
        and (value := MEASURES[DISCONNECTED](analysis, t).value) is not None
        and value > t.limit
        for t, _ in limits(analysis.profile, faults=False)
    )


def undecided_share(analysis: Analysis) -> float | None:
    """Undecided messages as a share of those offered."""
    offered = int(analysis.ledger.offered_rows.sum())
    return int(analysis.ledger.undecided_rows.sum()) / offered if offered else None


def harness_share(analysis: Analysis) -> float | None:
    """What consumers missed by our own trouble, as a share of what was offered."""
    offered = int(analysis.ledger.offered_rows.sum())
    return int(analysis.ledger.away_rows[HARNESS].sum()) / offered if offered else None


def not_offered(analysis: Analysis, *, calm: bool = False) -> tuple[float, int, int] | None:
    """Share of the planned messages that were never tried, how many, and of how many; None where none were planned."""
    rows, _, _ = publish_table(analysis)
    if calm:
        rows = rows[:, analysis.phases.codes(rows[1], rows[1]) == CALM]
    sent, missed = int(rows[2].sum()), int(rows[3].sum())
    return (missed / (sent + missed), missed, sent + missed) if sent + missed else None


def own_lag_ms(analysis: Analysis, wanted: set[int] | None) -> float | None:
    """p99 of our own lag in some phases, None for all; with few samples a lower percentile, which p99 exceeds."""
    rows, lag, _ = publish_table(analysis)
    codes = analysis.phases.codes(rows[1], rows[1])
    dense = lag.dense(np.isin(codes, sorted(wanted)) if wanted is not None else np.ones(len(codes), dtype=np.bool_))
    return next((ms for q in (0.99, 0.95, 0.9, 0.5) if (ms := quantile_ms(dense, q)) is not None), None)
