"""Of which consumers can the account say nothing, and which slices are excluded?  Harness trouble, with its scope."""

from __future__ import annotations

from collections.abc import Collection

from loadtests.measure.accounts import Sights
from loadtests.measure.history_tables import HistoryTables
from loadtests.measure.subscriptions import SubscriptionTable
from loadtests.model.ids import SLICE_NS

FOREVER = 2**40


class Scopes:
    """Scopes of a history's trouble, as far as they concern the account."""

    def __init__(
        self,
        facts: HistoryTables,
        subs: SubscriptionTable,
        views: Sights,
        received: dict[str, int],
        late_slices: int,
        damaged: Collection[str],
    ) -> None:
        self._subs, self._views = subs, views
        self.epochs: dict[int, list[int]] = {}
        known = {(c, i.epoch) for c, intervals in subs.intervals.items() for i in intervals} | set(views.of)
        for consumer, epoch in sorted(known):
            self.epochs.setdefault(consumer, []).append(epoch)
        self._late = late_slices
        self._damaged = damaged
        self._trouble = [(t.process, t) for _, p in facts.each() for t in p.trouble]
        self._open = {name for name, f in facts.each() if views.closed_unique.get(name, 0) != received.get(name, 0)}
        self._missing = {
            place
            for consumer, epochs in self.epochs.items()
            for place in ((consumer, e) for e in epochs)
            if place not in views.of
        }
        self.wrong: list[str] = self._sums(facts, received)

    def _sums(self, facts: HistoryTables, received: dict[str, int]) -> list[str]:
        found = []
        lacking = {p for c, _ in self._missing for p in self._subs.processes_of.get(c, ())}
        for name in facts.names:
            closed, came = self._views.closed_unique.get(name, 0), received.get(name, 0)
            if closed != came and name not in lacking:
                found.append(f"{name}: {came} unique deliveries counted, {closed} in the closings")
        for (consumer, epoch), sight in sorted(self._views.of.items()):
            found.extend(f"consumer {consumer} epoch {epoch}, {line}" for line in sight.wrong[:1])
        return found

    def why_not(self, consumer: int, epochs: list[int]) -> str | None:
        """Why nothing can be said of a consumer, or None."""
        if consumer not in self._subs.group_of:
            return "the history has no subscription of it"
        if damaged := sorted(self._subs.processes_of[consumer].intersection(self._damaged)):
            return f"records of {damaged[0]} are missing"
        if consumer in self._subs.unknown_routes:
            return "the history lacks the routes that it subscribed to"
        for epoch in epochs:
            place = (consumer, epoch)
            sight = self._views.of.get(place)
            if sight is None:
                # It left, and its process counted no delivery beyond the closings there are: it received nothing.
                ended = place in self._subs.left and not self._open & self._subs.processes_of[consumer]
                if not ended:
                    return f"the closing of its connection {epoch} is missing"
            elif sight.wrong:
                return f"its tally does not add up: {sight.wrong[0]}"
            elif place in self._views.at_least:
                return "a budget was exceeded: its counts are lower bounds"
            elif place in self._views.twice:
                return f"the closing of its connection {epoch} is there twice"
        return None

    def excluded(self, consumer: int) -> tuple[tuple[int, int], ...]:
        """Sent slices (inclusive) whose delivery to a consumer harness trouble may have hidden."""
        processes = self._subs.processes_of.get(consumer, set())
        found = set()
        for process, t in self._trouble:
            if process in processes and (not t.consumers or consumer in t.consumers):
                last = FOREVER if t.to_ns < 0 else t.to_ns // SLICE_NS
                found.add((t.from_ns // SLICE_NS - self._late, last))
        return tuple(sorted(found))
