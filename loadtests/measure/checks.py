"""Does each limit hold, and can the run be believed?  Thresholds of the profile, and conditions of the harness.

A threshold FAILs on evidence outside harness trouble only; it is UNKNOWN where data are missing.  A condition of the
harness is PASS or UNKNOWN, since it says nothing bad about the target; not to have recovered is the one exception.
"""

from __future__ import annotations

from loadtests.measure.case import Case
from loadtests.measure.deliveries import quantile_ms
from loadtests.measure.figures import MEASURES
from loadtests.measure.figures_time import publish_table
from loadtests.measure.harness import incomplete
from loadtests.measure.phases import CALM
from loadtests.measure.select import Figure
from loadtests.measure.streams import overlaps
from loadtests.model.fault_rules import occurrences
from loadtests.model.ids import NS_PER_MS
from loadtests.model.profile import AT_LEAST, Threshold
from loadtests.model.results import Check, Verdict
from loadtests.model.threshold_rules import SELECTORS

LINES = 20
_ACCOUNT = frozenset({"lost_defect", "lost_disconnected", "lost_charged", "lost_total", "delivery_rate"})
_SEEN = _ACCOUNT | {"deliveries", "repeated", "reordered", "foreign", "late", "received_per_s"}
_OURS = frozenset({"clean_coverage", "own_lag_p99_ms"})
_COUNTS = frozenset({"deliveries", "published", "received_per_s"})


def name_of(t: Threshold) -> str:
    """`latency_p95_ms<=100 calm`, with the parts that it is confined to."""
    sign = ">=" if t.measure in AT_LEAST else "<="
    parts = [str(v) for s in SELECTORS if (v := getattr(t, s)) is not None]
    return " ".join([f"{t.measure}{sign}{t.limit:g}", "+".join(t.phases), *parts])


def threshold_check(case: Case, t: Threshold) -> Check:
    """One threshold."""
    figure = MEASURES[t.measure](case, t)
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
    doubt = _doubt(case, t, verdict)
    if doubt is not None:
        verdict, summary = Verdict.UNKNOWN, f"{summary}; {doubt}"
    evidence = figure.evidence[:LINES] if verdict is not Verdict.PASS or t.measure.startswith("growth") else []
    return Check(
        name=name_of(t),
        verdict=verdict,
        summary=summary,
        limit=t.limit,
        measured=None if value is None else round(value, 6),
        phases=list(t.phases),
        evidence=evidence,
    )


def _said(t: Threshold, figure: Figure) -> str:
    if figure.value is None:
        return figure.why_not
    side = "at least" if t.measure in AT_LEAST else "at most"
    text = f"{figure.value:.6g}, {side} {t.limit:g} allowed"
    return f"{text}; {figure.why_not}" if figure.verdict is Verdict.UNKNOWN else text


def _doubt(case: Case, t: Threshold, verdict: Verdict) -> str | None:
    """Why a verdict does not stand."""
    if verdict is Verdict.UNKNOWN:
        return None
    if t.measure.startswith(("latency_", "service_")) and (why := _clocks(case, t)):
        return why
    if verdict is Verdict.FAIL:
        if t.measure in _OURS:
            return "but that says nothing of the target: the load generator did not keep up"
        if (
            t.measure.startswith(("latency_", "query_m", "query_p"))
            and (own_lag_ms(case) or 0.0) > case.profile.guard.own_lag_p99_ms
        ):
            return f"but our own lag was {own_lag_ms(case):.1f} ms or more (p99)"
        if t.measure in _COUNTS and (incomplete(case.facts) or not plan_done(case)):
            return "but the run was cut short or its history is not whole"
        if t.measure in _ACCOUNT and (holes := _publisher_holes(case)):
            return f"but outcomes are missing: {holes[0]}"
        return None
    if t.measure in _SEEN and case.ledger.unjudged:
        consumer, why = min(case.ledger.unjudged.items())
        return f"but nothing is known of {len(case.ledger.unjudged)} consumers; {consumer}: {why}"
    if t.measure in _ACCOUNT:
        if (share := undecided_share(case)) is not None and share > case.profile.guard.undecided_share:
            return f"but {share:.2%} of what was owed is undecided"
        if holes := _publisher_holes(case):
            return f"but outcomes are missing: {holes[0]}"
    return None


def _clocks(case: Case, t: Threshold) -> str | None:
    error = max((h.clock_error_ns for _, p in case.facts.each() for h in p.headers), default=0)
    if error * 10 > t.limit * NS_PER_MS:
        return f"but clocks agree to {error / NS_PER_MS:.3f} ms only, more than a tenth of the limit"
    return None


def _publisher_holes(case: Case) -> list[str]:
    return [f"{n}: {hole}" for n, p in case.facts.each() if len(p.published) for hole in p.holes()]


def plan_done(case: Case) -> bool:
    """Whether the history says that the plan had ended."""
    finishes = [f for _, p in case.facts.each() for f in p.finishes]
    return bool(finishes) and all(f.plan_done for f in finishes)


def undecided_share(case: Case) -> float | None:
    """Undecided messages as a share of those owed."""
    owed = int(case.ledger.owed.sum())
    return int(case.ledger.undecided.sum()) / owed if owed else None


def own_lag_ms(case: Case) -> float | None:
    """p99 of our own lag while nothing disturbed us; with few samples a lower percentile, which p99 exceeds."""
    rows, lag, _ = publish_table(case)
    dense = lag.dense(case.phases.codes(rows[1], rows[1]) == CALM)
    return next((ms for q in (0.99, 0.95, 0.9, 0.5) if (ms := quantile_ms(dense, q)) is not None), None)


def _condition(
    name: str, bad: bool, summary: str, *, limit: float | None = None, measured: float | None = None,
    evidence: list[str] | None = None, verdict: Verdict = Verdict.UNKNOWN,
) -> Check:  # fmt: skip
    return Check(
        name=name,
        verdict=verdict if bad else Verdict.PASS,
        summary=summary,
        limit=limit,
        measured=measured,
        phases=[],
        evidence=(evidence or [])[:LINES],
    )


def harness_checks(case: Case) -> list[Check]:
    """Conditions without which the run cannot be believed."""
    return [
        _account(case),
        _complete(case),
        _offered(case),
        _undecided(case),
        _coverage(case),
        _own_lag(case),
        _path(case),
        _all_connected(case),
        *_faults(case),
        _failed_seen(case),
    ]


def _account(case: Case) -> Check:
    ledger = case.ledger
    wrong = ledger.wrong + overlaps(case.table)
    wrong += [f"consumer {c}: {why}" for c, why in sorted(ledger.unjudged.items())]
    text = "the tally does not add up" if ledger.wrong else f"nothing is known of {len(ledger.unjudged)} consumers"
    nobody = not ledger.judged
    return _condition(
        "the account adds up",
        bool(wrong) or nobody,
        text
        if wrong
        else "no consumer's account is there"
        if nobody
        else f"{ledger.judged} consumers, each stream's sum closes",
        measured=float(len(ledger.unjudged)),
        limit=0.0,
        evidence=wrong,
    )


def _complete(case: Case) -> Check:
    missing = incomplete(case.facts)
    return _condition(
        "the history is whole",
        bool(missing),
        missing[0] if missing else "every file from 0 to its end",
        evidence=missing,
    )


def _offered(case: Case) -> Check:
    rows, _, _ = publish_table(case)
    calm = case.phases.codes(rows[1], rows[1]) == CALM
    sent, missed = int(rows[2][calm].sum()), int(rows[3][calm].sum())
    limit = case.profile.guard.not_offered_share
    if not sent + missed:
        return _condition("load offered as planned", True, "nothing was published in a calm phase", limit=limit)
    share = missed / (sent + missed)
    text = f"{missed} of {sent + missed} planned messages were not offered in calm phases"
    return _condition("load offered as planned", share > limit, text, limit=limit, measured=round(share, 6))


def _undecided(case: Case) -> Check:
    share, limit = undecided_share(case), case.profile.guard.undecided_share
    if share is None:
        return _condition("little is undecided", True, "nothing was owed", limit=limit)
    text = f"{int(case.ledger.undecided.sum())} messages at the ends of subscriptions are undecided"
    return _condition("little is undecided", share > limit, text, limit=limit, measured=round(share, 6))


def _coverage(case: Case) -> Check:
    limit, share = case.profile.guard.clean_coverage_min, case.coverage
    text = (
        "no calm reading of the load generator"
        if share is None
        else f"the load generator kept up in {share:.1%} of the calm time"
    )
    return _condition("clean coverage", share is None or share < limit, text, limit=limit, measured=share)


def _own_lag(case: Case) -> Check:
    limit, lag = case.profile.guard.own_lag_p99_ms, own_lag_ms(case)
    text = "too few publish times" if lag is None else f"p99 of our own lag {lag:.3f} ms"
    # Too few to say p99 is no trouble of its own: whether enough was published is a threshold's matter.
    return _condition("own lag", lag is not None and lag > limit, text, limit=limit, measured=lag)


def _path(case: Case) -> Check:
    probes = sorted(
        (p.at_ns, p.what, p.ok) for _, f in case.facts.each() for p in f.probes if p.what.startswith("family:")
    )
    proved = {what.removeprefix("family:") for at, what, ok in probes if ok and at <= case.times.t0_ns}
    published = {n for g in case.profile.publishers for n in g.families}
    followed = {
        case.profile.families[case.contract.routes[r].family].name
        for intervals in case.subs.intervals.values()
        for i in intervals[:1]
        for r in i.routes[:1] + i.routes[-1:]
    }
    needed = published & followed if followed else published
    lacking = sorted(needed - proved)
    text = (
        f"no probe message came through before the start: {', '.join(lacking)}"
        if lacking
        else "every family's path was proved"
    )
    return _condition("path proved before the start", bool(lacking), text, evidence=lacking)


def _all_connected(case: Case) -> Check:
    there = case.subs.confirmed_at(case.times.t0_ns)
    planned = [s for g, slots in enumerate(case.plan.slots) for s in slots[: case.plan.count_at(case.times.t0_ns, g)]]
    missing = [s for s in planned if s not in there]
    text = f"{len(planned) - len(missing)} of {len(planned)} planned subscriptions were confirmed at the start"
    bad = bool(missing) or not case.times.started
    if not case.times.started:
        text = "the history does not say when the run started"
    return _condition(
        "all connected at the start", bad, text, limit=float(len(planned)), measured=float(len(planned) - len(missing)),
        evidence=[f"consumer {s}" for s in missing],
    )  # fmt: skip


def _faults(case: Case) -> list[Check]:
    expected = [o.name for i, f in enumerate(case.profile.faults) for o in occurrences(i, f)]
    if not expected and not case.acts:
        return []
    acted = {a.name for a in case.acts if a.began_ns is not None}
    lines = [f"{name}: never in force" for name in expected if name not in acted]
    lines += [f"{a.name}: nothing proves that it acted" for a in case.acts if a.began_ns is not None and not a.proved]
    lines += [f"{a.name}: not lifted" for a in case.acts if a.began_ns is not None and a.healed_ns is None]
    bad = [r.summary for r in case.recovery if r.verdict is Verdict.FAIL]
    unsure = [r.summary for r in case.recovery if r.verdict is Verdict.UNKNOWN]
    return [
        _condition("every fault acted and was lifted", bool(lines), (lines or ["all did"])[0], evidence=lines),
        _condition(
            "recovered from every fault",
            bool(bad or unsure),
            (bad or unsure or ["within its limit"])[0],
            limit=0.0,
            measured=float(len(bad)),
            evidence=bad + unsure,
            verdict=Verdict.FAIL if bad else Verdict.UNKNOWN,
        ),
    ]  # fmt: skip


def _failed_seen(case: Case) -> Check:
    n = case.ledger.failed_seen
    text = (
        f"{n} messages were delivered although their publishing had failed" if n else "no failed publish was delivered"
    )
    return _condition(
        "what failed stays away", n > 0, text, limit=0.0, measured=float(n), evidence=case.ledger.failed_evidence
    )
