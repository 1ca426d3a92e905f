"""Why had a consumer no subscription, from when to when?  The cause is what ended it and keeps it from returning.

What is offered to a consumer while it is away is no loss only where our plan or our own trouble kept it away.  So
each absence is cut into stretches of one cause:

- *own plan*: it left by the plan, was moved by Locust, played a fault, or was not planned yet.  That ends at the
  target's first refusal or close after the return was tried.
- *charged*: a fault on its path was in force, or not yet recovered from, when the connection ended.  That ends with the
  fault's recovery limit.
- *harness*: the load generator was in trouble when the connection ended, ended it by a limit of its own, or never
  tried.
- *disconnected*: the rest.  The target ended the connection or refused it; while our own back-off waits it still did.

Example: a link is cut from 5 s to 7 s with a recovery limit of 6 s, and one client is never let in again.  From 5 s to
13 s its absence is charged to the cut, from 13 s on the client is disconnected by the target.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from loadtests.measure.fault_windows import Times
from loadtests.measure.history_tables import Bools
from loadtests.measure.phases import Window
from loadtests.measure.subscriptions import PLANNED, Planned, SubscriptionTable
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.records import HARNESS as OURS

OWN_PLAN, CHARGED, HARNESS, DISCONNECTED = range(4)
CAUSES: Final = ("own_plan", "charged", "harness", "disconnected")
_EVER: Final = 2**62
_STALL_NS: Final = NS_PER_S
"""A connection that ends so soon after a stall of ours may have been ended because of it."""


class Absence(NamedTuple):
    """One stretch without a subscription, of one cause, in nanoseconds of the run clock."""

    from_ns: int
    to_ns: int
    cause: int


class Absences:
    """The absences of a history's consumers."""

    def __init__(
        self,
        contract: Contract,
        subs: SubscriptionTable,
        plan: Planned,
        windows: list[Window],
        times: Times,
        ours: Bools,
        low: int,
    ) -> None:
        self._contract, self._subs, self._plan, self._windows = contract, subs, plan, windows
        self._times, self._ours, self._low = times, ours, low
        self._limit_ns = round(contract.profile.recovery.limit_s * NS_PER_S)
        self._place = {slot: (group, at) for group, slots in enumerate(plan.slots) for at, slot in enumerate(slots)}
        family = [route.family for route in contract.routes]
        self._families: dict[frozenset[int], frozenset[int]] = {}
        self._family = family

    def of(self, consumer: int, routes: frozenset[int]) -> tuple[Absence, ...]:
        """Stretches of a consumer with these routes, ascending and without overlap, from T0 to the end."""
        spans = self._subs.spans(consumer)
        windows = self._concerning(consumer, routes)
        from_ns = np.array([w.from_ns for w in windows], dtype=np.int64)
        reach_ns = np.array([max(_charged_to(w), w.healed_ns, w.to_ns) for w in windows], dtype=np.int64)
        reasons = {i.to_ns: i.why for i in self._subs.intervals.get(consumer, ())}
        found: list[Absence] = []
        begin, why = self._times.t0_ns, ""
        for start, end in [*spans, (self._times.end_ns, None)]:
            if start > begin:
                near = [windows[i] for i in np.flatnonzero((from_ns < start) & (reach_ns > begin)).tolist()]
                found += self._absence(consumer, near, begin, start, why)
            if end is None:
                break
            begin = max(begin, end)
            why = reasons.get(end, "")
        return tuple(found)

    def target_refused(self, consumer: int, from_ns: int, to_ns: int) -> list[tuple[int, str]]:
        """When and with which words the target ended or refused connections of a consumer in a stretch."""
        return [
            (at, f"{why}: {detail}" if detail else why)
            for at, why, detail in self._subs.ends.of(consumer)
            if from_ns <= at <= to_ns and why not in PLANNED
        ]

    def _concerning(self, consumer: int, routes: frozenset[int]) -> list[Window]:
        families = self._families.get(routes)
        if families is None:
            families = self._families[routes] = frozenset(self._family[r] for r in routes)
        return [
            w
            for w in self._windows
            if (consumer in w.fault.consumers if w.fault.consumers is not None else bool(families & w.fault.families))
        ]

    def _absence(self, consumer: int, windows: list[Window], from_ns: int, to_ns: int, why: str) -> Iterator[Absence]:
        """The stretches of one absence; `why` is empty where no subscription came before it."""
        played = [w for w in windows if w.fault.consumers is not None and w.from_ns <= from_ns < _charged_to(w)]
        if why in PLANNED or played:
            tried_ns = max((w.healed_ns for w in played), default=from_ns)
            cause = HARNESS if why == OURS else OWN_PLAN
            yield from self._planned(consumer, windows, from_ns, to_ns, tried_ns, cause)
        elif why:
            yield from self._by_target(windows, from_ns, to_ns)
        else:
            planned_ns = self._planned_from(consumer, from_ns)
            if planned_ns > from_ns:
                yield from self._planned(consumer, windows, from_ns, to_ns, planned_ns, OWN_PLAN)
            elif self.target_refused(consumer, 0, to_ns):
                yield from self._by_target(windows, from_ns, to_ns)
            else:
                yield Absence(from_ns, to_ns, HARNESS)

    def _planned(
        self, consumer: int, windows: list[Window], from_ns: int, to_ns: int, tried_ns: int, cause: int
    ) -> Iterator[Absence]:
        """An absence that began by our plan or by a limit of ours; `tried_ns`: before that it did not try to return."""
        refused = self.target_refused(consumer, max(tried_ns, from_ns + 1), to_ns)
        until_ns = min(refused[0][0] if refused else to_ns, to_ns)
        yield Absence(from_ns, until_ns, cause)
        yield from self._by_target(windows, until_ns, to_ns)

    def _planned_from(self, consumer: int, at_ns: int) -> int:
        """From when on the user count has room for a consumer that is not there."""
        group, place = self._place.get(consumer, (0, 0))
        if consumer not in self._place or self._plan.count_at(at_ns, group) > place:
            return at_ns
        return next((at for at, counts in self._plan.counts if at > at_ns and counts[group] > place), _EVER)

    def _by_target(self, windows: list[Window], from_ns: int, to_ns: int) -> Iterator[Absence]:
        """What follows when a connection ended that was not to end."""
        if from_ns >= to_ns:
            return
        at = from_ns
        # A consumer that is thrown out after the run was steady again is no part of the fault's recovery.
        reach = max((_charged_to(w) for w in windows if w.from_ns <= at < w.to_ns), default=at)
        while (further := max((_charged_to(w) for w in windows if at <= w.from_ns < reach), default=reach)) > reach:
            reach = further
        if reach > at:
            yield Absence(at, min(reach, to_ns), CHARGED)
        elif self._stalled(at):
            reach = at + self._limit_ns
            yield Absence(at, min(reach, to_ns), HARNESS)
        at = reach
        # A later fault explains nothing of what began before it, but no consumer can come back while it is in force.
        for window in sorted(windows, key=lambda w: w.from_ns):
            if at < to_ns and window.from_ns < to_ns and window.healed_ns > at:
                begin = max(window.from_ns, at)
                if begin > at:
                    yield Absence(at, begin, DISCONNECTED)
                at = min(window.healed_ns, to_ns)
                yield Absence(begin, at, CHARGED)
        if at < to_ns:
            yield Absence(at, to_ns, DISCONNECTED)

    def _stalled(self, at_ns: int) -> bool:
        first, last = ((at - self._low * SLICE_NS) // SLICE_NS for at in (at_ns - _STALL_NS, at_ns))
        return bool(self._ours[max(first, 0) : max(last + 1, 0)].any())


def _charged_to(window: Window) -> int:
    """When the recovery limit of a window's fault has passed."""
    return _EVER if window.fault.end_ns is None else max(window.fault.end_ns, window.healed_ns)
