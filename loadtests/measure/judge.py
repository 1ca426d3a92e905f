"""What does a history say about the target?  From every file's frames to its verdict and the value that reports show.

Deterministic: the same history gives the same results; no clock, no path, no random id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from loadtests.measure.analysis import Analysis
from loadtests.measure.capacity import conclude as capacity_of
from loadtests.measure.checks import plan_done, threshold_check
from loadtests.measure.damage import outside
from loadtests.measure.harness_trouble import harness_result, reported
from loadtests.measure.history_tables import HistoryTables, fold
from loadtests.measure.interference import interferences
from loadtests.measure.levels import PlayedLevel, bounding, held, over_stages, played
from loadtests.measure.measures_time import concerned
from loadtests.measure.recovery_spread import repeats
from loadtests.measure.stages import analyse
from loadtests.measure.subscriptions import changed_counts, overrides, total_planned
from loadtests.measure.summary import (
    delivery,
    effective_values,
    faults,
    histograms,
    log,
    queries,
    requests,
    routes,
    run_info,
    slowest_client_p95_ms,
    spreads,
    user_notes,
)
from loadtests.measure.timeline import timeline
from loadtests.measure.validity import OFFERED, ROOTS, harness_checks, own_profile
from loadtests.model.capacity import Capacity, asked_of
from loadtests.model.codec import Frame, Torn
from loadtests.model.contract import Contract
from loadtests.model.measures import MEASURES
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.threshold_rules import Limit, limits, switched_off
from loadtests.model.results import SCHEMA, Check, FaultLimit, RecoveryResult, Results, Verdict, worst


def with_limits(analysis: Analysis, back: RecoveryResult, judged: list[Limit]) -> RecoveryResult:
    """A recovery with the limits that judge it, and the worst of its own verdict and theirs."""
    limits = [
        _limit(analysis, back.fault, limit)
        for limit in judged
        if "faults" in MEASURES[limit.threshold.measure].needs and concerned(limit.threshold, back.fault)
    ]
    return msgspec.structs.replace(back, limits=limits, judged=worst([back.verdict, *(x.verdict for x in limits)]))


def _limit(analysis: Analysis, fault: str, limit: Limit) -> FaultLimit:
    alone = limit.threshold.model_copy(update={"fault": fault})
    check = threshold_check(analysis, alone, default=limit.default)
    return FaultLimit(
        measure=alone.measure,
        limit=alone.limit,
        measured=check.measured,
        verdict=check.verdict,
        default=limit.default,
    )


_MEASURE = re.compile(r"[<>]=")
TOLD = "locust."
"""How the keys of effective values begin that an option of Locust's own has set."""
_RANK = (Verdict.FAIL, Verdict.ABORTED, Verdict.UNKNOWN, Verdict.PASS)


def judge(
    profile: Profile, history: Iterable[tuple[str, Frame | Torn]], *, profile_sha256: str | None = None
) -> Results:
    """The results of a history: every file's frames as (process, frame); overrides are in the profile already.

    `profile_sha256` is the hash of the stored profile; it must be the one that the run was started with.
    """
    return conclude(profile, fold(history), profile_sha256=profile_sha256)


def conclude(profile: Profile, facts: HistoryTables, *, profile_sha256: str | None = None) -> Results:
    """The results of a folded history."""
    return concluded(analyse(profile, facts), profile_sha256=profile_sha256)


def concluded(found: Analysis, *, profile_sha256: str | None = None) -> Results:
    """The results of an analysis."""
    profile, facts = found.profile, found.facts
    judged = limits(profile, faults=bool(profile.faults or found.fault_windows))
    levels = played(found) if profile.by_levels else []
    checks, believed = _by_levels(found, levels, judged)
    checks += harness_checks(believed)
    if profile_sha256 is not None:
        checks.append(own_profile(found, profile_sha256))
    checks = [outside(check, found.damage) for check in checks]
    verdict, reasons = _verdict(found, checks)
    all_ = spreads(found)
    return Results(
        schema=SCHEMA,
        run=run_info(found),
        verdict=verdict,
        reasons=reasons,
        checks=checks,
        phases=found.phases.spans(),
        delivery=delivery(found),
        latency_ms=all_["latency"],
        service_ms=all_["service"],
        own_lag_ms=all_["own lag"],
        blocked_ms=all_["blocked"],
        read_delay_ms=all_["read delay"],
        calm_latency_ms=(all_ if believed is found else spreads(believed))["calm latency"],
        queries=queries(found),
        requests=requests(found),
        faults=faults(found),
        recovery=[with_limits(found, back, judged) for back in found.recovery],
        growth=found.growth,
        routes=routes(found),
        timeline=timeline(found),
        histograms=histograms(found),
        effective=effective_values(found),
        harness=harness_result(facts, found.scopes, found.coverage, reported(facts, found.damage)),
        log=log(found),
        notes=user_notes(found),
        repeated=repeats(found.recovery),
        interference=interferences(found),
        slowest_client_p95_ms=slowest_client_p95_ms(believed),
        capacity=_capacity(found, levels),
    )


def _by_levels(found: Analysis, levels: Sequence[PlayedLevel], judged: Sequence[Limit]) -> tuple[list[Check], Analysis]:
    """The limits, and the run as it must be believed: a search is judged where it held, stages each by itself."""
    if not levels:
        return [threshold_check(found, limit.threshold, default=limit.default) for limit in judged], found
    if found.profile.levels:
        bounds = {limit.threshold.measure for limit in bounding(found)}
        return [
            over_stages(levels, limit.threshold, default=limit.default)
            if limit.threshold.measure in bounds
            else threshold_check(found, limit.threshold, default=limit.default)
            for limit in judged
        ], found
    view = (held(levels) or levels[0]).view
    return [threshold_check(view, limit.threshold, default=limit.default) for limit in judged], view


def _capacity(found: Analysis, levels: Sequence[PlayedLevel]) -> Capacity | None:
    if not levels:
        return None
    drains = [mark.detail for _, p in found.facts.each() for mark in p.marks if mark.phase == "drain" and mark.detail]
    return capacity_of(
        [one.trial for one in levels],
        asked_of(found.profile),
        ended=drains[0] if drains else "aborted",
        spent_s=found.times.seconds(found.times.plan_end_ns),
    )


_NOTHING_TO_MEASURE = len(ROOTS) + 1


def _turn(check: Check) -> int:
    """When the reason of a check is told: causes first, and last what only lacks a value to judge."""
    lacks = check.measured is None and check.limit is not None and not check.evidence
    if lacks and check.verdict is Verdict.UNKNOWN and check.name != OFFERED:
        return _NOTHING_TO_MEASURE
    measure = _MEASURE.split(check.name, maxsplit=1)[0]
    for turn, root in enumerate(ROOTS):
        if root in (check.name, measure):
            return turn
    return len(ROOTS)


def _folded(said: list[tuple[Verdict, int, str]]) -> list[str]:
    """The reasons; where a cause is among them, all that only lack a value in consequence are one."""
    caused = any(turn < len(ROOTS) for _, turn, _ in said)
    lacking = [text for _, turn, text in said if turn == _NOTHING_TO_MEASURE]
    if not caused or len(lacking) < 2:
        return [text for *_, text in said]
    kept = [text for _, turn, text in said if turn != _NOTHING_TO_MEASURE]
    return [*kept, f"in consequence {len(lacking)} checks have too little to measure: " + "; ".join(lacking)]


def _verdict(found: Analysis, checks: list[Check]) -> tuple[Verdict, list[str]]:
    """The verdict and its reasons, the worst first."""
    said: list[tuple[Verdict, int, str]] = [
        (c.verdict, _turn(c), f"{c.name}: {c.summary}") for c in checks if c.verdict is not Verdict.PASS
    ]
    finishes = [f for _, p in found.facts.each() for f in p.finishes]
    if finishes and not plan_done(found):
        reason = finishes[0].reason  # our own trouble is no abort: nobody asked for it
        cut = Verdict.UNKNOWN if reason.startswith("error") else Verdict.ABORTED
        said.append((cut, len(ROOTS), f"the plan had not ended: {reason}"))
    said.sort(key=lambda s: (_RANK.index(s[0]), s[1]))
    verdict = worst([v for v, *_ in said] or [Verdict.PASS])
    contract = Contract(found.profile)
    planned, asked = total_planned(found.facts, contract), contract.consumer_count
    override = [f"with {planned} consumers, where the profile plans {asked}"] if planned != asked else []
    override += [f"the default limit of {measure} is switched off" for measure in switched_off(found.profile)]
    override += [
        f"Locust was told {key.removeprefix(TOLD)} = {value} ({source})"
        for key, value, source in overrides(found.facts)
        if key.startswith(TOLD)
    ]
    override += changed_counts(found.facts, found.times)
    return verdict, (_folded(said) or [f"all {len(checks)} checks passed"]) + override
