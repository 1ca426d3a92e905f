"""Which planned faults can never be judged?  Pure: a profile in, problems out, `path: found ..., allowed ...`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from loadtests.model.fault_kinds import KINDS
from loadtests.model.profile.crew_rules import crew_problems
from loadtests.model.profile.fault_pairs import FaultPlace, hidden
from loadtests.model.profile.fault_times import (
    LEAD_S,
    Occurrence,
    before,
    bounds,
    named,
    occurrences,
    over_s,
    recovery_limit_s,
    room_s,
)
from loadtests.model.profile.faults import Fault
from loadtests.model.profile.proof_rules import proof_problems
from loadtests.model.profile.tables import Profile


def fault_problems(profile: Profile) -> Iterator[str]:
    """Faults that cannot be proved, without a calm before, without room after, or that hide each other."""
    yield from _allowed(profile)
    for index, fault in enumerate(profile.faults):
        yield from (f"faults[{index}].{key}: {text}" for key, text in proof_problems(profile, fault))
    waits = list(_waits(profile))
    yield from waits
    if waits:
        return  # without a beginning there are no times to judge
    yield from _room(profile)
    yield from crew_problems(profile)
    for (one, first), (other, second) in combinations(enumerate(profile.faults), 2):
        yield from _apart(profile, (one, first), (other, second))


def _allowed(profile: Profile) -> Iterator[str]:
    """Places that are not there, and destructive kinds on a target that is no test system."""
    groups = {
        "consumers": [group.name for group in profile.consumers],
        "publishers": [group.name for group in profile.publishers],
    }
    for index, fault in enumerate(profile.faults):
        kind = KINDS[fault.kind]
        for key, names in groups.items():
            name = getattr(fault, key)
            if name is not None and name not in names:
                allowed = ", ".join(f'"{known}"' for known in names)
                yield f'faults[{index}].{key}: found "{name}", allowed one of {allowed}'
        if kind.destructive and not profile.target.test_system:
            yield (
                f'faults[{index}].kind: found "{fault.kind}", which is destructive, allowed only with '
                "target.test_system = true"
            )
        if kind.place == "target" and profile.target.kind != "local":
            yield f'faults[{index}].kind: found "{fault.kind}", allowed only with target.kind = "local"'


def _waits(profile: Profile) -> Iterator[str]:
    """Faults that wait for one that is not there, or for themselves."""
    for index, fault in enumerate(profile.faults):
        if fault.after is None:
            continue
        where = f'faults[{index}].after: found "{fault.after}"'
        if named(profile, fault.after) is None:
            others = ", ".join(f'"{other.name}"' for other in profile.faults if other is not fault)
            yield f"{where}, allowed {f'one of {others}' if others else 'nothing: there is no other fault'}"
        elif fault.after == fault.name or named(profile, before(profile, fault)[-1].after) is not None:
            yield f"{where}, but these faults wait for each other, allowed a chain that has a first one"


def _room(profile: Profile) -> Iterator[str]:
    hold_s, calm_s = profile.steady.hold_s, 2 * profile.steady.group_ms / 1000
    for index, fault in enumerate(profile.faults):
        where = f"faults[{index}]"
        if fault.after is None and fault.at_s < calm_s:
            yield (
                f"{where}.at_s: found {fault.at_s:g}, allowed from {calm_s:g} (two slice groups): "
                "without a calm stretch before it nothing says what steady is"
            )
        every_s = 0.0 if fault.repeat is None else fault.repeat.every_s
        if fault.repeat is not None and fault.for_s < every_s < fault.for_s + hold_s:
            yield (
                f"{where}.repeat.every_s: found {every_s:g}, allowed from {fault.for_s + hold_s:g}: "
                f"for_s and steady.hold_s, or it can never be steady in between"
            )
        end_s = bounds(profile, fault).to_s
        needed_s = end_s + over_s(profile, fault)
        if needed_s > profile.run.duration_s:
            yield (
                f'{where}.for_s: found that "{fault.name}" ends {end_s:g} s after the warm-up{_at_the_latest(fault)}, '
                f"allowed up to "
                f"{profile.run.duration_s - needed_s + end_s:g}: run.duration_s {profile.run.duration_s:g} less the "
                f"recovery limit {recovery_limit_s(profile, fault):g} and steady.hold_s {hold_s:g}"
            )


def _at_the_latest(fault: Fault) -> str:
    if fault.after is not None:
        return f' at the latest: when "{fault.after}" is given up and {LEAD_S:g} s of announcement have passed'
    return " at the latest" if fault.repeat is not None and fault.repeat.random else ""


def _apart(profile: Profile, first: tuple[int, Fault], second: tuple[int, Fault]) -> Iterator[str]:
    """At most one problem for a pair of faults, about the first place where they cannot be told apart."""
    (one, a), (other, b) = first, second
    hides = hidden(FaultPlace.of(a), FaultPlace.of(b), [group.name for group in profile.consumers])
    if a in before(profile, b) or b in before(profile, a):
        return
    if not (_fixed(a) and _fixed(b)):  # when they come is not up to the profile alone
        yield from _may_hide(profile, (one, a), (other, b), hidden=hides)
        return
    hold_s = profile.steady.hold_s
    for x, y in _near(occurrences(profile, one), occurrences(profile, other), hold_s):
        overlap = x.from_s < y.to_s and y.from_s < x.to_s
        where = f"faults[{other}].at_s: found that"
        if overlap and hides:
            yield (
                f'{where} "{y.name}" ({b.kind}, {y.from_s:g} to {y.to_s:g} s) overlaps "{x.name}" ({a.kind}, '
                f'{x.from_s:g} to {x.to_s:g} s) on "{a.where}", allowed only where the two can be told apart'
            )
            return
        if not overlap:
            gap_s = max(y.from_s - x.to_s, x.from_s - y.to_s)
            yield (
                f'{where} "{x.name}" and "{y.name}" are {gap_s:g} s apart, allowed from steady.hold_s, {hold_s:g}, '
                "or an overlap: else the first can never be steady again"
            )
            return


def _fixed(fault: Fault) -> bool:
    return fault.after is None and (fault.repeat is None or not fault.repeat.random)


def _may_hide(profile: Profile, first: tuple[int, Fault], second: tuple[int, Fault], *, hidden: bool) -> Iterator[str]:
    """Two that cannot be told apart must not meet whatever the seed draws and however long a recovery takes."""
    (one, a), (other, b) = first, second
    if not hidden:
        return
    for x, y in _near(_widest(profile, one), _widest(profile, other), 0.0):
        yield (
            f'faults[{other}].at_s: found that "{y.name}" ({b.kind}, within {y.from_s:g} to {y.to_s:g} s) may overlap '
            f'"{x.name}" ({a.kind}, within {x.from_s:g} to {x.to_s:g} s) on "{a.where}", allowed only where the two '
            "can be told apart"
        )
        return


def _widest(profile: Profile, index: int) -> list[Occurrence]:
    """Where each occurrence may lie; of a fault with `after` one stretch for all."""
    fault = profile.faults[index]
    if fault.after is not None:
        all_ = bounds(profile, fault)
        return [Occurrence(fault=index, name=fault.name, from_s=all_.from_s, to_s=all_.to_s)]
    room = room_s(profile, fault)
    return [
        Occurrence(fault=index, name=o.name, from_s=start, to_s=start + fault.for_s + room)
        for number, o in enumerate(occurrences(profile, index))
        for start in (fault.at_s + number * (0.0 if fault.repeat is None else fault.repeat.every_s),)
    ]


def _near(ones: list[Occurrence], others: list[Occurrence], within_s: float) -> Iterator[tuple[Occurrence, Occurrence]]:
    """Pairs that overlap or are less than `within_s` apart; both lists are in order of time."""
    start = 0
    for x in ones:
        while start < len(others) and others[start].to_s + within_s <= x.from_s:
            start += 1
        for y in others[start:]:
            if y.from_s >= x.to_s + within_s:
                break
            yield x, y
