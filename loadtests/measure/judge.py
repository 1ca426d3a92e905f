"""What does a history say about the target?  From every file's frames to the one value that all reports show.

Deterministic: the same history gives the same results; no clock, no path, no random id.
"""

from __future__ import annotations

from collections.abc import Iterable

from loadtests.measure.case import Case, case
from loadtests.measure.checks import plan_done, threshold_check
from loadtests.measure.clients import slowest_clients
from loadtests.measure.conditions import ROOTS, harness_checks, own_profile
from loadtests.measure.facts import Facts, fold
from loadtests.measure.harness import harness_result, reported
from loadtests.measure.interference import interferences
from loadtests.measure.planned import total_planned
from loadtests.measure.repeats import repeats
from loadtests.measure.summary import (
    delivery,
    effective_values,
    faults,
    histograms,
    log,
    queries,
    routes,
    run_info,
    spreads,
    user_notes,
)
from loadtests.measure.timeline import timeline
from loadtests.model.codec import Frame, Torn
from loadtests.model.contract import Contract
from loadtests.model.profile import Profile
from loadtests.model.results import SCHEMA, Check, Results, Verdict, worst

_RANK = (Verdict.FAIL, Verdict.ABORTED, Verdict.UNKNOWN, Verdict.PASS)


def judge(
    profile: Profile, history: Iterable[tuple[str, Frame | Torn]], *, profile_sha256: str | None = None
) -> Results:
    """The results of a history: every file's frames as (process, frame); overrides are in the profile already.

    `profile_sha256` is the hash of the stored profile; it must be the one that the run was started with.
    """
    return conclude(profile, fold(history), profile_sha256=profile_sha256)


def conclude(profile: Profile, facts: Facts, *, profile_sha256: str | None = None) -> Results:
    """The results of a folded history."""
    return concluded(case(profile, facts), profile_sha256=profile_sha256)


def concluded(found: Case, *, profile_sha256: str | None = None) -> Results:
    """The results of a case."""
    profile, facts = found.profile, found.facts
    checks = [threshold_check(found, t) for t in profile.thresholds] + harness_checks(found)
    if profile_sha256 is not None:
        checks.append(own_profile(found, profile_sha256))
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
        calm_latency_ms=all_["calm latency"],
        queries=queries(found),
        faults=faults(found),
        recovery=found.recovery,
        growth=found.growth,
        routes=routes(found),
        timeline=timeline(found),
        histograms=histograms(found),
        effective=effective_values(found),
        harness=harness_result(facts, found.scopes, found.coverage, reported(facts)),
        log=log(found),
        notes=user_notes(found),
        repeated=repeats(found.recovery),
        interference=interferences(found),
        slowest_clients=slowest_clients(found),
    )


def _verdict(found: Case, checks: list[Check]) -> tuple[Verdict, list[str]]:
    """The verdict and its reasons, the worst first."""
    said: list[tuple[Verdict, str]] = [
        (c.verdict, f"{c.name}: {c.summary}") for c in checks if c.verdict is not Verdict.PASS
    ]
    finishes = [f for _, p in found.facts.each() for f in p.finishes]
    if finishes and not plan_done(found):
        reason = finishes[0].reason  # our own trouble is no abort: nobody asked for it
        cut = Verdict.UNKNOWN if reason.startswith("error") else Verdict.ABORTED
        said.append((cut, f"the plan had not ended: {reason}"))
    said.sort(key=lambda s: (_RANK.index(s[0]), not s[1].startswith(ROOTS)))
    verdict = worst([v for v, _ in said] or [Verdict.PASS])
    contract = Contract(found.profile)
    planned, asked = total_planned(found.facts, contract), contract.consumer_count
    override = [f"with {planned} consumers, where the profile plans {asked}"] if planned != asked else []
    return verdict, ([text for _, text in said] or [f"all {len(checks)} checks passed"]) + override
