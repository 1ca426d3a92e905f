"""How did each consumer feel a fault: when did it notice, and when did bytes, fresh messages and steadiness come back?

Theory of operation.  While a fault or its recovery is open, the tally keeps a row for every consumer and slice
(`Touched`) and the exact firsts since the healing (`FirstAfter`).  They become arrays consumer x slice; up to the first
slice in which the rows hold fewer messages than came, the absence of a row is a silence.  Per consumer:

    detected  first silence, error or message beyond the band's latency since the injection
    byte      first message since the healing, however old
    fresh     first message that was *due* after the healing
    steady    begin of the first hold time without silence, gap or late message, and with a subscription

Example: a cut is healed at 12.0 s; three consumers were owed frames due at 11.8, 12.1, 12.4 and 12.7 s.

    A  got all four from 12.3 s on                         byte 12.3, fresh 12.3, steady 12.3
    B  got the last two, from 12.6 s on                    byte 12.6, fresh 12.6, steady 12.6; the gap spoils slice 12.1
    C  got nothing                                         NEVER: not recovered, if it was owed anything

Invariants: injected <= detected, healed <= byte <= fresh <= steady; a gap stands where the missing message was due,
whenever a later one showed it; where the data end too early, nothing is said.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np

from loadtests.measure.absences import HARNESS, OWN_PLAN
from loadtests.measure.deliveries import Deliveries
from loadtests.measure.fault_windows import FaultWindow, Times
from loadtests.measure.history_tables import FIRST_CODE, LATE_NOT_TOLD, Bools, HistoryTables, Ints, sums_at
from loadtests.measure.interval_set import runs_of
from loadtests.measure.ledger import Ledger
from loadtests.measure.streams import StreamTable
from loadtests.measure.subscriptions import OWN, Planned, SubscriptionTable
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_S, SLICE_NS


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
    late: Ints  # last moment at which something came late; LATE_NOT_TOLD where an old history does not say


class Touches:
    """The touched rows of a history, asked for stretch by stretch: round each fault there are many."""

    def __init__(self, facts: HistoryTables, came: Deliveries, low: int, high: int) -> None:
        self._parts = [p.touched for _, p in facts.each()]
        self._low = low
        here = came.counts & (came.received >= low) & (came.received < high)
        self._came = sums_at(came.received[here] - low, (came.unique + came.repeated)[here], high - low)
        self._last: tuple[tuple[int, int], Ints] | None = None

    def __bool__(self) -> bool:
        return any(len(part) for part in self._parts)

    def rows(self, first: int, last: int) -> Ints:
        """Rows of slices from one to before another, one for each slice and consumer."""
        if self._last is None or self._last[0] != (first, last):
            rows = np.concatenate([part.between(0, first, last) for part in self._parts], 1)
            # A slice is told twice where a deviating consumer's row came before the fault was announced.
            rows = rows[:, np.lexsort((-rows[2], rows[1], rows[0]))]
            if rows.shape[1]:
                again = (np.diff(rows[0]) == 0) & (np.diff(rows[1]) == 0)
                rows = rows[:, np.concatenate(([True], ~again))]
            self._last = (first, last), rows
        return self._last[1]

    def complete_until(self, first: int, last: int) -> int:
        """First slice from `first` on in which more came than the rows tell, at most `last`."""
        rows = self.rows(first, last)
        low, high = (min(max(at - self._low, 0), len(self._came)) for at in (first, last))
        inside = (rows[0] >= low + self._low) & (rows[0] < high + self._low)
        told = sums_at(rows[0][inside] - self._low - low, rows[2][inside], max(high - low, 0))
        bad = np.flatnonzero(told < self._came[low:high])
        return int(bad[0]) + first if len(bad) else last


def slices(rows: Ints, consumers: list[int], low: int, high: int) -> Slices:
    """Rows as arrays; there is one at most for each slice and consumer."""
    shape = (len(consumers), high - low)
    count, last, worst, late = (np.zeros(shape, dtype=np.int64) for _ in range(4))
    first, due = np.full(shape, 2**62, dtype=np.int64), np.full(shape, -(2**62), dtype=np.int64)
    known = np.array(sorted(consumers), dtype=np.int64)
    rows = rows[:, (rows[0] >= low) & (rows[0] < high) & np.isin(rows[1], known)]
    at = (np.searchsorted(known, rows[1]), rows[0] - low)
    count[at], first[at], due[at] = rows[2], rows[3], rows[5]
    last[at], worst[at] = np.maximum(rows[4], 0), np.maximum(rows[6], 0)
    late[at] = np.where(rows[7] == LATE_NOT_TOLD, LATE_NOT_TOLD, np.maximum(rows[7], 0))
    return Slices(
        low=low, consumers=sorted(consumers), count=count, first=first, last=last, due=due, worst=worst, late=late
    )


def firsts(facts: HistoryTables, healed_ns: int, kind: int, consumers: list[int]) -> Ints:
    """Per consumer the exact moment of its first message since a fault was healed; -1 where nothing says it."""
    found = np.full(len(consumers), 2**62, dtype=np.int64)
    known = np.array(consumers, dtype=np.int64)
    for _, process in facts.each():
        healed, code, consumer, at = process.first_after.numpy()
        mine = (healed == healed_ns) & (code == kind) & np.isin(consumer, known)
        np.minimum.at(found, np.searchsorted(known, consumer[mine]), at[mine])
    return np.where(found == 2**62, -1, found)


NEVER = -1
_BEFORE = 50
"""Slices before a fault that say how often messages come."""
_EXPECTED = 5
"""A consumer is silent when nothing came for as long as so many messages were planned for it, one slice at least."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Felt:
    """One fault as its consumers felt it: moments of the run clock, NEVER where there was none."""

    fault: str
    injected_ns: int
    healed_ns: int
    limit_ns: int
    consumers: list[int]
    detected: Ints
    byte: Ints
    fresh: Ints
    steady: Ints
    counts: Bools  # who could come back: something was due for it, and neither our plan nor our trouble kept it away
    open: Bools  # not steady as far as the data go, but they end before that is decided
    cut_off: bool  # the data end before the recovery limit does


def felt(
    facts: HistoryTables,
    contract: Contract,
    table: StreamTable,
    subs: SubscriptionTable,
    plan: Planned,
    ledger: Ledger,
    found: Touches,
    fault: FaultWindow,
    times: Times,
    *,
    limit_ms: float | None,
    next_ns: int | None,
) -> Felt | None:
    """One fault, for all consumers with a route over its link, or all where none has; None where nothing is known."""
    if fault.began_ns is None or fault.injected_ns is None or fault.healed_ns is None:
        return None
    who = _concerned(contract, plan, fault)
    low = fault.began_ns // SLICE_NS
    hold = round(contract.profile.steady.hold_s * NS_PER_S) // SLICE_NS
    end_ns = min(
        [fault.healed_ns + fault.limit_ns + hold * SLICE_NS, times.plan_end_ns] + ([next_ns] if next_ns else [])
    )
    last = max(end_ns // SLICE_NS, low)
    high = found.complete_until(low, last)
    if high <= fault.healed_ns // SLICE_NS + 1 or not found:
        return None
    seen = slices(found.rows(low, last), who, low, high)
    silent = _silent(contract, table, seen)
    byte = _first(facts, seen, fault, "byte", seen.last >= fault.healed_ns, seen.first >= fault.healed_ns)
    sure = seen.first - seen.worst >= fault.healed_ns
    fresh = _first(facts, seen, fault, "fresh", (seen.due >= fault.healed_ns) & (seen.count > 0), sure)
    good, since = _good(contract, table, subs, ledger, seen, silent)
    steady, open_ = _steady(seen, good, since, fault, hold)
    # A silence too short to count is no steadiness yet, and one in which nothing fresh ever came is none at all.
    steady = np.where((steady == NEVER) | (fresh == NEVER), NEVER, np.maximum(steady, fresh))
    cut_off = high < (fault.healed_ns + fault.limit_ns) // SLICE_NS
    return Felt(
        fault=fault.name,
        injected_ns=fault.injected_ns,
        healed_ns=fault.healed_ns,
        limit_ns=fault.limit_ns,
        consumers=seen.consumers,
        detected=_detected(subs, fault, seen, silent, limit_ms),
        byte=byte,
        fresh=fresh,
        steady=steady,
        counts=_counting(contract, table, ledger, fault, seen.consumers),
        open=(steady == NEVER) & (open_ & (fresh != NEVER) | cut_off),
        cut_off=cut_off,
    )


def _concerned(contract: Contract, plan: Planned, fault: FaultWindow) -> list[int]:
    families = fault.families or frozenset(range(len(contract.profile.families)))
    wanted: list[int] = []
    concerned: dict[frozenset[int], bool] = {}
    if fault.consumers is not None:
        return sorted(fault.consumers)
    for group, slots in enumerate(plan.slots):
        if contract.profile.consumers[group].expect_slow:
            continue
        for slot in slots:
            routes = contract.consumer_routes(slot)
            if routes not in concerned:
                concerned[routes] = not families.isdisjoint(contract.routes[r].family for r in routes)
            if concerned[routes]:
                wanted.append(slot)
    return wanted


def _silent(contract: Contract, table: StreamTable, seen: Slices) -> Bools:
    """Slices in which a consumer received nothing for as long as `_EXPECTED` messages were due for it."""
    high = seen.low + seen.count.shape[1]
    before = seen.low - _BEFORE
    inside = (table.due >= before) & (table.due < high)
    due, route, n = table.due[inside] - before, table.route_of[table.stream][inside], (table.end - table.start)[inside]
    width_of: dict[frozenset[int], int] = {}
    silent = np.zeros(seen.count.shape, dtype=np.bool_)
    for row, routes in enumerate(map(contract.consumer_routes, seen.consumers)):
        width = width_of.get(routes)
        if width is None:
            mine = np.isin(route, np.array(sorted(routes), dtype=np.int64))
            calm = int(n[mine & (due < _BEFORE)].sum())
            per_slice = calm / _BEFORE if calm else int(n[mine].sum()) / (high - before)
            width = width_of[routes] = max(1, -int(-_EXPECTED // per_slice)) if per_slice else 10**9
        silent[row] = _long_runs(seen.count[row] == 0, width)
    return silent


def _long_runs(marks: Bools, width: int) -> Bools:
    found = np.zeros(len(marks), dtype=np.bool_)
    for start, end in runs_of(marks):
        if end - start >= width:
            found[start:end] = True
    return found


def _detected(subs: SubscriptionTable, fault: FaultWindow, seen: Slices, silent: Bools, limit_ms: float | None) -> Ints:
    """First silence, error or message beyond the band's latency after the fault began; NEVER where there was none."""
    assert fault.injected_ns is not None
    assert fault.began_ns is not None
    until = fault.end_ns or fault.injected_ns
    moments = np.full(silent.shape, 2**62, dtype=np.int64)
    starts = (seen.low + np.arange(silent.shape[1])) * SLICE_NS
    moments = np.where(silent, np.maximum(starts, fault.injected_ns)[None, :], moments)
    if limit_ms is not None:
        moments = np.where(seen.worst > limit_ms * 1e6, np.maximum(seen.first, fault.injected_ns), moments)
    found = moments.min(axis=1, initial=2**62)
    ends, who = subs.ends, np.array(seen.consumers, dtype=np.int64)
    there = ends.last & (ends.at_ns >= fault.began_ns) & (ends.at_ns <= until) & ~ends.because(OWN)
    there &= np.isin(ends.consumer, who)
    row = np.searchsorted(who, ends.consumer[there])
    np.minimum.at(found, row, np.maximum(ends.at_ns[there], fault.injected_ns))
    return np.where(found > until, NEVER, found)


def _first(facts: HistoryTables, seen: Slices, fault: FaultWindow, kind: str, there: Bools, sure: Bools) -> Ints:
    """First moment since the healing at which something was there: the exact one where a record tells it.

    Else a slice's first message where that surely is one, and its last as the bound where it may not be.
    """
    assert fault.healed_ns is not None
    until_ns = min(fault.healed_ns + fault.limit_ns, (seen.low + there.shape[1]) * SLICE_NS - 1)
    moment = np.where(there, np.where(sure, seen.first, seen.last), 2**62)
    moment = np.where(moment >= fault.healed_ns, moment, 2**62)
    found = moment.min(axis=1, initial=2**62)
    told_ns = fault.healed_ns if fault.lifted_ns is None else fault.lifted_ns
    exact = firsts(facts, told_ns, FIRST_CODE[kind], seen.consumers)
    # Consumers are told when the lifting is read back: where a fault counts from earlier on, that is a bound as well.
    exact = exact if told_ns == fault.healed_ns else np.where(exact >= 0, np.minimum(exact, found), -1)
    found = np.where(exact >= 0, exact, found)
    return np.where(found > until_ns, NEVER, found)


def _good(
    contract: Contract, table: StreamTable, subs: SubscriptionTable, ledger: Ledger, seen: Slices, silent: Bools
) -> tuple[Bools, Ints]:
    """Slices without silence, gap or late message, and with a subscription.

    With them, of a slice that only a gap or a late message spoilt, the moment since which it was good; else -1.
    """
    late_ns = round(contract.profile.run.late_s * 1e9)
    late = seen.worst > late_ns
    since = np.where(late, seen.late, LATE_NOT_TOLD)
    spoilt: Bools = silent | (late & (since <= 0))
    width = spoilt.shape[1]
    gaps: dict[int, Ints] = {}  # consumers that miss the same share one line
    for row, consumer in enumerate(seen.consumers):
        if (line := ledger.missing.get(consumer)) is not None:
            if id(line) not in gaps:
                due = np.unique(table.due[table.cut(line)[0]])
                gaps[id(line)] = due[(due >= seen.low) & (due < seen.low + width)]
            due = gaps[id(line)]
            # Of a due time the slice is known: its middle is at most half a slice off.
            since[row, due - seen.low] = np.maximum(since[row, due - seen.low], due * SLICE_NS + SLICE_NS // 2)
        subscribed = np.zeros(width, dtype=np.bool_)
        for start, end in subs.spans_within(consumer, seen.low * SLICE_NS, (seen.low + width) * SLICE_NS):
            first = max(start // SLICE_NS - seen.low, 0)
            last = width if end is None else max(end // SLICE_NS - seen.low, 0)
            subscribed[first:last] = True
        spoilt[row] |= ~subscribed
    return ~spoilt & (since < 0), np.where(spoilt, -1, since)


def _counting(
    contract: Contract, table: StreamTable, ledger: Ledger, fault: FaultWindow, consumers: list[int]
) -> Bools:
    """Which consumers could have shown within the limit that they are back."""
    assert fault.healed_ns is not None
    from_ns, until_ns = fault.healed_ns, fault.healed_ns + fault.limit_ns
    # What is due at the very end of the limit may come after it.
    spare_ns = min(round(contract.profile.run.late_s * NS_PER_S), fault.limit_ns // 2)
    due_ns = table.due * SLICE_NS
    rows = (due_ns >= from_ns) & (due_ns + SLICE_NS + spare_ns <= until_ns) & (table.ok_count > 0)
    offered = frozenset(np.unique(table.route_of[table.stream[rows]]).tolist())
    found = np.zeros(len(consumers), dtype=np.bool_)
    for row, consumer in enumerate(consumers):
        absences = ledger.away.get(consumer, ())
        first = bisect_right(absences, from_ns, key=lambda a: a.to_ns)
        away = absences[first : bisect_left(absences, until_ns, key=lambda a: a.from_ns)]
        # A consumer that left by our plan and was refused when it returned is kept away by the target.
        ours = bool(away) and away[-1].cause in (OWN_PLAN, HARNESS)
        found[row] = not ours and not offered.isdisjoint(contract.consumer_routes(consumer))
    return found


def _steady(seen: Slices, good: Bools, since: Ints, fault: FaultWindow, hold: int) -> tuple[Ints, Bools]:
    """Start of the first stretch of the hold time, from the healing on; and whose only one was cut off."""
    assert fault.healed_ns is not None
    at = max(fault.healed_ns // SLICE_NS - seen.low, 0)
    last = (fault.healed_ns + fault.limit_ns) // SLICE_NS - seen.low
    found = np.full(len(seen.consumers), NEVER, dtype=np.int64)
    width = good.shape[1]
    bad_at = np.where(good, -1, np.arange(width)).max(axis=1, initial=-1)
    tail = np.maximum(bad_at + 1, at)
    unfinished: Bools = (tail < width) & (tail <= last) & (width - tail < hold)
    if width < hold:
        return found, unfinished
    total = np.concatenate((np.zeros((len(found), 1), dtype=np.int64), np.cumsum(good, axis=1)), axis=1)
    held: Bools = np.equal(total[:, hold:], total[:, :-hold] + hold)
    held[:, : min(at, held.shape[1])] = False
    held = held[:, : last + 1]
    for row in np.flatnonzero(held.any(axis=1)):
        start = int(np.argmax(held[row]))
        began = (seen.low + start) * SLICE_NS
        if start > 0 and not good[row, start - 1]:
            if since[row, start - 1] >= 0:
                began = int(since[row, start - 1])
            elif seen.count[row, start]:
                began = max(began, int(seen.first[row, start]))
        found[row] = max(began, fault.healed_ns)
    return found, unfinished
