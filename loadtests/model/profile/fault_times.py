"""When may each fault of a profile begin and end, in seconds after its base?  Pure: the same profile, the same times.

Seconds count from the fault's base: the end of the warm-up, or with `after` the moment that the named fault was
recovered from or given up.  That moment is unknown before the run; the bounds here are for the rules.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from loadtests.model.profile.faults import Fault
from loadtests.model.profile.tables import Tables

LEAD_S = 1.0
"""So much later than asked may a fault with `after` begin: it is announced, and the calm before it is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One time that a fault is in force, in seconds after its base."""

    fault: int  # index in the profile
    name: str  # with #n where it is repeated
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Between which moments a fault is in force whatever happens, in seconds after the warm-up."""

    from_s: float
    to_s: float


def occurrences(profile: Tables, index: int) -> list[Occurrence]:
    """When a fault is in force: once, or each of its repeats as `name#1`, `name#2` and so on; in a search never."""
    fault = profile.faults[index]
    if not profile.plays_faults:
        return []
    if fault.repeat is None:
        return [Occurrence(fault=index, name=fault.name, from_s=fault.at_s, to_s=fault.at_s + fault.for_s)]
    found = []
    for number in range(fault.repeat.times):
        start = fault.at_s + number * fault.repeat.every_s + drawn_s(profile, fault, number)
        found.append(Occurrence(fault=index, name=f"{fault.name}#{number + 1}", from_s=start, to_s=start + fault.for_s))
    return found


def room_s(profile: Tables, fault: Fault) -> float:
    """How far into its `every_s` a random repeat may begin, so that it ends, and can be steady again, within it."""
    if fault.repeat is None or not fault.repeat.random:
        return 0.0
    return max(0.0, fault.repeat.every_s - fault.for_s - profile.steady.hold_s)


def drawn_s(profile: Tables, fault: Fault, number: int) -> float:
    """The instant that the run's seed draws for one repeat, in whole milliseconds; 0 where repeats are not random."""
    room = room_s(profile, fault)
    if room <= 0:
        return 0.0
    return int(random.Random(f"{profile.seed}:fault:{fault.name}:{number}").random() * room * 1000) / 1000


def recovery_limit_s(profile: Tables, fault: Fault) -> float:
    """How long the recovery from a fault may take before it counts as none."""
    return profile.recovery.limit_s if fault.recovery_limit_s is None else fault.recovery_limit_s


def over_s(profile: Tables, fault: Fault) -> float:
    """So long after its lifting a fault is given up at the latest: recovery limit and hold time."""
    return recovery_limit_s(profile, fault) + profile.steady.hold_s


def named(profile: Tables, name: str | None) -> Fault | None:
    """The fault of a name; None where there is none."""
    return next((fault for fault in profile.faults if fault.name == name), None)


def before(profile: Tables, fault: Fault) -> list[Fault]:
    """The faults that one waits for, the nearest first; a chain that bites its tail ends where it does."""
    found: list[Fault] = []
    at = named(profile, fault.after)
    while at is not None and at not in found and at is not fault:
        found.append(at)
        at = named(profile, at.after)
    return found


def bounds(profile: Tables, fault: Fault) -> Bounds:
    """The earliest start and the latest end of all its occurrences."""
    first_s = last_s = 0.0
    for waited in reversed(before(profile, fault)):
        first_s += waited.at_s + _length_s(waited) + profile.steady.hold_s
        last_s += _latest_s(profile, waited) + over_s(profile, waited)
    return Bounds(from_s=first_s + fault.at_s, to_s=last_s + _latest_s(profile, fault))


def _length_s(fault: Fault) -> float:
    """From the earliest start to the earliest end of the last occurrence."""
    return fault.for_s + (0.0 if fault.repeat is None else (fault.repeat.times - 1) * fault.repeat.every_s)


def _latest_s(profile: Tables, fault: Fault) -> float:
    """From its base to the latest end of its last occurrence."""
    late_s = LEAD_S if fault.after is not None else 0.0
    return fault.at_s + late_s + _length_s(fault) + room_s(profile, fault)


UNDER_CALM_S = 4.0
"""Of a level that carries a fault: so long it is calm before that."""


def under_s(profile: Tables) -> float:
    """How much longer each level takes that carries a fault: calm, fault, the way back; 0 where it carries none."""
    fault = named(profile, profile.capacity.under) if profile.capacity is not None else None
    return 0.0 if fault is None else UNDER_CALM_S + fault.for_s + over_s(profile, fault)
