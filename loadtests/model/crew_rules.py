"""Which faults can the run's own users not play as planned?  Pure: a profile in, problems out."""

from __future__ import annotations

from collections.abc import Iterator

from loadtests.model.crew import CONSUMERS, PUBLISHERS
from loadtests.model.fault_kinds import KINDS
from loadtests.model.fault_times import bounds
from loadtests.model.profile import Fault, Profile

CLIENT_LINK = "client-gateway"
"""The link that consumers connect through, where the local stack and the manual's targets have one."""

UNREAD: frozenset[str] = frozenset({"slow-consumers", "stalled-consumers", "half-open-consumers"})
"""Kinds in which bytes wait unread at a consumer, and then in Toxiproxy."""

TOXICS: frozenset[str] = frozenset(
    {"latency", "bandwidth", "slicer", "limit-data", "slow-close", "reset", "black-hole"}
)
"""Kinds that add a toxic to a link and remove it; the others disable the proxy, which works beside a stalled reader."""


def crew_problems(profile: Profile) -> Iterator[str]:
    """Bad tokens where nobody asks for one, names that mean two things, and what would wedge the consumers' proxy."""
    for index, fault in enumerate(profile.faults):
        if fault.kind == "bad-token" and profile.target.auth != "token":
            yield (
                f'faults[{index}].kind: found "bad-token", allowed only with target.auth = "token": '
                "nobody refuses a token that is not asked for"
            )
        yield from _ambiguous(profile, index, fault)
        if fault.kind in UNREAD:
            yield from _wedged(profile, fault)


def _ambiguous(profile: Profile, index: int, fault: Fault) -> Iterator[str]:
    place = KINDS[fault.kind].place
    groups = {
        CONSUMERS: [group.name for group in profile.consumers],
        PUBLISHERS: [group.name for group in profile.publishers],
    }
    names = groups.get(place, [])
    if getattr(fault, place, None) is None and len(names) > 1 and place in names:
        yield (
            f"faults[{index}].{place}: found nothing, allowed the name of a group where one of several is called "
            f'"{place}"'
        )


def _wedged(profile: Profile, unread: Fault) -> Iterator[str]:
    """A toxic that is added or removed while a consumer reads nothing makes Toxiproxy hang."""
    here = bounds(profile, unread)
    for index, other in enumerate(profile.faults):
        if other.kind not in TOXICS or other.link != CLIENT_LINK or other.direction == "upstream":
            continue
        there = bounds(profile, other)
        if here.from_s < there.to_s and there.from_s < here.to_s:
            yield (
                f'faults[{index}].at_s: found that "{other.name}" ({other.kind}) overlaps "{unread.name}" '
                f'({unread.kind}), allowed only before or after it: a toxic on "{CLIENT_LINK}" that changes while '
                "consumers do not read makes Toxiproxy hang"
            )
