"""Which thresholds and abort guards can never be judged?  Pure: a profile in, `path: found ..., allowed ...` out."""

from __future__ import annotations

from collections.abc import Iterator

from loadtests.model.profile.tables import Tables, Threshold
from loadtests.model.stackwire import SERVICES

SELECTORS = ("group", "family", "fault", "process", "query")

_DELIVERY = frozenset({"group", "family"})
_MEANING: dict[str, frozenset[str]] = {
    "published": frozenset({"family"}),
    "publish_failed": frozenset({"family"}),
    "publish_unknown": frozenset({"family"}),
    "not_admitted": frozenset({"group"}),
    "slowest_client_p95_ms": frozenset({"group"}),
    "own_lag_p99_ms": frozenset(),
    "clean_coverage": frozenset(),
    "health_ms": frozenset(),
    "connected": frozenset({"group"}),
    "query_mean_ms": frozenset({"query"}),
    "query_p95_ms": frozenset({"query"}),
    "query_max_ms": frozenset({"query"}),
    "query_failed": frozenset({"query"}),
    "recovery_s": frozenset({"fault"}),
    "outage_s": frozenset({"fault"}),
    "not_recovered": frozenset({"fault"}),
    "clients_not_back": frozenset({"fault"}),
    "growth_mb": frozenset({"process"}),
    "growth_mb_per_h": frozenset({"process"}),
    "cpu_mean_percent": frozenset({"process"}),
    "stray": frozenset({"group"}),
    "undecodable": frozenset({"group"}),
    "protocol": frozenset({"group"}),
}
"""Which selectors a measure takes; a measure of deliveries, not named here, takes `group` and `family`."""

OF_FAULTS = ("recovery_s", "outage_s", "not_recovered", "clients_not_back")
OF_READERS = ("query_mean_ms", "query_p95_ms", "query_max_ms", "query_failed")


def selectors_of(measure: str) -> frozenset[str]:
    """The selectors that a threshold of a measure may have."""
    return _MEANING.get(measure, _DELIVERY)


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
    may = selectors_of(threshold.measure)
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
    measure = threshold.measure
    if measure in OF_FAULTS and not profile.faults:
        yield f'{where}.measure: found "{measure}" in a profile without faults, allowed where there are some'
    if measure in OF_READERS and not profile.readers:
        yield f'{where}.measure: found "{measure}" in a profile without readers, allowed where there are some'
    if not profile.faults and set(threshold.phases) & {"fault", "recovery"}:
        phase = next(p for p in threshold.phases if p in ("fault", "recovery"))
        yield f'{where}.phases: found "{phase}" in a profile without faults, allowed "calm", "all"'
    if measure == "health_ms" and profile.target.kind == "external" and profile.target.gateway_http is None:
        yield f'{where}.measure: found "health_ms" without target.gateway_http, allowed where that is named'
    families = [family for family in profile.families if threshold.family in (None, family.name)]
    if measure == "altered" and families and all(family.content == "unchecked" for family in families):
        yield f'{where}.measure: found "altered" where every content is "unchecked", allowed where one is checked'
    slow_only = all(group.expect_slow for group in profile.consumers)
    if selectors_of(measure) >= {"group"} and measure != "connected" and threshold.group is None and slow_only:
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
