"""Which limits is a run judged by, and which can never be judged?

`limits`: those of the profile, and those that hold by default though it names none.  The rules beside it are pure like
the others: a profile in, `path: found ..., allowed ...` out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from loadtests.model.measures import DEFAULT_LIMITS, MEASURES, SELECTORS, needing
from loadtests.model.profile.tables import Tables, Threshold
from loadtests.model.stackwire import SERVICES


def threshold_problems(profile: Tables) -> Iterator[str]:
    """Thresholds whose data the run cannot have, or that say the same thing twice."""
    seen: dict[tuple[object, ...], int] = {}
    for index, threshold in enumerate(profile.thresholds):
        where = f"thresholds[{index}]"
        yield from _selectors(profile, threshold, where)
        yield from _data(profile, threshold, where)
        for phase in sorted({p for p in threshold.phases if threshold.phases.count(p) > 1}):
            yield f'{where}.phases: found "{phase}" twice, allowed each phase once'
        key = (
            threshold.measure,
            threshold.at_least if threshold.at_most is None else threshold.at_most,
            *sorted(set(threshold.phases)),
            *(getattr(threshold, selector) for selector in SELECTORS),
        )
        if key in seen:
            yield (
                f'{where}.measure: found "{threshold.measure}", limited in thresholds[{seen[key]}] for these phases '
                "and parts, allowed once"
            )
        seen.setdefault(key, index)


def _selectors(profile: Tables, threshold: Threshold, where: str) -> Iterator[str]:
    known: dict[str, list[str]] = {
        "group": [group.name for group in profile.consumers],
        "family": [family.name for family in profile.families],
        "fault": [fault.name for fault in profile.faults],
        "process": processes_of(profile),
        "query": list(dict.fromkeys(query for readers in profile.readers for query in readers.queries)),
    }
    may = MEASURES[threshold.measure].takes
    for selector in SELECTORS:
        value = getattr(threshold, selector)
        if value is None:
            continue
        if selector not in may:
            allowed = " or ".join(f'"{name}"' for name in SELECTORS if name in may) or "none"
            yield f'{where}.{selector}: found "{value}" with measure "{threshold.measure}", allowed {allowed}'
        elif value not in known[selector]:
            names = ", ".join(f'"{name}"' for name in known[selector])
            yield f'{where}.{selector}: found "{value}", allowed ' + (
                f"one of {names}" if names else "nothing: there is none"
            )


def processes_of(profile: Tables) -> list[str]:
    """Processes of the target that are sampled."""
    if profile.target.kind == "local":
        return list(SERVICES)
    return sorted({*profile.target.processes, "redis"})


def _data(profile: Tables, threshold: Threshold, where: str) -> Iterator[str]:
    measure, row = threshold.measure, MEASURES[threshold.measure]
    if "faults" in row.needs and not profile.faults:
        yield f'{where}.measure: found "{measure}" in a profile without faults, allowed where there are some'
    if "readers" in row.needs and not profile.readers:
        yield f'{where}.measure: found "{measure}" in a profile without readers, allowed where there are some'
    if not profile.faults and set(threshold.phases) & {"fault", "recovery"}:
        phase = next(p for p in threshold.phases if p in ("fault", "recovery"))
        yield f'{where}.phases: found "{phase}" in a profile without faults, allowed "calm", "all"'
    if "health" in row.needs and profile.target.kind == "external" and profile.target.gateway_http is None:
        yield f'{where}.measure: found "{measure}" without target.gateway_http, allowed where that is named'
    families = [family for family in profile.families if threshold.family in (None, family.name)]
    if "content" in row.needs and families and all(family.content == "unchecked" for family in families):
        yield f'{where}.measure: found "{measure}" where every content is "unchecked", allowed where one is checked'
    slow_only = all(group.expect_slow for group in profile.consumers)
    if "group" in row.takes and measure != "connected" and threshold.group is None and slow_only:
        yield f"{where}.group: found nothing, allowed a consumer group, since every group is expected to be slow"


def abort_problems(profile: Tables) -> Iterator[str]:
    """Guards about processes that are not sampled, that say the same twice, or whose time the plan does not have."""
    known = processes_of(profile)
    seen: dict[tuple[str, str | None], int] = {}
    for index, guard in enumerate(profile.aborts):
        where = f"aborts[{index}]"
        if guard.process is not None and guard.process not in known:
            allowed = ", ".join(f'"{name}"' for name in known)
            yield f'{where}.process: found "{guard.process}", allowed one of {allowed}'
        if guard.for_s >= profile.run.duration_s:
            yield f"{where}.for_s: found {guard.for_s:g}, allowed below run.duration_s, {profile.run.duration_s:g}"
        key = (guard.measure, guard.process)
        if key in seen:
            yield f'{where}.measure: found "{guard.measure}", limited in aborts[{seen[key]}] already, allowed once'
        seen.setdefault(key, index)


# -- the limits that hold


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
