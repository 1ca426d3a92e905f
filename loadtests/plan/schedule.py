"""At which times of the run clock does each planned fault act, and when is the plan over?  Profile and T0 in."""

from __future__ import annotations

from collections.abc import Iterable

from loadtests.model.ids import NS_PER_S
from loadtests.model.injectwire import PlannedFault
from loadtests.model.profile.fault_times import LEAD_S, occurrences
from loadtests.model.profile.faults import Fault
from loadtests.model.profile.profile import Profile


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def warm_ns(profile: Profile, t0_ns: int) -> int:
    """End of the warm-up: from here on faults and measures count."""
    return t0_ns + _ns(profile.run.warm_up_s)


def plan_end_ns(profile: Profile, t0_ns: int) -> int:
    """When publishers and readers stop offering; the drain follows."""
    return warm_ns(profile, t0_ns) + _ns(profile.run.duration_s)


def planned_faults(profile: Profile, t0_ns: int) -> list[PlannedFault]:
    """Every occurrence whose time is known at T0, in order of time; a repeated fault as `name#1`, `name#2` and so on.

    Faults with `after` are not among them: `followers` plans them.
    """
    start = warm_ns(profile, t0_ns)
    return _in_order(
        planned
        for index, fault in enumerate(profile.faults)
        if fault.after is None
        for planned in _planned(profile, index, start)
    )


def followers(profile: Profile, name: str, over_ns: int, now_ns: int) -> list[PlannedFault]:
    """The occurrences of the faults that wait for one which was recovered from, or given up, at `over_ns`.

    None begins before its announcement can be heard; all of its occurrences are as much later.
    """
    found = []
    for index, fault in enumerate(profile.faults):
        if fault.after == name:
            first = over_ns + _ns(min(o.from_s for o in occurrences(profile, index)))
            late = max(0, now_ns + _ns(LEAD_S) - first)
            found += _planned(profile, index, over_ns + late)
    return _in_order(found)


def of_level(profile: Profile, name: str, number: int, at_ns: int) -> PlannedFault:
    """The fault that a level carries, as `name#number`. Raises KeyError where the profile has none of the name."""
    for fault in profile.faults:
        if fault.name == name:
            return _acting(fault, f"{name}#{number}", at_ns, at_ns + _ns(fault.for_s))
    raise KeyError(name)


def last_end_ns(profile: Profile, planned: list[PlannedFault], name: str) -> int | None:
    """When the last of a fault's planned occurrences ends; None where none is planned."""
    own = {o.name for i, f in enumerate(profile.faults) if f.name == name for o in occurrences(profile, i)}
    return max((fault.until_ns for fault in planned if fault.name in own), default=None)


def _planned(profile: Profile, index: int, base_ns: int) -> list[PlannedFault]:
    fault = profile.faults[index]
    return [
        _acting(fault, occurrence.name, base_ns + _ns(occurrence.from_s), base_ns + _ns(occurrence.to_s))
        for occurrence in occurrences(profile, index)
    ]


def _acting(fault: Fault, name: str, at_ns: int, until_ns: int) -> PlannedFault:
    return PlannedFault(
        name=name,
        kind=fault.kind,
        link=fault.where,
        direction=fault.direction,
        at_ns=at_ns,
        until_ns=until_ns,
        asked=fault.asked,
    )


def _in_order(faults: Iterable[PlannedFault]) -> list[PlannedFault]:
    return sorted(faults, key=lambda fault: (fault.at_ns, fault.name))
