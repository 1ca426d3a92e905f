"""Which consumers were to be subscribed, and which were, from when to when?  The plan, and the recorded edges.

A subscription is an interval from its confirmation to its end.  The plan is what would have been delivered had all
planned consumers been there all the time; recovery is judged by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from loadtests.measure.fault_windows import Times
from loadtests.measure.history_tables import STEP_ORDER, HistoryTables, Ints
from loadtests.measure.streams import StreamTable
from loadtests.model.contract import Contract
from loadtests.model.ids import SLICE_NS
from loadtests.model.records import HARNESS
from loadtests.model.user_kinds import CONSUMER, USERS

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Planned:
    """Planned consumers and what they were offered."""

    counts: tuple[tuple[int, tuple[int, ...]], ...]  # from when on, how many of each consumer group
    changes: tuple[int, ...]  # moments after T0 at which the user count changed
    slots: tuple[tuple[int, ...], ...]  # slots of each consumer group at the start
    offered_rows: Ints  # consumer group x row of the published table, in deliveries

    def count_at(self, at_ns: int, group: int | None = None) -> int:
        """Planned consumers at a moment, of one group or all."""
        counts = next((c for start, c in reversed(self.counts) if start <= at_ns), self.counts[0][1])
        return sum(counts) if group is None else counts[group]

    def per_slice(self, low: int, high: int, groups: set[int]) -> Ints:
        """Planned consumers of some groups per slice."""
        found = np.zeros(high - low, dtype=np.int64)
        for start, counts in self.counts:
            found[max(start // SLICE_NS - low, 0) :] = sum(counts[g] for g in groups)
        return found


def planned(
    facts: HistoryTables, contract: Contract, table: StreamTable, times: Times, subs: SubscriptionTable
) -> Planned:
    """The plan as the profile, an override of the count, and changes of the user count leave it."""
    names = [c.name for c in contract.profile.consumers]
    slots: list[list[int]] = [[] for _ in names]
    for slot in range(total_planned(facts, contract)):
        slots[contract.consumer_group(slot)[0]].append(slot)
    counts = [(-(2**62), tuple(len(s) for s in slots))]
    changes = []
    before: dict[str, int] | None = None
    for users in sorted((u for _, p in facts.each() for u in p.users), key=lambda u: u.at_ns):
        if users.at_ns > times.t0_ns and before is not None and users.wanted != before:
            changes.append(users.at_ns)
        before = users.wanted
        if users.wanted.keys() & set(names):
            last = counts[-1][1]
            new = tuple(min(users.wanted.get(n, last[i]), len(slots[i])) for i, n in enumerate(names))
            if users.at_ns > times.t0_ns:
                counts.append((users.at_ns, new))
            else:
                counts = [(-(2**62), new)]
    counts += _moved(subs, times, counts[-1])
    offered = np.zeros((len(names), len(table.start)), dtype=np.int64)
    for group, own in enumerate(slots):
        for index, (start, numbers) in enumerate(counts):
            end = counts[index + 1][0] if index + 1 < len(counts) else 2**62
            inside = (table.due * SLICE_NS >= start) & (table.due * SLICE_NS < end)
            followers = _followers(contract, group, own[: numbers[group]])
            route = table.route_of[table.stream]
            weight = np.where(route < len(followers), followers[np.minimum(route, len(followers) - 1)], 0)
            offered[group] += np.where(inside, table.ok_count * weight, 0)
    measured = np.array([f.mode != "unmeasured" for f in contract.profile.families] + [False])
    offered[:, ~measured[table.row_family]] = 0
    return Planned(
        counts=tuple(counts), changes=tuple(changes), slots=tuple(tuple(s) for s in slots), offered_rows=offered
    )


def _moved(
    subs: SubscriptionTable, times: Times, last: tuple[int, tuple[int, ...]]
) -> list[tuple[int, tuple[int, ...]]]:
    """What is left of the last count while Locust has taken users away: it says how many, and they say who."""
    steps: dict[int, list[tuple[int, int]]] = {}
    for consumer, intervals in subs.intervals.items():
        for at, interval in enumerate(intervals):
            if interval.why == "moved" and interval.to_ns is not None and times.t0_ns < interval.to_ns:
                steps.setdefault(interval.to_ns // SLICE_NS, []).append((subs.group_of[consumer], -1))
                for after in intervals[at + 1 : at + 2]:
                    steps.setdefault(after.from_ns // SLICE_NS + 1, []).append((subs.group_of[consumer], 1))
    found, now = [], list(last[1])
    for place in sorted(steps):
        for group, step in steps[place]:
            now[group] += step
        if place * SLICE_NS > last[0]:
            found.append((place * SLICE_NS, tuple(max(n, 0) for n in now)))
    return found


def changed_counts(facts: HistoryTables, times: Times) -> list[str]:
    """In words, each change of the number of consumers while the plan was played."""
    found, before = [], None
    for users in sorted((u for _, p in facts.each() for u in p.users), key=lambda u: u.at_ns):
        now = users.wanted.get(CONSUMER.user_class)
        if before is not None and now is not None and now != before and times.t0_ns < users.at_ns < times.plan_end_ns:
            at_s = times.seconds(users.at_ns)
            found.append(f"{now} consumers instead of {before} from {at_s:.1f} s on: the user count was changed")
        before = before if now is None else now
    return found


def left_out(facts: HistoryTables) -> dict[str, str]:
    """Kinds of users that the profile plans and that the user did not choose, and what that means."""
    none = {key for key, value, source in overrides(facts) if (value, source) == ("0", "option")}
    return {kind.key: kind.lacking for kind in USERS.values() if kind.key in none}


def overrides(facts: HistoryTables) -> list[tuple[str, str, str]]:
    """Key, value as JSON and source of every effective value."""
    return [
        row
        for _, process in facts.each()
        for effective in process.effective
        for row in zip(effective.key, effective.value, effective.source, strict=True)
    ]


def total_planned(facts: HistoryTables, contract: Contract) -> int:
    """Planned consumers: the profile's, unless an option said how many."""
    for key, value, source in overrides(facts):
        if key == CONSUMER.key and source == "option":
            return msgspec.json.decode(value.encode(), type=int)
    return contract.consumer_count


def _followers(contract: Contract, group: int, slots: list[int]) -> Ints:
    """How many of some consumers of one group follow each route."""
    found = np.zeros(max(len(contract.routes), 1), dtype=np.int64)
    alike = contract.profile.consumers[group].subscribe.symbol_share >= 1
    for slot in slots[:1] if alike else slots:
        found[np.array(sorted(contract.consumer(slot).routes), dtype=np.int64)] += 1
    return found * len(slots) if alike else found
