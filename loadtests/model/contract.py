"""Which routes does a profile have, who is owed them, and over which links do their messages go?

A route is one combination of a family's key values; routes are numbered through all families in the profile's order, so
every process derives the same numbers from the same profile.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Protocol, TypeVar

from loadtests.model.fault_kinds import KINDS
from loadtests.model.profile.faults import CONSUMERS, PUBLISHERS
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.tables import generated_symbols
from loadtests.model.profile.workload import Consumers, Family, Publishers


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The finest grain at which the target decides who gets a message."""

    index: int
    family: int  # index of its family
    channel: str
    event: str
    keys: tuple[tuple[str, str], ...]  # ("pattern", "Doji"), ("symbol", "AAPL")

    def key(self, name: str) -> str | None:
        """Value of one key, None where the family has no such key."""
        return next((value for key, value in self.keys if key == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerPlan:
    """What one consumer slot does."""

    slot: int
    group: int
    channels: tuple[str, ...]  # as asked from the target; empty = all
    patterns: tuple[str, ...]
    symbols: tuple[str, ...]
    routes: frozenset[int]


class Contract:
    """A profile's routes, groups and slots. Built once per process; the same profile gives the same contract."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.routes: tuple[Route, ...] = tuple(_routes(profile.families))
        self._routes_of_group: dict[int, frozenset[int]] = {}

    @cached_property
    def routes_of_family(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the routes of each family."""
        found: list[list[int]] = [[] for _ in self.profile.families]
        for route in self.routes:
            found[route.family].append(route.index)
        return tuple(tuple(f) for f in found)

    @cached_property
    def consumer_count(self) -> int:
        """Number of planned consumer slots."""
        return sum(c.count for c in self.profile.consumers)

    @cached_property
    def publisher_count(self) -> int:
        """Number of planned publisher slots."""
        return sum(p.count for p in self.profile.publishers)

    def publisher_group(self, slot: int) -> tuple[int, Publishers]:
        """Group index and group of a publisher slot. Raises IndexError for a slot beyond the plan."""
        return group_of(self.profile.publishers, slot)

    def publisher_routes(self, slot: int) -> tuple[int, ...]:
        """Routes that a publisher slot writes to, in the profile's order."""
        _, group = self.publisher_group(slot)
        wanted = set(group.families)
        return tuple(r.index for r in self.routes if self.profile.families[r.family].name in wanted)

    def consumer_group(self, slot: int) -> tuple[int, Consumers]:
        """Group index and group of a consumer slot; slots beyond the plan (an explicit -u) join the groups in turn."""
        if slot >= self.consumer_count:
            index = (slot - self.consumer_count) % len(self.profile.consumers)
            return index, self.profile.consumers[index]
        return group_of(self.profile.consumers, slot)

    def consumer(self, slot: int) -> ConsumerPlan:
        """What the consumer of a slot subscribes to; a share of the symbols is drawn by seed and slot."""
        group, spec = self.consumer_group(slot)
        ask = spec.subscribe
        families = [(i, f) for i, f in enumerate(self.profile.families) if not ask.families or f.name in ask.families]
        symbols: Sequence[str] = ask.symbols
        if ask.symbol_share < 1:
            pool = list(ask.symbols) or sorted({v for r in self.routes if (v := r.key("symbol")) is not None})
            take = max(1, round(len(pool) * ask.symbol_share))
            symbols = sorted(random.Random(f"{self.profile.seed}:symbols:{slot}").sample(pool, take))
        wanted = {i for i, _ in families}
        return ConsumerPlan(
            slot=slot,
            group=group,
            channels=tuple(sorted({f.channel for _, f in families})) if ask.families else (),
            patterns=tuple(ask.patterns),
            symbols=tuple(symbols),
            routes=frozenset(
                r.index
                for r in self.routes
                if r.family in wanted
                and (not ask.patterns or r.key("pattern") in ask.patterns)
                and (not symbols or r.key("symbol") in symbols)
            ),
        )

    def consumer_routes(self, slot: int) -> frozenset[int]:
        """Routes of a consumer slot; all of a group have the same ones, unless each takes a share of the symbols."""
        group, spec = self.consumer_group(slot)
        if spec.subscribe.symbol_share < 1:
            return self.consumer(slot).routes
        if group not in self._routes_of_group:
            self._routes_of_group[group] = self.consumer(slot).routes
        return self._routes_of_group[group]

    def group_index(self, family: int, consumer_group: int) -> int:
        """Index of a family x consumer group pair, as the records use it."""
        return family * len(self.profile.consumers) + consumer_group

    def group_name(self, group: int) -> str:
        """`family/consumer group` of such an index."""
        family, consumers = divmod(group, len(self.profile.consumers))
        return f"{self.profile.families[family].name}/{self.profile.consumers[consumers].name}"


class Counted(Protocol):
    """A group of so many users."""

    @property
    def count(self) -> int:
        """How many."""
        ...


Group = TypeVar("Group", bound=Counted)


def group_of(groups: Sequence[Group], slot: int) -> tuple[int, Group]:
    """Index and group of a slot, which are dealt out group after group. Raises IndexError beyond the plan."""
    for index, group in enumerate(groups):
        if slot < group.count:
            return index, group
        slot -= group.count
    raise IndexError(f"slot {slot} beyond the plan")


def _routes(families: Sequence[Family]) -> list[Route]:
    found: list[Route] = []
    for number, family in enumerate(families):
        keys: dict[str, list[str]] = {str(k): list(v) for k, v in family.keys.items()}
        if family.symbols:
            keys["symbol"] = generated_symbols(family.symbols)
        for values in product(*keys.values()):
            found.append(
                Route(
                    index=len(found),
                    family=number,
                    channel=family.channel,
                    event=family.event,
                    keys=tuple(zip(keys.keys(), values, strict=True)),
                )
            )
    return found


Asked = dict[str, int | float | str]


def chosen(contract: Contract, *, fault: str, kind: str, where: str, asked: Asked, consumers: int) -> list[int]:
    """Slots of the run's own users that play a fault, ascending; `consumers` is how many consumer slots the run has.

    A share is drawn by seed and the fault's full name, so that each repeat hits others; it is never nobody.  Of
    publishers the whole group plays: what they are asked a share of is their messages.
    """
    if KINDS[kind].place == PUBLISHERS:
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
