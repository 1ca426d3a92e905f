"""How did the repeats of one fault compare?  All values, median and greatest; a mean only where all recovered."""

from __future__ import annotations

import re
from collections.abc import Sequence

from loadtests.model.results import RecoveryResult, RepeatedResult, Verdict

_NUMBER = re.compile(r"(#\d+)?( \(\d+\))?$")


def repeats(recovery: Sequence[RecoveryResult]) -> list[RepeatedResult]:
    """One row for each fault that came more than once.

    One that did not recover outlasts every number: it stands above them in the median, and there is no greatest then.
    """
    by_name: dict[str, list[RecoveryResult]] = {}
    for one in recovery:
        by_name.setdefault(_NUMBER.sub("", one.fault), []).append(one)
    return [_row(name, all_) for name, all_ in by_name.items() if len(all_) > 1]


def _row(name: str, all_: list[RecoveryResult]) -> RepeatedResult:
    values = [one.recovery_s if one.verdict is Verdict.PASS else None for one in all_]
    known = sorted(v for v in values if v is not None)
    unknown = any(one.verdict is not Verdict.PASS and one.verdict is not Verdict.FAIL for one in all_)
    whole = len(known) == len(all_)
    rank = (len(all_) - 1) // 2  # the lower of the two middle ones, so that a median is a value that was measured
    return RepeatedResult(
        fault=name,
        times=len(all_),
        recovered=len(known),
        recovery_s=values,
        median_s=known[rank] if not unknown and rank < len(known) else None,
        max_s=known[-1] if whole else None,
        mean_s=round(sum(known) / len(known), 3) if whole else None,
    )
