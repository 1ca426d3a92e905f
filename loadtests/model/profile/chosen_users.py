"""Which of the run's own users does a fault choose?  Pure: from seed, fault and slots, the same in every process."""

from __future__ import annotations

import random

from loadtests.model.contract import Contract
from loadtests.model.fault_kinds import KINDS
from loadtests.model.profile.faults import CONSUMERS, PUBLISHERS

Asked = dict[str, int | float | str]


def place_of(kind: str) -> str:
    """`consumers` or `publishers`; another word where no user plays this kind. Raises KeyError for an unknown kind."""
    return KINDS[kind].place


def chosen(contract: Contract, *, fault: str, kind: str, where: str, asked: Asked, consumers: int) -> list[int]:
    """Slots of the users that play a fault, ascending; `consumers` is how many consumer slots the run has.

    A share is drawn by seed and the fault's full name, so that each repeat hits others; it is never nobody.  Of
    publishers the whole group plays: what they are asked a share of is their messages.
    """
    if place_of(kind) == PUBLISHERS:
        count = contract.publisher_count
        return [slot for slot in range(count) if where in (PUBLISHERS, contract.publisher_group(slot)[1].name)]
    named = {group.name for group in contract.profile.consumers}
    every = where == CONSUMERS and CONSUMERS not in named
    slots = [slot for slot in range(consumers) if every or contract.consumer_group(slot)[1].name == where]
    share = float(asked.get("share", 1))
    if share >= 1 or not slots:
        return slots
    draw = random.Random(f"{contract.profile.seed}:crew:{fault}")
    return sorted(draw.sample(slots, max(1, round(share * len(slots)))))
