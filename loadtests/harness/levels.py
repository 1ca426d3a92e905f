"""How does a run go by levels?  `LevelPlayer` tells each one before it begins, waits, and judges it by live figures.

The choice of the next level needs an answer at once, so the live figures give it (`LiveLevel`); what a level was worth
is judged again from the stored history, by the limits of the profile (`measure.levels`), and that is what counts.

A level costs settle + hold + gap.  The gap ends when what was sent has come, so that no level inherits the backlog of
the one before it: behind one that offered twice what the target can do lie seconds of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from loadtests.model.capacity import Judged, asked_of
from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.profile.fault_times import UNDER_CALM_S
from loadtests.model.profile.rules import QUANTILES, offered_per_s
from loadtests.model.profile.tables import Threshold
from loadtests.model.profile.threshold_rules import limits
from loadtests.model.records import Consumed, HarnessSecond, Level, Published, PublishTimes
from loadtests.plan.pacing import GAP_FACTOR
from loadtests.plan.schedule import of_level
from loadtests.plan.search import Search, Step
from loadtests.tally.histogram import Histogram

if TYPE_CHECKING:
    from loadtests.harness.run import ActiveRun

LEAD_NS = 3 * NS_PER_S // 2
"""From telling a level to its beginning, so that it reaches every worker before."""
GAP_S = 3.0
"""A gap takes at least so long: until then not all of what the level did is told."""
DRAIN_S = 60.0
"""A backlog that is still there so long after a level ends the search."""
DRAINED, SAME = 1.2, 0.8
"""A backlog is gone at so many times what a calm gap has; it falls no more where it stays above this share."""
KIND_WORDS = {"settle-in": "warming up", "search": "searching", "long": "long hold", "control": "control hold"}


class LiveLevel:
    """What is known by now of the level that is played; folded in the writer's thread, under the fold's lock."""

    def __init__(self, hold_ns: int, to_ns: int) -> None:
        self._hold_ns, self._to_ns = hold_ns, to_ns
        self.owed = self.delivered = self.published = self.not_offered = 0
        self.latency: defaultdict[int, Histogram] = defaultdict(Histogram)  # by group, as `Consumed` has it
        self.own_lag = Histogram()
        self.saturated = False

    def _holds(self, due_slice: int) -> bool:
        return self._hold_ns <= due_slice * SLICE_NS < self._to_ns

    def add(self, record: object, followers: Callable[[int], int]) -> None:
        """Fold a record; `followers` of a stream as they are now."""
        match record:
            case Published():
                rows = zip(record.stream, record.due_slice, record.first, record.last, strict=True)
                for stream, due, first, last in rows:
                    if self._holds(due):
                        self.published += last - first + 1
                        self.owed += (last - first + 1) * followers(stream)
            case Consumed() if self._holds(record.due_slice):
                self.delivered += record.unique
                if record.clock == "read":
                    self.latency[record.group].merge(record.latency)
            case PublishTimes() if self._holds(record.due_slice):
                self.not_offered += record.not_offered
                self.own_lag.merge(record.own_lag)
            case HarnessSecond() if self._hold_ns < record.at_ns <= self._to_ns + NS_PER_S:
                self.saturated |= record.saturated


class LevelPlayer:
    """Plays the levels of one run, in the process that leads."""

    def __init__(self, run: ActiveRun) -> None:
        self._run, self._profile = run, run.profile
        asked = run.profile.capacity
        self._limits = [
            t
            for t, _ in limits(run.profile, faults=False)
            if {"calm", "all"} & set(t.phases) and (asked is None or not asked.limits or t.measure in asked.limits)
        ]
        self._calm: float | None = None  # unseen in a gap, when nothing is left of the level before it
        self._per_s = offered_per_s(run.profile)
        self.words = ""  # where the search is, for people

    def tell_stages(self, from_ns: int) -> None:
        """Tell the stages of the profile, one after another from a moment on."""
        for index, stage in enumerate(self._profile.levels):
            step = Step(kind="planned", factor=stage.factor, settle_s=stage.settle_s, hold_s=stage.hold_s, why="")
            from_ns = self._tell(index, step, from_ns).to_ns

    def search(self) -> str:
        """Play level after level; how the search ended, in a word."""
        run, search = self._run, Search(asked_of(self._profile))
        began_ns, index = run.clock.now_ns(), 0
        while (step := search.next((run.clock.now_ns() - began_ns) / NS_PER_S)) is not None:
            self.words = self._words(index, step, search, (run.clock.now_ns() - began_ns) / NS_PER_S)
            level = self._tell(index, step, run.clock.now_ns() + LEAD_NS)
            if not run.wait_to(level.to_ns) or (drained := self._drained(level)) is None:
                return "aborted"
            verdict, why = self._judged()
            run.note(
                f"level {index + 1}: {KIND_WORDS.get(step.kind, step.kind)} at {step.factor * self._per_s:,.0f}/s: "
                f"{verdict}{f', {why}' if why else ''}"
            )
            search.add(verdict, why)
            index += 1
            if not drained:
                run.note(f"the search is over: the backlog of level {index} was still there {DRAIN_S:g} s after it")
                return "backlog"
        run.note(f"the search is over: {search.why}")
        return search.ended

    def _words(self, index: int, step: Step, search: Search, spent_s: float) -> str:
        """Level, load, what is known so far, and how long it will take: a line of progress."""
        low, high = (None if factor is None else factor * self._per_s for factor in search.bracket)
        known = "nothing held yet" if low is None else f"held {low:,.0f}/s"
        known += "" if high is None else f", not {high:,.0f}/s"
        minutes = max(round(search.left_s(spent_s) / 60), 1)
        kind = KIND_WORDS.get(step.kind, step.kind)
        return f"level {index + 1}, {kind} at {step.factor * self._per_s:,.0f}/s: {known}; about {minutes} min left"

    def _tell(self, index: int, step: Step, from_ns: int) -> Level:
        run, table = self._run, self._profile.capacity
        from_ns += -from_ns % SLICE_NS
        held_ns = from_ns + round(step.settle_s * NS_PER_S)
        hold_ns, to_ns = held_ns, held_ns + round(step.hold_s * NS_PER_S)
        if table is not None and table.under is not None and run.faults is not None:
            # What it costs to come back is the level's too; live figures look at what is after that.
            hold_ns = from_ns + round(table.settle_s * NS_PER_S)
            at_ns = hold_ns + round(UNDER_CALM_S * NS_PER_S)
            run.faults.schedule([of_level(self._profile, table.under, index + 1, at_ns)])
        level = Level(
            index=index, kind=step.kind, factor=step.factor, from_ns=from_ns, hold_ns=hold_ns, to_ns=to_ns,
            why=step.why,
        )  # fmt: skip
        run.fold.open_level(LiveLevel(held_ns, to_ns))
        run.emit(level)
        told = {"index": index, "factor": step.factor, "from_ns": from_ns, "to_ns": to_ns}
        run.participants.order("level", told)
        return level

    def _drained(self, level: Level) -> bool | None:
        """Wait until what was sent has come; False: it does not. None: the run ends."""
        run, until, before = self._run, level.to_ns + round(GAP_S * NS_PER_S), None
        while run.wait_to(until):
            unseen = run.fold.unseen(run.clock.now_ns(), level.to_ns)
            if unseen is not None:
                if self._calm is None and before is not None and unseen >= SAME * before:
                    self._calm = float(unseen)  # it falls no more
                if unseen <= DRAINED * (self._calm or 0.0) + self._on_the_way(level):
                    self._calm = float(unseen) if self._calm is None else self._calm
                    return True
                before = unseen
            if until - level.to_ns > DRAIN_S * NS_PER_S:
                return False
            until += NS_PER_S // 2
        return None

    def _on_the_way(self, level: Level) -> float:
        """What the background may have on its way at any moment: a quarter of a second of it, and one message."""
        found = self._run.fold.level
        assert found is not None
        per_s = found.owed * NS_PER_S / (level.to_ns - level.hold_ns) / level.factor * GAP_FACTOR
        return 0.25 * per_s + self._run.config.consumers

    def _judged(self) -> tuple[Judged, str]:
        found, guard = self._run.fold.level, self._profile.guard
        assert found is not None
        own = found.own_lag.quantile_ms(0.99) or 0.0
        planned = found.published + found.not_offered
        if not planned or found.not_offered / planned > guard.not_offered_share:
            return "UNUSABLE", f"{found.not_offered:,} of {planned:,} messages were not offered"
        if found.saturated:
            return "UNUSABLE", "the load generator could not keep up"
        if own > guard.own_lag_p99_ms:
            return "UNUSABLE", f"our own lag was {own:.0f} ms (p99)"
        for limit in self._limits:
            value = self._value(limit, found)
            if value is not None and value > limit.limit:
                return "BAD", f"{limit.measure} {value:.4g}, at most {limit.limit:g} allowed"
        return "GOOD", ""

    def _value(self, limit: Threshold, found: LiveLevel) -> float | None:
        groups = self._profile.consumers
        if limit.measure in QUANTILES:
            mine = [
                histogram
                for key, histogram in found.latency.items()
                for family, group in [divmod(key, len(groups))]
                if limit.family in (None, self._profile.families[family].name)
                and (groups[group].name == limit.group if limit.group else not groups[group].expect_slow)
            ]
            return Histogram().merge_all(mine).quantile_ms(QUANTILES[limit.measure])
        whole = limit.family is None and limit.group is None and not any(group.expect_slow for group in groups)
        if limit.measure in ("lost_defect", "lost_total", "lost_charged") and whole:
            return float(max(0, found.owed - found.delivered))
        return None
