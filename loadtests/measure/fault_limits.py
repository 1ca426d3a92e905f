"""Which limits judge one fault, and is it within them?  The thresholds of a run, each asked of that fault alone."""

from __future__ import annotations

import msgspec

from loadtests.measure.analysis import Analysis
from loadtests.measure.checks import threshold_check
from loadtests.measure.measures_recovery import concerned
from loadtests.model.measures import MEASURES
from loadtests.model.profile.limits import Limit
from loadtests.model.results import FaultLimit, RecoveryResult, worst


def with_limits(case: Analysis, back: RecoveryResult, judged: list[Limit]) -> RecoveryResult:
    """A recovery with the limits that judge it, and the worst of its own verdict and theirs."""
    limits = [
        _limit(case, back.fault, limit)
        for limit in judged
        if "faults" in MEASURES[limit.threshold.measure].needs and concerned(limit.threshold, back.fault)
    ]
    return msgspec.structs.replace(back, limits=limits, judged=worst([back.verdict, *(x.verdict for x in limits)]))


def _limit(case: Analysis, fault: str, limit: Limit) -> FaultLimit:
    alone = limit.threshold.model_copy(update={"fault": fault})
    check = threshold_check(case, alone, default=limit.default)
    return FaultLimit(
        measure=alone.measure,
        limit=alone.limit,
        measured=check.measured,
        verdict=check.verdict,
        default=limit.default,
    )
