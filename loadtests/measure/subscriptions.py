"""When was each consumer subscribed to what?  Intervals from the recorded edges; how many were connected per slice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from loadtests.measure.history_tables import STEP_ORDER, HistoryTables, Ints
from loadtests.model.ids import SLICE_NS
from loadtests.model.records import HARNESS

OWN = frozenset({"own", "end", "moved", HARNESS})
"""Reasons of leaving that are no loss of the connection by the target."""
PLANNED = OWN | {"fault"}
"""Reasons of leaving that are our plan's: those, and a fault that the consumer itself played."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One subscription of one consumer: from confirmed to leaving, left, or the next confirmation."""

    epoch: int
    process: str
    routes: tuple[int, ...]
    from_ns: int
    to_ns: int | None  # None: the history does not say when it ended
    why: str


@dataclass(slots=True, kw_only=True)
class SubscriptionTable:
    """All intervals by consumer slot."""

    intervals: dict[int, list[Interval]] = field(default_factory=dict)
    group_of: dict[int, int] = field(default_factory=dict)
    processes_of: dict[int, set[str]] = field(default_factory=dict)
    left: dict[tuple[int, int], tuple[int, str]] = field(default_factory=dict)  # consumer, epoch -> when, why
    opened: dict[tuple[int, int], int] = field(default_factory=dict)  # consumer, epoch -> when the connection was open
    ended: dict[int, list[tuple[int, str, str]]] = field(default_factory=dict)  # consumer -> when, why, detail; by time
    unknown_routes: set[int] = field(default_factory=set)  # consumers whose route set the history lacks

    def confirmed_at(self, at_ns: int) -> set[int]:
        """Consumers that had a confirmed subscription at a moment."""
        return {
            c for c, all_ in self.intervals.items() if any(i.from_ns <= at_ns and _after(i.to_ns, at_ns) for i in all_)
        }

    def connected(self, low: int, high: int, among: Iterable[int]) -> Ints:
        """Per slice from `low` to before `high`: consumers of `among` that were subscribed through all of it."""
        step = np.zeros(high - low + 1, dtype=np.int64)
        for consumer in among:
            for start, end in self.spans(consumer):
                first = min(max(-(-start // SLICE_NS), low), high)
                last = high if end is None else min(max(end // SLICE_NS, low), high)
                if last > first:
                    step[first - low] += 1
                    step[last - low] -= 1
        return np.cumsum(step)[:-1]

    def spans(self, consumer: int) -> list[tuple[int, int | None]]:
        """When a consumer was subscribed at all; intervals that touch are one."""
        found: list[tuple[int, int | None]] = []
        for interval in self.intervals.get(consumer, ()):
            if found and _after(found[-1][1], interval.from_ns - 1):
                start, end = found[-1]
                found[-1] = (start, None if end is None or interval.to_ns is None else max(end, interval.to_ns))
            else:
                found.append((interval.from_ns, interval.to_ns))
        return found


def _after(end: int | None, at_ns: int) -> bool:
    return end is None or end > at_ns


def subscriptions(facts: HistoryTables) -> SubscriptionTable:
    """The intervals of a history."""
    found = SubscriptionTable()
    steps = [(s.consumer, s.epoch, s.at_ns, STEP_ORDER[s.step], n, s) for n, f in facts.each() for s in f.subscriptions]
    steps.sort(key=lambda s: s[:5])
    open_: Interval | None = None
    place: tuple[int, int] | None = None
    for consumer, epoch, at_ns, _, process, step in steps:
        if place != (consumer, epoch):
            _close(found, place, open_, None, "")
            open_, place = None, (consumer, epoch)
        found.group_of[consumer] = step.group
        found.processes_of.setdefault(consumer, set()).add(process)
        if step.step in ("asked", "confirmed"):
            found.opened.setdefault(place, at_ns)
        if step.step == "confirmed":
            _close(found, place, open_, at_ns, "own")
            routes = facts.processes[process].route_sets.get(step.route_set)
            if routes is None:
                found.unknown_routes.add(consumer)
            open_ = Interval(epoch=epoch, process=process, routes=routes or (), from_ns=at_ns, to_ns=None, why="")
        elif step.step in ("leaving", "left"):
            _close(found, place, open_, at_ns, step.why or "own")
            if step.step == "left":
                found.left[place] = (at_ns, step.why)
                found.ended.setdefault(consumer, []).append((at_ns, step.why, step.detail))
                if open_ is None and step.why in PLANNED:
                    _because(found, place, step.why)
            open_ = None
    _close(found, place, open_, None, "")
    for intervals in found.intervals.values():
        intervals.sort(key=lambda i: (i.from_ns, i.epoch))
    for ends in found.ended.values():
        ends.sort()
    return found


def _because(found: SubscriptionTable, place: tuple[int, int], why: str) -> None:
    """Say of the interval that ended with `leaving` why the consumer left: by the plan, moved, or to play a fault."""
    intervals = found.intervals.get(place[0], [])
    if intervals and intervals[-1].epoch == place[1] and intervals[-1].why == "own":
        intervals[-1] = replace(intervals[-1], why=why)


def _close(
    found: SubscriptionTable, place: tuple[int, int] | None, open_: Interval | None, at_ns: int | None, why: str
) -> None:
    if place is None or open_ is None:
        return
    found.intervals.setdefault(place[0], []).append(
        Interval(
            epoch=open_.epoch,
            process=open_.process,
            routes=open_.routes,
            from_ns=open_.from_ns,
            to_ns=at_ns,
            why=why,
        )
    )
