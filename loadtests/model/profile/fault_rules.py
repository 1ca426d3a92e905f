"""Which planned faults can never be played, proved or judged?  Pure: a profile in, `path: found ..., allowed ...`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import combinations

from loadtests.model.fault_kinds import KINDS
from loadtests.model.injectwire import PlannedFault
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
from loadtests.model.profile.faults import CONSUMERS, PUBLISHERS, Fault
from loadtests.model.profile.tables import Tables
from loadtests.model.stackwire import SPARES


def fault_problems(profile: Tables) -> Iterator[str]:
    """Faults that cannot be proved, without a calm before, without room after, or that hide each other."""
    yield from _allowed(profile)
    for index, fault in enumerate(profile.faults):
        yield from (f"faults[{index}].{key}: {text}" for key, text in proof_problems(profile, fault))
    waits = list(_waits(profile))
    yield from waits
    if waits:
        return  # without a beginning there are no times to judge
    yield from _room(profile)
    for fault in profile.faults:
        yield from _wedged(profile, fault)
    for (one, first), (other, second) in combinations(enumerate(profile.faults), 2):
        yield from _apart(profile, (one, first), (other, second))


def _allowed(profile: Tables) -> Iterator[str]:
    """Places that are not there, and destructive kinds on a target that is no test system."""
    groups = groups_of(profile)
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


def groups_of(profile: Tables) -> dict[str, list[str]]:
    """Names of the groups that a fault of users may choose, by the key that names one."""
    return {
        CONSUMERS: [group.name for group in profile.consumers],
        PUBLISHERS: [group.name for group in profile.publishers],
    }


def _waits(profile: Tables) -> Iterator[str]:
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


def _room(profile: Tables) -> Iterator[str]:
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
        if profile.plays_faults and needed_s > profile.run.duration_s:
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


def _wedged(profile: Tables, unread: Fault) -> Iterator[str]:
    """A toxic that is added or removed while a consumer reads nothing makes Toxiproxy hang."""
    here = bounds(profile, unread)
    for index, other in enumerate(profile.faults):
        if not wedges(FaultPlace.of(unread), FaultPlace.of(other)):
            continue
        there = bounds(profile, other)
        if here.from_s < there.to_s and there.from_s < here.to_s:
            yield (
                f'faults[{index}].at_s: found that "{other.name}" ({other.kind}) overlaps "{unread.name}" '
                f'({unread.kind}), allowed only before or after it: a toxic on "{CLIENT_LINK}" that changes while '
                "consumers do not read makes Toxiproxy hang"
            )


def _apart(profile: Tables, first: tuple[int, Fault], second: tuple[int, Fault]) -> Iterator[str]:
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


def _may_hide(profile: Tables, first: tuple[int, Fault], second: tuple[int, Fault], *, hidden: bool) -> Iterator[str]:
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


def _widest(profile: Tables, index: int) -> list[Occurrence]:
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


# -- which fault could be played and yet never be proved or judged, whatever else is planned


_LOOK_S = 0.1  # for the answer that comes after a delay
_FEWEST_PIECES = 6  # of a slicer's measurement


def least_s(fault: Fault) -> float:
    """How long a fault must at least be so that its proof is possible; a delay must have passed once."""
    asked = fault.asked
    delay_s = max(float(asked.get(key, 0)) for key in ("latency_ms", "close_delay_ms")) / 1000
    pieces_s = _FEWEST_PIECES * float(asked.get("delay_us", 0)) / 1_000_000
    return max(KINDS[fault.kind].least_s, delay_s + _LOOK_S if delay_s else 0.0, pieces_s)


def proof_problems(profile: Tables, fault: Fault) -> Iterator[tuple[str, str]]:
    """What makes one fault impossible to prove or to judge: a key of the fault, and `found ..., allowed ...`."""
    if fault.for_s < (least := least_s(fault)):
        yield "for_s", f'found {fault.for_s:g}, allowed from {least:g}: a shorter "{fault.kind}" can never be proved'
    kind = KINDS[fault.kind]
    if kind.upstream_needs and not fault.asked.get(kind.upstream_needs) and fault.direction != "downstream":
        yield (
            kind.upstream_needs,
            f'found nothing with direction "{fault.direction}", allowed from 1, or direction = "downstream": '
            "how a request was cut shows only by its pauses",
        )
    if kind.tokens and profile.target.auth != "token":
        yield (
            "kind",
            f'found "{kind.name}", allowed only with target.auth = "token": '
            "nobody refuses a token that is not asked for",
        )
    yield from _failover(profile, fault)
    yield from _elsewhere(profile, fault)
    yield from _ambiguous(profile, fault)


def _failover(profile: Tables, fault: Fault) -> Iterator[tuple[str, str]]:
    if fault.asked.get("to") != "spare":
        return
    if profile.target.kind != "local":
        yield "to", 'found "spare", allowed host:port unless target.kind = "local": the local stack starts spares'
    if (fault.link or "").rpartition("-")[2] not in SPARES:
        yield "to", f'found "spare", allowed host:port on a link that does not lead to {" or ".join(SPARES)}'


def _elsewhere(profile: Tables, fault: Fault) -> Iterator[tuple[str, str]]:
    """A service that this process may not or cannot act on."""
    if profile.target.kind == "local" or KINDS[fault.kind].place != "service":
        return
    if KINDS[fault.kind].on_process:
        yield "kind", f'found "{fault.kind}", which acts on a process, allowed only with target.kind = "local"'
    elif getattr(profile.target, fault.where) is None:
        yield "kind", f'found "{fault.kind}", allowed only with target.{fault.where} = "host:port"'


def _ambiguous(profile: Tables, fault: Fault) -> Iterator[tuple[str, str]]:
    place = KINDS[fault.kind].place
    names = groups_of(profile).get(place, [])
    if getattr(fault, place, None) is None and len(names) > 1 and place in names:
        yield place, f'found nothing, allowed the name of a group where one of several is called "{place}"'


# -- which two faults must not be in force at once


CLIENT_LINK = "client-gateway"
"""The link that consumers connect through, where the local stack and the manual's targets have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlace:
    """What a fault is, and where it acts."""

    kind: str
    where: str
    direction: str

    @classmethod
    def of(cls, fault: Fault | PlannedFault) -> FaultPlace:
        """Of a fault of a profile, or of one that is planned."""
        where = fault.link if isinstance(fault, PlannedFault) else fault.where
        return cls(kind=fault.kind, where=where, direction=fault.direction)


def hidden(a: FaultPlace, b: FaultPlace, consumers: Collection[str]) -> bool:
    """Whether one cannot be told from the other while both are in force; `consumers` are the names of all groups."""
    if a.where == b.where and (KINDS[a.kind].hides or KINDS[b.kind].hides or (a.kind == b.kind and _same_way(a, b))):
        return True
    return _same_users(a, b, consumers) or _under_toxiproxy(a, b) or _under_toxiproxy(b, a)


def wedges(unread: FaultPlace, other: FaultPlace) -> bool:
    """Whether the other one changes a toxic in a stream that consumers do not read: Toxiproxy would hang."""
    meets = KINDS[unread.kind].unread and KINDS[other.kind].toxic
    return meets and other.where == CLIENT_LINK and other.direction != "upstream"


def _same_users(a: FaultPlace, b: FaultPlace, consumers: Collection[str]) -> bool:
    """A user plays one thing at a time; shares are drawn apart, and may meet."""
    if KINDS[a.kind].place != CONSUMERS or KINDS[b.kind].place != CONSUMERS:
        return False
    return a.where == b.where or (CONSUMERS not in consumers and CONSUMERS in (a.where, b.where))


def _under_toxiproxy(fault: FaultPlace, other: FaultPlace) -> bool:
    """A Toxiproxy that does not serve has no links, and one that was killed has forgotten what was done to them."""
    return fault.where == "toxiproxy" and KINDS[fault.kind].hides and KINDS[other.kind].place == "link"


def _same_way(a: FaultPlace, b: FaultPlace) -> bool:
    return "both" in (a.direction, b.direction) or a.direction == b.direction
