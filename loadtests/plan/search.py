"""Which level is played next, and when is the search over?  Verdicts in, steps out; no clock, and nothing sleeps.

The first level is played once and thrown away: it warms the target. Then loads **double** until one fails, and the gap
between the highest good and the lowest bad level is **halved** (geometrically) until it is narrow enough. One failure
proves nothing, since a stall of half a second breaks a p95 over ten: a failed level is played again, best of three.
One success proves little near the edge, since a short hold cannot see a stall that comes every minute: the highest
good level is **held** for long, and lowered until it holds. A **control** hold far below it tells whether what is late
at the edge is late without load as well.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from loadtests.model.capacity import CapacityAsked, Judged, Kind

GAP_S = 3.0
"""What a step costs beside its own seconds: the backlog of the one before drains. An estimate; it may take longer."""
VOTES = 2
"""So many equal verdicts decide a level that has failed once: best of three."""
LONG_HOLDS = 4
DOWN = 0.95
"""From a long hold that failed to the next."""
CONTROL = 0.6
"""Load of the control hold, as a share of the result."""
UNUSABLE_IN_A_ROW = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One play of a level: it settles, is held and judged."""

    kind: Kind
    factor: float  # of the profile's own load
    settle_s: float
    hold_s: float
    why: str

    def __post_init__(self) -> None:
        if not (self.factor > 0 and self.settle_s >= 0 and self.hold_s > 0):
            raise ValueError(f"a step of factor {self.factor} for {self.settle_s} s and {self.hold_s} s")

    @property
    def lasts_s(self) -> float:
        """With the gap after it."""
        return self.settle_s + self.hold_s + GAP_S


@dataclass(slots=True)
class _Votes:
    """What the short trials of one level said."""

    of: Counter[Judged] = field(default_factory=Counter)
    unusable_in_a_row: int = 0

    def add(self, verdict: Judged) -> None:
        self.of[verdict] += 1
        self.unusable_in_a_row = self.unusable_in_a_row + 1 if verdict == "UNUSABLE" else 0

    @property
    def decided(self) -> Judged | None:
        if self.unusable_in_a_row >= UNUSABLE_IN_A_ROW:
            return "UNUSABLE"
        if self.of["BAD"] >= VOTES:
            return "BAD"
        return "GOOD" if self.of["GOOD"] >= (VOTES if self.of["BAD"] else 1) else None


def shortest_s(asked: CapacityAsked) -> float:
    """The least budget that can end in an answer: one level, its hold and the control. A search takes longer."""
    short, long_ = asked.settle_s + asked.hold_s + GAP_S, asked.settle_s + asked.long_s + GAP_S
    return 2 * short + 2 * long_


class Search:
    """Asked for the next step, and told what became of it; the same answers give the same steps."""

    def __init__(self, asked: CapacityAsked) -> None:
        self.asked = asked
        self.ended = ""
        """Empty while it goes on; then decided, range (good to its end), lowest (bad from its begin), generator,
        unheld (no long hold succeeded), budget."""
        self.why = ""
        self._out: Step | None = None
        self._warm = False
        self._votes = _Votes()
        self._at = asked.start
        self._low: float | None = None
        self._high: float | None = None
        self._searched = ""  # how searching ended; empty while it goes on
        self._searched_why = ""
        self._long: float | None = None
        self._longs = 0
        self._held = False
        self._unusable = 0  # long or control holds in a row

    @property
    def bracket(self) -> tuple[float | None, float | None]:
        """The highest factor that is good and the lowest above it that is not; None: there is none."""
        return self._low, self._high

    def next(self, spent_s: float) -> Step | None:
        """The step to be played now; None: the search is over, and `ended` and `why` say how.

        No step is handed out that would not end within the budget. Asked again before `add`, the answer is the same.
        """
        if self.ended:
            return None
        step = None if self._searched else self._searching(spent_s)
        if step is None and self._searched:
            step = self._confirming(spent_s)
        self._out = step
        return step

    def add(self, verdict: Judged, why: str = "") -> None:
        """What became of the step that was last handed out; `why` is told where it ends the search."""
        step, self._out = self._out, None
        if step is None:
            raise ValueError("no step is out")
        match step.kind:
            case "settle-in":
                self._warm = True
            case "search":
                self._count(step, verdict, why)
            case "long":
                self._held_or_not(step, verdict, why)
            case "control":
                self._unusable = self._unusable + 1 if verdict == "UNUSABLE" else 0
                if verdict != "UNUSABLE" or self._unusable >= UNUSABLE_IN_A_ROW:
                    self._end(self._searched, self._searched_why)

    def left_s(self, spent_s: float) -> float:
        """About how long it still takes: for a line of progress, never for a decision."""
        if self.ended:
            return 0.0
        asked = self.asked
        short, long_ = asked.settle_s + asked.hold_s + GAP_S, asked.settle_s + asked.long_s + GAP_S
        rest = (1 if self._held else 2) * long_
        if not self._searched:
            open_ = math.log(self._high / self._low) if self._low and self._high else math.log(2)
            halvings = math.ceil(math.log2(max(open_ / math.log1p(asked.tolerance), 1)))
            climbs = 0 if self._high else 2
            rest += short * (1.5 * halvings + climbs + (not self._warm))
        return max(0.0, min(rest, asked.budget_s - spent_s))

    # -- search

    def _searching(self, spent_s: float) -> Step | None:
        """The next short step; None: searching is over, and either all is, or there is a level to confirm."""
        asked = self.asked
        if not self._warm:
            step = self._short("settle-in", asked.start, "the first level once, thrown away: the target warms up")
        else:
            step = self._short("search", self._at, self._because())
        after = 0.0 if self._low is None else 2 * (asked.settle_s + asked.long_s + GAP_S)
        if spent_s + step.lasts_s + after <= asked.budget_s:
            return step
        if self._low is None:
            self._end("budget", f"the budget of {asked.budget_s:g} s ended before a level was found good")
        else:
            self._found("budget", f"the budget of {asked.budget_s:g} s left no time for a closer search")
        return None

    def _short(self, kind: Kind, factor: float, why: str) -> Step:
        return Step(kind=kind, factor=factor, settle_s=self.asked.settle_s, hold_s=self.asked.hold_s, why=why)

    def _because(self) -> str:
        if self._votes.unusable_in_a_row:
            return "the last trial was unusable: once more"
        if self._votes.of["BAD"]:
            return "failed once: best of three"
        if self._low is None:
            return "the lowest level"
        if self._high is None:
            return f"{self._low:.4g} is good: up to the end of the range" if self._at >= self.asked.to else "doubled"
        return f"halfway between {self._low:.4g}, good, and {self._high:.4g}, bad"

    def _count(self, step: Step, verdict: Judged, why: str) -> None:
        self._votes.add(verdict)
        decided = self._votes.decided
        if decided is None:
            return
        self._votes = _Votes()
        told = f" ({why})" if why else ""
        if decided == "UNUSABLE":
            text = (
                f"the load generator's end, not the target's: two trials in a row at {step.factor:.4g} x the profile's"
            )
            text += f" load say nothing of the target{told}"
            if self._low is None:
                self._end("generator", text)
            else:
                self._found("generator", text)
        elif decided == "BAD":
            self._high = step.factor
            if self._low is None:
                self._end("lowest", f"the lowest level, {step.factor:.4g} x the profile's load, fails already{told}")
            else:
                self._go_on()
        else:
            self._low = step.factor
            self._go_on()

    def _go_on(self) -> None:
        asked, low, high = self.asked, self._low, self._high
        assert low is not None
        if high is None:
            if low >= asked.to * (1 - 1e-9):
                self._found("range", f"still good at {low:.4g} x the profile's load, the highest that was asked for")
            else:
                self._at = min(low * 2, asked.to)
        elif high / low <= 1 + asked.tolerance:
            self._found("decided", f"the bracket is within {asked.tolerance:.0%}")
        else:
            self._at = math.sqrt(low * high)

    def _found(self, how: str, why: str) -> None:
        self._searched, self._searched_why = how, why
        self._long = self._low

    # -- confirmation

    def _confirming(self, spent_s: float) -> Step | None:
        """The next hold; None: there is no time for it."""
        asked = self.asked
        assert self._long is not None
        kind: Kind = "control" if self._held else "long"
        if self._held:
            why = f"control: is anything late at {CONTROL:g} x the result as well?"
        elif self._longs:
            why = f"{1 - DOWN:.0%} below a hold that failed"
        else:
            why = f"the highest good level: does it hold for {asked.long_s:g} s?"
        if self._unusable:
            why = "the last hold was unusable: once more"
        factor = self._long * (CONTROL if self._held else 1)
        step = Step(kind=kind, factor=factor, settle_s=asked.settle_s, hold_s=asked.long_s, why=why)
        if spent_s + step.lasts_s <= asked.budget_s:
            return step
        what = "the control hold" if self._held else f"a hold of {asked.long_s:g} s"
        self._end("budget", f"the budget of {asked.budget_s:g} s leaves no room for {what}")
        return None

    def _held_or_not(self, step: Step, verdict: Judged, why: str) -> None:
        self._unusable = self._unusable + 1 if verdict == "UNUSABLE" else 0
        told = f" ({why})" if why else ""
        if verdict == "GOOD":
            self._held, self._low = True, step.factor
        elif verdict == "BAD":
            self._longs += 1
            self._low, self._high, self._long = None, step.factor, step.factor * DOWN
            if self._searched != "budget":
                self._searched, self._searched_why = (
                    "decided",
                    f"the hold at {step.factor:.4g} failed, one below it held",
                )
            if self._longs >= LONG_HOLDS:
                self._end(
                    "unheld", f"{LONG_HOLDS} holds of {step.hold_s:g} s failed, the last at {step.factor:.4g}{told}"
                )
        elif self._unusable >= UNUSABLE_IN_A_ROW:
            self._end("generator", f"two long holds in a row at {step.factor:.4g} say nothing of the target{told}")

    def _end(self, how: str, why: str) -> None:
        self.ended, self.why, self._out = how, why, None
