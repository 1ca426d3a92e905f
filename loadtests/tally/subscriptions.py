"""Who was subscribed to what, and when?  Turns steps of a subscription into records; numbers equal sets of routes."""

from __future__ import annotations

from typing import Literal

from loadtests.model.interfaces import Emit
from loadtests.model.records import RouteSet, Subscription

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
