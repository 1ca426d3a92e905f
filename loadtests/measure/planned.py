"""What would have been delivered had all planned consumers been there all the time?  Recovery is judged by it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from loadtests.measure.fault_windows import Times
from loadtests.measure.history_tables import HistoryTables, Ints
from loadtests.measure.streams import StreamTable
from loadtests.measure.subscriptions import SubscriptionTable
from loadtests.model.contract import Contract
from loadtests.model.ids import SLICE_NS
from loadtests.model.user_kinds import CONSUMER, USERS


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
