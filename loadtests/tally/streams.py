"""Which streams has this process met?  Each gets a small index, so that a consumer's account is a plain list.

Also what became of each subscription, as the records of its consumer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from loadtests.model.ids import unpack_stream
from loadtests.model.records import Emit, RouteSet, Subscription

FOREIGN = -1
"""Index of a stream whose route the profile does not have."""
TOO_MANY = -2
"""Index of a stream beyond those that are kept: it may be one of ours."""

STREAMS_KEPT = 1 << 16
"""Streams that one process keeps unless told otherwise: a target that makes them up must not fill the memory."""


class Streams:
    """Interned streams of one run in one process, numbered in the order in which they came."""

    __slots__ = ("_family_of_route", "_index", "_kept", "family", "packed", "route")

    def __init__(self, family_of_route: Sequence[int], kept: int = STREAMS_KEPT) -> None:
        self._family_of_route = family_of_route
        self._kept = kept
        self._index: dict[int, int] = {}
        self.packed: list[int] = []
        self.route: list[int] = []
        self.family: list[int] = []

    def __len__(self) -> int:
        return len(self.packed)

    def known(self, packed: int) -> int | None:
        """Index of a packed stream that was met before."""
        return self._index.get(packed)

    def index_of(self, packed: int) -> int:
        """Index of a packed stream, a new one if needed; FOREIGN where the profile has no such route, TOO_MANY where
        so many streams came that no more are kept.
        """
        index = self._index.get(packed)
        if index is not None:
            return index
        route = unpack_stream(packed).route
        if route >= len(self._family_of_route):
            return FOREIGN
        if len(self.packed) >= self._kept:
            return TOO_MANY
        index = self._index[packed] = len(self.packed)
        self.packed.append(packed)
        self.route.append(route)
        self.family.append(self._family_of_route[route])
        return index


Step = Literal["asked", "confirmed", "leaving", "left"]


class Subscriptions:
    """The subscription records of one process and run."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._sets: dict[frozenset[int], int] = {}

    def step(
        self,
        step: Step,
        *,
        consumer: int,
        epoch: int,
        group: int,
        routes: frozenset[int],
        at_ns: int,
        why: str = "",
        detail: str = "",
    ) -> None:
        """Record one step; `why` belongs to "left"."""
        number = self._sets.get(routes)
        if number is None:
            number = self._sets[routes] = len(self._sets)
            self._emit(RouteSet(index=number, routes=sorted(routes)))
        self._emit(
            Subscription(
                consumer=consumer,
                epoch=epoch,
                group=group,
                step=step,
                at_ns=at_ns,
                route_set=number,
                why=why,
                detail=detail[:200],
            )
        )
