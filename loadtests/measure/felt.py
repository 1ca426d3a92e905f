"""How did each consumer feel a fault: when did it notice, and when did bytes, fresh messages and steadiness come back?

From the slices that `Touched` keeps for every consumer; where those are not complete, nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadtests.measure.deliveries import Deliveries
from loadtests.measure.facts import KIND_CODE, Bools, Facts, Floats, Ints
from loadtests.measure.frame import Act, Times
from loadtests.measure.planned import Planned
from loadtests.measure.streams import Streams
from loadtests.measure.subscriptions import OWN, Subscriptions
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.results import ConsumerRecovery, ConsumerSpread

_NEVER = -1
_POINTS = 200
_BEFORE = 50
"""Slices before a fault that say how often messages come."""
_EXPECTED = 5
"""A consumer is silent when nothing came for as long as so many messages were planned for it, one slice at least."""

NOBODY = ConsumerSpread(p50=None, p95=None, max=None, not_recovered=None)
NOTHING = ConsumerRecovery(
    detected=NOBODY, first_byte=NOBODY, first_fresh=NOBODY, steady=NOBODY, distribution={}, slowest=[]
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slices:
    """What each consumer of some received per slice, consumer x slice from `low` on."""

    low: int
    consumers: list[int]
    count: Ints
    first: Ints
    last: Ints
    due: Ints
    worst: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Touches:
    """All touched rows of a history, and the first slice from a given one on of which they do not tell everything."""

    rows: Ints
    told: Ints  # per slice of the axis: messages in touched rows
    came: Ints  # per slice of the axis: messages received
    low: int

    def complete_until(self, first: int, last: int) -> int:
        """First slice from `first` on that is not complete, at most `last`."""
        low, high = max(first - self.low, 0), max(last - self.low, 0)
        bad = np.flatnonzero(self.told[low:high] < self.came[low:high])
        return int(bad[0]) + first if len(bad) else last


def touches(facts: Facts, came: Deliveries, low: int, high: int) -> Touches:
    """The touched rows of a history."""
    parts = [p.touched.numpy() for _, p in facts.each()]
    rows = np.concatenate(parts or [np.zeros((7, 0), dtype=np.int64)], 1)
    # A slice is told twice where a deviating consumer's row came before the fault was announced.
    rows = rows[:, np.lexsort((-rows[2], rows[1], rows[0]))]
    if rows.shape[1]:
        again = (np.diff(rows[0]) == 0) & (np.diff(rows[1]) == 0)
        rows = rows[:, np.concatenate(([True], ~again))]
    told, all_ = np.zeros(high - low, dtype=np.int64), np.zeros(high - low, dtype=np.int64)
    inside = (rows[0] >= low) & (rows[0] < high)
    np.add.at(told, rows[0][inside] - low, rows[2][inside])
    here = came.counts & (came.received >= low) & (came.received < high)
    np.add.at(all_, came.received[here] - low, (came.unique + came.repeated)[here])
    return Touches(rows=rows, told=told, came=all_, low=low)


def _slices(found: Touches, consumers: list[int], low: int, high: int) -> Slices:
    shape = (len(consumers), high - low)
    count, last, worst = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    first, due = np.full(shape, 2**62, dtype=np.int64), np.full(shape, -(2**62), dtype=np.int64)
    known = np.array(sorted(consumers), dtype=np.int64)
    rows = found.rows[:, (found.rows[0] >= low) & (found.rows[0] < high) & np.isin(found.rows[1], known)]
    at = (np.searchsorted(known, rows[1]), rows[0] - low)
    np.add.at(count, at, rows[2])
    np.minimum.at(first, at, rows[3])
    np.maximum.at(last, at, rows[4])
    np.maximum.at(due, at, rows[5])
    np.maximum.at(worst, at, rows[6])
    return Slices(low=low, consumers=sorted(consumers), count=count, first=first, last=last, due=due, worst=worst)


def felt(
    facts: Facts,
    contract: Contract,
    table: Streams,
    subs: Subscriptions,
    plan: Planned,
    found: Touches,
    act: Act,
    times: Times,
    *,
    limit_ms: float | None,
    next_ns: int | None,
) -> ConsumerRecovery:
    """One act's recovery per consumer, over all consumers with a route over its link; over all where none has."""
    if act.began_ns is None or act.injected_ns is None or act.healed_ns is None:
        return NOTHING
    who = _concerned(contract, plan, act)
    low = act.began_ns // SLICE_NS
    hold = round(contract.profile.steady.hold_s * NS_PER_S) // SLICE_NS
    end_ns = min([act.healed_ns + act.limit_ns + hold * SLICE_NS, times.plan_end_ns] + ([next_ns] if next_ns else []))
    high = found.complete_until(low, max(end_ns // SLICE_NS, low))
    if not who or high <= act.healed_ns // SLICE_NS + 1 or not len(found.rows[0]):
        return NOTHING
    seen = _slices(found, who, low, high)
    silent = _silent(contract, table, seen)
    cut_off = high < (act.healed_ns + act.limit_ns) // SLICE_NS
    detected = _detected(subs, act, seen, silent, limit_ms)
    byte = _first(
        seen, act.healed_ns, act.healed_ns + act.limit_ns, seen.last >= act.healed_ns, seen.first >= act.healed_ns
    )
    fresh_sure = seen.first - seen.worst >= act.healed_ns
    fresh = _first(
        seen, act.healed_ns, act.healed_ns + act.limit_ns, (seen.due >= act.healed_ns) & (seen.count > 0), fresh_sure
    )
    good = _good(facts, contract, subs, seen, silent)
    steady = _steady(seen, good, act, hold)
    both = (steady != _NEVER) & (fresh != _NEVER)
    steady[both] = np.maximum(steady, fresh)[both]  # a silence too short to count is no steadiness yet
    return ConsumerRecovery(
        detected=_spread(detected, act.injected_ns, missing=None),
        first_byte=_spread(byte, act.healed_ns, missing=cut_off),
        first_fresh=_spread(fresh, act.healed_ns, missing=cut_off),
        steady=_spread(steady, act.healed_ns, missing=cut_off),
        distribution={"first_fresh": _thinned(fresh, act.healed_ns), "steady": _thinned(steady, act.healed_ns)},
        slowest=_slowest(contract, seen, fresh, act.healed_ns),
    )


def _concerned(contract: Contract, plan: Planned, act: Act) -> list[int]:
    family = np.array([r.family for r in contract.routes], dtype=np.int64)
    families = act.families or frozenset(range(len(contract.profile.families)))
    wanted: list[int] = []
    for group, slots in enumerate(plan.slots):
        spec = contract.profile.consumers[group]
        if spec.expect_slow:
            continue
        alike = spec.subscribe.symbol_share >= 1
        same: bool | None = None
        for slot in slots[: plan.count_at(act.began_ns or 0, group)]:
            if same is None or not alike:
                same = bool(families & {int(family[r]) for r in contract.consumer(slot).routes})
            if same:
                wanted.append(slot)
    return wanted


def _silent(contract: Contract, table: Streams, seen: Slices) -> Bools:
    """Slices in which a consumer received nothing for as long as `_EXPECTED` messages were due for it."""
    high = seen.low + seen.count.shape[1]
    before = seen.low - _BEFORE
    inside = (table.due >= before) & (table.due < high)
    due, route, n = table.due[inside] - before, table.route_of[table.stream][inside], (table.end - table.start)[inside]
    width_of: dict[frozenset[int], int] = {}
    routes_of: dict[int, frozenset[int]] = {}
    silent = np.zeros(seen.count.shape, dtype=np.bool_)
    for row, consumer in enumerate(seen.consumers):
        group, spec = contract.consumer_group(consumer)
        routes = routes_of.get(group)
        if routes is None or spec.subscribe.symbol_share < 1:
            routes = routes_of[group] = contract.consumer(consumer).routes
        width = width_of.get(routes)
        if width is None:
            mine = np.isin(route, np.array(sorted(routes), dtype=np.int64))
            calm = int(n[mine & (due < _BEFORE)].sum())
            per_slice = calm / _BEFORE if calm else int(n[mine].sum()) / (high - before)
            width = width_of[routes] = max(1, -int(-_EXPECTED // per_slice)) if per_slice else 10**9
        silent[row] = _long_runs(seen.count[row] == 0, width)
    return silent


def _long_runs(marks: Bools, width: int) -> Bools:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], marks.astype(np.int64), [0]))))
    found = np.zeros(len(marks), dtype=np.bool_)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if end - start >= width:
            found[start:end] = True
    return found


def _detected(subs: Subscriptions, act: Act, seen: Slices, silent: Bools, limit_ms: float | None) -> Ints:
    """First silence, error or message beyond the band's latency after the fault began; _NEVER where there was none."""
    assert act.injected_ns is not None
    assert act.began_ns is not None
    until = act.end_ns or act.injected_ns
    moments = np.full(silent.shape, 2**62, dtype=np.int64)
    starts = (seen.low + np.arange(silent.shape[1])) * SLICE_NS
    moments = np.where(silent, np.maximum(starts, act.injected_ns)[None, :], moments)
    if limit_ms is not None:
        moments = np.where(seen.worst > limit_ms * 1e6, np.maximum(seen.first, act.injected_ns), moments)
    found = moments.min(axis=1, initial=2**62)
    for row, consumer in enumerate(seen.consumers):
        for epoch_end, why in (v for (c, _), v in _left_of(subs, consumer)):
            if why not in OWN and act.began_ns <= epoch_end <= until:
                found[row] = min(found[row], max(epoch_end, act.injected_ns))
    return np.where(found > until, _NEVER, found)


def _left_of(subs: Subscriptions, consumer: int) -> list[tuple[tuple[int, int], tuple[int, str]]]:
    epochs = range(len(subs.intervals.get(consumer, ())) + 64)
    return [((consumer, e), subs.left[consumer, e]) for e in epochs if (consumer, e) in subs.left]


def _first(seen: Slices, from_ns: int, until_ns: int, there: Bools, sure: Bools) -> Ints:
    """First moment at which something was there: a slice's first message where that surely is one, else its last."""
    # A consumer that received up to the moment itself and right on has its slice's last message as the bound.
    moment = np.where(there, np.where(sure, seen.first, seen.last), 2**62)
    moment = np.where(moment >= from_ns, moment, 2**62)
    found = moment.min(axis=1, initial=2**62)
    return np.where(found > until_ns, _NEVER, found)


def _good(facts: Facts, contract: Contract, subs: Subscriptions, seen: Slices, silent: Bools) -> Bools:
    """Slices without silence, gap or late message, and with a subscription."""
    late_ns = round(contract.profile.run.late_s * 1e9)
    good: Bools = ~silent & (seen.worst <= late_ns)
    where = {c: i for i, c in enumerate(seen.consumers)}
    width = good.shape[1]
    for _, process in facts.each():
        kind, consumer, _, _, _, _, at = process.deviations.numpy()
        index = at // SLICE_NS - seen.low
        for i in np.flatnonzero((kind == KIND_CODE["gap"]) & (index >= 0) & (index < width)):
            row = where.get(int(consumer[i]))
            if row is not None:
                good[row, index[i]] = False
    for row, consumer_ in enumerate(seen.consumers):
        subscribed = np.zeros(width, dtype=np.bool_)
        for start, end in subs.spans(consumer_):
            first = max(start // SLICE_NS - seen.low, 0)
            last = width if end is None else max(end // SLICE_NS - seen.low, 0)
            subscribed[first:last] = True
        good[row] &= subscribed
    return good


def _steady(seen: Slices, good: Bools, act: Act, hold: int) -> Ints:
    """Start of the first stretch of the hold time, from the healing on."""
    assert act.healed_ns is not None
    at = max(act.healed_ns // SLICE_NS - seen.low, 0)
    last = (act.healed_ns + act.limit_ns) // SLICE_NS - seen.low
    found = np.full(len(seen.consumers), _NEVER, dtype=np.int64)
    width = good.shape[1]
    total = np.concatenate((np.zeros((len(found), 1), dtype=np.int64), np.cumsum(good, axis=1)), axis=1)
    if width < hold:
        return found
    held: Bools = np.equal(total[:, hold:], total[:, :-hold] + hold)
    held[:, : min(at, held.shape[1])] = False
    held = held[:, : last + 1]
    for row in np.flatnonzero(held.any(axis=1)):
        start = int(np.argmax(held[row]))
        began = (seen.low + start) * SLICE_NS
        if start > 0 and not good[row, start - 1] and seen.count[row, start]:
            began = max(began, int(seen.first[row, start]))
        found[row] = max(began, act.healed_ns)
    return found


def _values(moments: Ints, from_ns: int) -> Floats:
    values: Floats = np.sort(np.maximum(moments[moments != _NEVER] - from_ns, 0)) / NS_PER_S
    return values


def _spread(moments: Ints, from_ns: int, *, missing: bool | None) -> ConsumerSpread:
    """`missing`: None where not to have felt it is no failure; True where the data end before the limit does."""
    values = _values(moments, from_ns)
    absent = int((moments == _NEVER).sum())
    not_recovered = 0 if missing is None else None if missing and absent else absent
    if not len(values):
        return ConsumerSpread(p50=None, p95=None, max=None, not_recovered=not_recovered)

    def rank(q: float) -> float:
        return round(float(values[max(int(np.ceil(q * len(values))) - 1, 0)]), 6)

    return ConsumerSpread(p50=rank(0.5), p95=rank(0.95), max=rank(1.0), not_recovered=not_recovered)


def _thinned(moments: Ints, from_ns: int) -> list[float]:
    values = _values(moments, from_ns)
    if len(values) > _POINTS:
        values = values[np.round(np.linspace(0, len(values) - 1, _POINTS)).astype(np.int64)]
    return [round(float(v), 6) for v in values]


def _slowest(contract: Contract, seen: Slices, fresh: Ints, from_ns: int) -> list[str]:
    order = sorted(range(len(fresh)), key=lambda i: (fresh[i] != _NEVER, -int(fresh[i]), i))
    lines = []
    for i in order[:5]:
        name = contract.consumer_group(seen.consumers[i])[1].name
        when = (
            f"first fresh {max(int(fresh[i]) - from_ns, 0) / NS_PER_S:.2f} s" if fresh[i] != _NEVER else "never fresh"
        )
        lines.append(f"consumer {seen.consumers[i]} ({name}): {when}")
    return lines
