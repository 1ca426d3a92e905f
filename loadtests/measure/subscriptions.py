"""Which consumers were to be subscribed, and which were, from when to when?  The plan, and the recorded edges.

A subscription is an interval from its confirmation to its end.  The plan is what would have been delivered had all
planned consumers been there all the time; recovery is judged by it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import msgspec
import numpy as np

from loadtests.measure.fault_windows import Times
from loadtests.measure.history_tables import STEP_ORDER, Bools, HistoryTables, Ints, Rows
from loadtests.measure.streams import StreamTable
from loadtests.model.contract import Contract
from loadtests.model.ids import SLICE_NS
from loadtests.model.records import HARNESS, Subscription
from loadtests.model.registry import CONSUMER, USERS

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Ends:
    """How connections ended, refused ones too: by consumer and epoch."""

    consumer: Ints
    epoch: Ints
    at_ns: Ints
    why: Ints  # place in `words`
    detail: Ints
    words: list[str]

    def because(self, reasons: Collection[str]) -> Bools:
        """Which of them ended for one of some reasons."""
        return np.array([word in reasons for word in self.words] + [False])[self.why]

    @cached_property
    def last(self) -> Bools:
        """Of each connection the last end that is told."""
        place = self.consumer << _EPOCHS | self.epoch
        return np.append(place[1:] != place[:-1], np.ones(min(len(place), 1), dtype=np.bool_))

    def of(self, consumer: int) -> list[tuple[int, str, str]]:
        """When, why and with which words connections of a consumer ended, in order of time."""
        span = slice(*np.searchsorted(self.consumer, (consumer, consumer + 1)).tolist())
        columns = (self.at_ns[span].tolist(), self.why[span].tolist(), self.detail[span].tolist())
        return sorted((at, self.words[why], self.words[detail]) for at, why, detail in zip(*columns, strict=True))

    def at(self, consumer: int, epoch: int) -> int | None:
        """When a connection ended."""
        found = int(np.searchsorted(self._places, consumer << _EPOCHS | epoch, side="right")) - 1
        there = found >= 0 and (self.consumer[found], self.epoch[found]) == (consumer, epoch)
        return int(self.at_ns[found]) if there else None

    @cached_property
    def _places(self) -> Ints:
        return self.consumer << _EPOCHS | self.epoch


_EPOCHS = 24


@dataclass(slots=True, kw_only=True)
class SubscriptionTable:
    """All intervals by consumer slot."""

    ends: Ends

    intervals: dict[int, list[Interval]] = field(default_factory=dict)
    group_of: dict[int, int] = field(default_factory=dict)
    processes_of: dict[int, set[str]] = field(default_factory=dict)
    opened: dict[tuple[int, int], int] = field(default_factory=dict)  # consumer, epoch -> when the connection was open
    unknown_routes: set[int] = field(default_factory=set)  # consumers whose route set the history lacks
    _spans: dict[int, list[tuple[int, int | None]]] = field(default_factory=dict)

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
        known = self._spans.get(consumer)
        if known is None:
            known = self._spans[consumer] = self._joined(consumer)
        return known

    def spans_within(self, consumer: int, from_ns: int, to_ns: int) -> list[tuple[int, int | None]]:
        """Those of its spans that begin before a moment and end after another."""
        spans = self.spans(consumer)
        low = bisect_left(spans, from_ns, key=lambda span: _EVER if span[1] is None else span[1])
        return spans[low : bisect_left(spans, to_ns, key=lambda span: span[0])]

    def _joined(self, consumer: int) -> list[tuple[int, int | None]]:
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
    steps = _Steps(facts)
    found = SubscriptionTable(ends=steps.ends())
    open_: Interval | None = None
    place: tuple[int, int] | None = None
    for consumer, epoch, at_ns, order, process, group, route_set, why in steps:
        if place != (consumer, epoch):
            _close(found, place, open_, None, "")
            open_, place = None, (consumer, epoch)
        found.group_of[consumer] = group
        found.processes_of.setdefault(consumer, set()).add(process)
        if order in (_ASKED, _CONFIRMED):
            found.opened.setdefault(place, at_ns)
        if order == _CONFIRMED:
            _close(found, place, open_, at_ns, "own")
            routes = facts.processes[process].route_sets.get(route_set)
            if routes is None:
                found.unknown_routes.add(consumer)
            open_ = Interval(epoch=epoch, process=process, routes=routes or (), from_ns=at_ns, to_ns=None, why="")
        elif order in (_LEAVING, _LEFT):
            _close(found, place, open_, at_ns, why or "own")
            if order == _LEFT and open_ is None and why in PLANNED:
                _because(found, place, why)
            open_ = None
    _close(found, place, open_, None, "")
    for intervals in found.intervals.values():
        intervals.sort(key=lambda i: (i.from_ns, i.epoch))
    return found


_ASKED, _CONFIRMED, _LEAVING, _LEFT = (STEP_ORDER[step] for step in ("asked", "confirmed", "leaving", "left"))
_EVER = 2**62
_AT_ONCE = 50_000


class _Steps:
    """The recorded steps of all processes in the order of consumer, epoch, time and step."""

    def __init__(self, facts: HistoryTables) -> None:
        self._names = facts.names
        self._words: dict[str, int] = {}
        parts = [self._of(number, process.subscriptions) for number, (_, process) in enumerate(facts.each())]
        rows = np.concatenate(parts or [np.zeros((9, 0), dtype=np.int64)], 1)
        self._rows = rows[:, np.lexsort(rows[4::-1])]

    def _of(self, number: int, steps: Rows[Subscription]) -> Ints:
        words = np.array([self._words.setdefault(w, len(self._words)) for w in steps.words] + [0], dtype=np.int64)
        order = np.array([STEP_ORDER.get(w, 0) for w in steps.words] + [0], dtype=np.int64)
        consumer, epoch, at_ns, group, route_set, step, why, detail = (
            steps.column(name) for name in ("consumer", "epoch", "at_ns", "group", "route_set", "step", "why", "detail")
        )
        process = np.full(len(consumer), number, dtype=np.int64)
        return np.array([consumer, epoch, at_ns, order[step], process, group, route_set, words[why], words[detail]])

    def ends(self) -> Ends:
        consumer, epoch, at_ns, _, _, _, _, why, detail = self._rows[:, self._rows[3] == _LEFT]
        return Ends(consumer=consumer, epoch=epoch, at_ns=at_ns, why=why, detail=detail, words=list(self._words))

    def __iter__(self) -> Iterator[tuple[int, int, int, int, str, int, int, str]]:
        words = list(self._words)
        for low in range(0, self._rows.shape[1], _AT_ONCE):
            rows = self._rows[:8, low : low + _AT_ONCE].tolist()
            rows[4] = [self._names[number] for number in rows[4]]
            rows[7] = [words[number] for number in rows[7]]
            yield from zip(*rows, strict=True)


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
