"""When is each planned fault in force, and when is the plan over?  Profile and T0 in, times of the run clock out."""

from __future__ import annotations

from loadtests.model.fault_rules import occurrences
from loadtests.model.ids import NS_PER_S
from loadtests.model.injectwire import PlannedFault
from loadtests.model.profile import Profile


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def warm_ns(profile: Profile, t0_ns: int) -> int:
    """End of the warm-up: from here on faults and measures count."""
    return t0_ns + _ns(profile.run.warm_up_s)


def plan_end_ns(profile: Profile, t0_ns: int) -> int:
    """When publishers and readers stop offering; the drain follows."""
    return warm_ns(profile, t0_ns) + _ns(profile.run.duration_s)


def planned_faults(profile: Profile, t0_ns: int) -> list[PlannedFault]:
    """Every occurrence in order of its time, a repeated fault as `name#1`, `name#2` and so on."""
    start = warm_ns(profile, t0_ns)
    planned = [
        PlannedFault(
            name=occurrence.name,
            kind=fault.kind,
            link=fault.where,
            direction=fault.direction,
            at_ns=start + _ns(occurrence.from_s),
            until_ns=start + _ns(occurrence.to_s),
            asked=fault.asked,
        )
        for index, fault in enumerate(profile.faults)
        for occurrence in occurrences(index, fault)
    ]
    return sorted(planned, key=lambda fault: (fault.at_ns, fault.name))
