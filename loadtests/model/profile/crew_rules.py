"""Which faults can the run's own users not play as planned?  Pure: a profile in, problems out."""

from __future__ import annotations

from collections.abc import Iterator

from loadtests.model.profile.fault_pairs import CLIENT_LINK, FaultPlace, wedges
from loadtests.model.profile.fault_times import bounds
from loadtests.model.profile.faults import Fault
from loadtests.model.profile.tables import Profile


def crew_problems(profile: Profile) -> Iterator[str]:
    """What would wedge the consumers' proxy."""
    for fault in profile.faults:
        yield from _wedged(profile, fault)


def _wedged(profile: Profile, unread: Fault) -> Iterator[str]:
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
