"""Which limits is a run judged by?  Those of its profile, and those that hold by default though it names none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from loadtests.model.measures import DEFAULT_LIMITS, MEASURES, needing
from loadtests.model.profile.tables import Tables, Threshold


class Limit(NamedTuple):
    """One limit, and whether it holds by default."""

    threshold: Threshold
    default: bool


def limits(profile: Tables, *, faults: bool) -> list[Limit]:
    """The profile's own limits in its order, then the default ones; `faults`: some were played, planned or by hand."""
    own = [Limit(t, default=False) for t in profile.thresholds if not t.off]
    return own + [
        Limit(threshold, default=True)
        for measure in DEFAULT_LIMITS
        if faults or measure not in needing("faults")
        for threshold in _defaults(profile, measure)
    ]


def switched_off(profile: Tables) -> list[str]:
    """Default limits that the profile switches off."""
    return [t.measure for t in profile.thresholds if t.off]


def _defaults(profile: Tables, measure: str) -> Iterator[Threshold]:
    """The default limit of a measure: whole, or for those groups and families of which the profile says nothing."""
    said = [t for t in profile.thresholds if t.measure == measure and {"calm", "all"} & set(t.phases)]
    if any(t.group is None and t.family is None and t.fault is None for t in said):
        return
    limit = Threshold(
        measure=measure, at_most=DEFAULT_LIMITS[measure], phases=["all" if MEASURES[measure].at_all_times else "calm"]
    )
    if not said:
        yield limit
    elif any(t.group is not None for t in said) and "group" in MEASURES[measure].takes:
        named = {t.group for t in said}
        for group in profile.consumers:
            if group.name not in named and not group.expect_slow:
                yield limit.model_copy(update={"group": group.name})
    elif any(t.family is not None for t in said) and "family" in MEASURES[measure].takes:
        named = {t.family for t in said}
        for family in profile.families:
            if family.name not in named and family.mode != "unmeasured":
                yield limit.model_copy(update={"family": family.name})
    elif any(t.fault is not None for t in said):
        named = {t.fault for t in said}
        for fault in profile.faults:
            if fault.name not in named:
                yield limit.model_copy(update={"fault": fault.name})
