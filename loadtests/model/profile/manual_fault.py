"""May this fault be played by hand, now and here?  A profile, what is asked and the state of a run in; pure.

A fault by hand is held to the same limits as one of the profile; a refusal is sentences, never half a fault.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

import msgspec
from pydantic import ValidationError

from loadtests.model.address import SPARE
from loadtests.model.errors import TickstormError
from loadtests.model.fault_kinds import KINDS
from loadtests.model.ids import NS_PER_MS, NS_PER_S
from loadtests.model.injectwire import PlannedFault
from loadtests.model.kinds import Key
from loadtests.model.profile.fault_rules import CLIENT_LINK, FaultPlace, groups_of, hidden, proof_problems, wedges
from loadtests.model.profile.faults import Fault, fault_of
from loadtests.model.profile.problems import problems_of
from loadtests.model.profile.profile import Profile
from loadtests.model.words import plain

AT_ONCE = 4
"""Faults by hand that may be asked for or in force at a time."""
IN_ALL = 500
"""Faults by hand of one run."""
LEAD_NS = 1_000 * NS_PER_MS
"""From the asking to the act: the calm measurement and the announcement need so long."""
MAX_NOTE = 300
"""Characters of an annotation."""

_NOT_BY_HAND = frozenset({"name", "at_s", "after", "repeat", "random"})


class ManualFaultRefused(TickstormError):  # noqa: N818 - it names what came in
    """What was asked for by hand is not done. `why`: bad (never), not allowed (not here), conflict (not now)."""

    def __init__(self, why: Literal["bad", "not allowed", "conflict"], text: str) -> None:
        self.why = why
        super().__init__(text)


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What of a run decides whether a fault may begin; times of the run clock."""

    now_ns: int
    from_ns: int | None  # from when on a fault has a calm stretch before it; None: the run has not got so far
    until_ns: int  # end of the plan
    links: Collection[str]
    names: Collection[str]  # of every fault that was ever planned or asked for in the run
    under_way: int  # faults by hand that are not over
    by_hand: int  # faults by hand so far
    known: Collection[PlannedFault] = ()  # planned or in force, by hand or not


def fault_by_hand(profile: Profile, asked: Mapping[str, Any], moment: Moment) -> PlannedFault:
    """The fault that the injector is told. Raises Refused."""
    if unknown := sorted(set(asked) & _NOT_BY_HAND):
        raise ManualFaultRefused("bad", f"{unknown[0]}: a fault by hand begins now and once")
    try:
        fault = fault_of({"name": _name(moment), "at_s": 0.0, **asked})
    except ValidationError as error:
        raise ManualFaultRefused("bad", "; ".join(_sentences(error))) from None
    _allowed(profile, fault, moment.links)
    _timely(profile, fault, moment)
    at_ns = max(moment.now_ns + LEAD_NS, moment.from_ns or 0)
    planned = PlannedFault(
        name=fault.name,
        kind=fault.kind,
        link=fault.where,
        direction=fault.direction,
        at_ns=at_ns,
        until_ns=at_ns + round(fault.for_s * NS_PER_S),
        asked=fault.asked,
        by_hand=True,
    )
    for other in moment.known:
        _apart(profile, planned, other, moment.now_ns)
    return planned


def _sentences(error: ValidationError) -> Iterator[str]:
    for problem in problems_of(error, below=("faults", 0)):
        path = problem.path.removeprefix("faults[0]").lstrip(".")
        yield f"{path}: {problem.text}" if path else problem.text


def _name(moment: Moment) -> str:
    number = moment.by_hand + 1
    while f"by-hand-{number}" in moment.names:
        number += 1
    return f"by-hand-{number}"


def refusals(profile: Profile, links: Collection[str]) -> dict[str, str]:
    """Why a run never plays a kind by hand: by its name, with a place behind it where only that place is refused."""
    found: dict[str, str] = {}
    for kind in KINDS.values():
        places = kind.services if kind.place == "service" else tuple(links) if kind.place == "link" else ("",)
        amounts = {name: _some(key) for name, key in kind.needs.items()}
        why: dict[str, str] = {}
        for place in places:
            asked = {"name": "by-hand", "at_s": 0.0, "for_s": 3600, "kind": kind.name, **amounts}
            try:
                _allowed(profile, fault_of(asked | ({kind.place: place} if place else {})), links)
            except ManualFaultRefused as error:
                if error.why == "not allowed":
                    why[place] = str(error)
            except ValidationError:  # an amount that `_some` does not know: the asking says more
                continue
        if why and len(why) == len(places):
            found[kind.name] = next(iter(why.values()))
        else:
            found |= {f"{kind.name} {place}": text for place, text in why.items()}
    return found


def _some(key: Key) -> Any:
    """Any value that a key may have."""
    if key.offered is not None:
        return key.offered
    return key.choices[0] if key.choices else key.limits.get("ge", key.limits.get("le", 1))


def _allowed(profile: Profile, fault: Fault, links: Collection[str]) -> None:
    kind = KINDS[fault.kind]
    if kind.destructive and not profile.target.test_system:
        raise ManualFaultRefused(
            "not allowed",
            f'"{fault.kind}" is destructive, and the profile does not mark its target as a test system'
            " (target.test_system = true)",
        )
    to = fault.asked.get("to", SPARE)
    named = {SPARE, *(str(planned.asked["to"]) for planned in profile.faults if "to" in planned.asked)}
    if to not in named:  # clients would show it their passwords
        known = ", ".join(f'"{place}"' for place in sorted(named))
        raise ManualFaultRefused(
            "not allowed",
            f'to: found "{to}", allowed by hand are "spare" and what faults of the profile name: {known}',
        )
    if kind.place == "target" and profile.target.kind != "local":
        raise ManualFaultRefused(
            "not allowed", f'"{fault.kind}" is a switch of the reference target: it needs the local stack'
        )
    if kind.place == "link" and fault.link not in links:
        known = ", ".join(sorted(links)) or "none"
        raise ManualFaultRefused("bad", f'link: "{fault.link}" is not known, known are: {known}')
    for place, names in groups_of(profile).items():
        name = getattr(fault, place)
        if name is not None and name not in names:
            raise ManualFaultRefused("bad", f'{place}: "{name}" is not known, known are: {", ".join(names)}')

    for key, text in proof_problems(profile, fault):
        raise ManualFaultRefused("not allowed" if key == "kind" else "bad", f"{key}: {text}")


def _apart(profile: Profile, fault: PlannedFault, other: PlannedFault, now_ns: int) -> None:
    """Refuses what a profile may not plan beside a fault that is known; one that overran its end is in force now."""
    ends_ns = max(other.until_ns, now_ns) if other.at_ns <= now_ns else other.until_ns
    gap_ns = max(fault.at_ns - ends_ns, other.at_ns - fault.until_ns)
    ours, theirs = FaultPlace.of(fault), FaultPlace.of(other)
    beside = f'"{other.name}" ({other.kind} on "{other.link}", {_when(other, now_ns)})'
    if gap_ns < 0 and hidden(ours, theirs, [group.name for group in profile.consumers]):
        raise ManualFaultRefused("conflict", f"it would overlap {beside}, and the two could not be told apart")
    if gap_ns < 0 and (wedges(ours, theirs) or wedges(theirs, ours)):
        raise ManualFaultRefused(
            "conflict",
            f'it would overlap {beside}: a toxic on "{CLIENT_LINK}" that changes while consumers do not read makes '
            "Toxiproxy hang",
        )
    if 0 <= gap_ns < profile.steady.hold_s * NS_PER_S:
        raise ManualFaultRefused(
            "conflict",
            f"it would be {gap_ns / NS_PER_S:.1f} s apart from {beside}, allowed from steady.hold_s, "
            f"{profile.steady.hold_s:g}, or an overlap: else the first can never be steady again",
        )


def _when(other: PlannedFault, now_ns: int) -> str:
    if other.at_ns > now_ns:
        return f"planned in {(other.at_ns - now_ns) / NS_PER_S:.1f} s"
    return "in force"


def _timely(profile: Profile, fault: Fault, moment: Moment) -> None:
    if moment.from_ns is None:
        raise ManualFaultRefused(
            "conflict", "the run is not so far yet: wait for the end of the warm-up, which says what calm is"
        )
    left_s = (moment.until_ns - max(moment.now_ns + LEAD_NS, moment.from_ns)) / NS_PER_S
    if fault.for_s > left_s:
        allowed = f"allowed up to {left_s:.1f}: the plan ends then" if left_s > 0 else "but the plan is over"
        raise ManualFaultRefused("conflict", f"for_s: found {fault.for_s:g}, {allowed}")
    if moment.under_way >= AT_ONCE:
        raise ManualFaultRefused("conflict", f"{AT_ONCE} faults by hand are under way: heal one first")
    if moment.by_hand >= IN_ALL:
        raise ManualFaultRefused("conflict", f"there were {IN_ALL} faults by hand in this run, which is the most")


def annotation(text: object) -> str:
    """A note of the user, on one line. Raises Refused."""
    if not isinstance(text, str) or not (found := " ".join(text.split())):
        raise ManualFaultRefused("bad", "text: found nothing, allowed a sentence")
    if len(found) > MAX_NOTE:
        raise ManualFaultRefused("bad", f"text: found {len(found)} characters, allowed up to {MAX_NOTE}")
    return plain(found, MAX_NOTE)


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a fault as a form asks for it."""

    key: str
    needed: bool
    kind: Literal["whole", "number", "words", "yes", "choice"]
    at_least: float | None = None
    at_most: float | None = None
    choices: list[str] = []
    offered: float | str | None = None


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """What a form for one kind of fault asks for."""

    kind: str
    place: str
    places: list[str]
    help: str
    directions: bool
    amounts: list[Amount]


def forms() -> list[Form]:
    """One form for each kind, from the table."""
    return [
        Form(
            kind=kind.name,
            place=kind.place,
            places=list(kind.services),
            help=kind.help,
            directions=kind.directions,
            amounts=[_amount(name, name in kind.needs, key) for name, key in kind.keys.items()],
        )
        for kind in KINDS.values()
    ]


def _amount(name: str, needed: bool, key: Key) -> Amount:
    kinds: dict[str, Literal["whole", "number", "yes", "choice"]] = {
        "whole": "whole",
        "number": "number",
        "yes": "yes",
        "choice": "choice",
    }
    least, most = (next((key.limits[bound] for bound in bounds if bound in key.limits), None) for bounds in _BOUNDS)
    return Amount(
        key=name,
        needed=needed,
        kind=kinds.get(key.of, "words"),
        at_least=least if isinstance(least, int | float) else None,
        at_most=most if isinstance(most, int | float) else None,
        choices=list(key.choices),
        offered=key.offered,
    )


_BOUNDS = (("ge", "gt"), ("le", "lt"))
