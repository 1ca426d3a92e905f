"""Whom does a fault choose among this run's users, and how far are they all?  Sums what the parts tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from loadtests.model.contract import Contract
from loadtests.model.injectwire import CrewOrder, CrewState
from loadtests.model.profile.chosen_users import chosen, place_of
from loadtests.model.profile.faults import PUBLISHERS
from loadtests.model.profile.profile import Profile
from loadtests.model.records import CrewFault


class CrewBook:
    """The faults of one run that its users play."""

    def __init__(self, profile: Profile, consumers: int) -> None:
        self._contract, self._consumers = Contract(profile), consumers
        self._chosen: dict[str, int] = {}
        self._told: dict[str, dict[str, int]] = {}

    def begin(self, order: CrewOrder, now_ns: int) -> CrewFault:
        """A fault begins; the record of whom it chose."""
        slots = self.slots(order)
        self._chosen[order.fault] = len(slots)
        self._told.pop(order.fault, None)
        published = place_of(order.kind) == PUBLISHERS
        return CrewFault(
            fault=order.fault,
            kind=order.kind,
            consumers=[] if published else slots,
            publishers=slots if published else [],
            from_ns=now_ns,
            to_ns=order.until_ns,
        )

    def slots(self, order: CrewOrder) -> list[int]:
        """Slots of those whom an order concerns; the same in every process."""
        return chosen(
            self._contract,
            fault=order.fault,
            kind=order.kind,
            where=order.where,
            asked=order.asked,
            consumers=self._consumers,
        )

    def news(self, parts: Iterable[Mapping[str, Mapping[str, int]]]) -> Iterator[CrewState]:
        """What has changed since the last call: sums over the parts that are there."""
        sums: dict[str, Counter[str]] = {}
        for part in parts:
            for fault, counts in part.items():
                sums.setdefault(fault, Counter()).update(counts)
        for fault, found in sums.items():
            counts = dict(found) | {"chosen": self._chosen.get(fault, 0)}
            if self._told.get(fault) != counts:
                self._told[fault] = counts
                yield CrewState(fault=fault, counts=counts)
