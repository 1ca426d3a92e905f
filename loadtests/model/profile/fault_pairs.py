"""Which two faults must not be in force at once?  Pure: what both are and where they act in, yes or no out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from loadtests.model.fault_kinds import KINDS
from loadtests.model.injectwire import PlannedFault
from loadtests.model.profile.chosen_users import CONSUMERS
from loadtests.model.profile.faults import Fault

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
