"""How does the load go by levels that nobody knows before the run?  Stretches, told while it runs -> due times.

Theory of operation.  Between levels a publisher plays its *background*, its own shape at GAP_FACTOR.  A level is a
stretch [from, to) in which it plays its shape at a factor, begun anew with the level: so a burst comes at the same
moments of each.  Every process is told a level before it begins, and the levels before it stay as they were; so all
plan the same, and the plan up to the last told moment is a closed form: no message is drawn from a shared source, and
nothing sleeps.

Example, a constant 10/s and one level of factor 4 from 2 s to 3 s:

    0 s to 2 s    1/s      the background
    2 s to 3 s   40/s      due at 2 s + (index + phase) / 40
    from 3 s on   1/s      the background again, as if it had gone on

Times are ns after T0.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from loadtests.model.profile.workload import Shape
from loadtests.plan.pacing import Pacer

GAP_FACTOR = 0.1
LONG_AFTER_NS = 1 << 62
RATES = ("rate_per_s", "base_per_s", "peak_per_s", "from_per_s", "to_per_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """One level as publishers play it."""

    index: int
    factor: float
    from_ns: int
    to_ns: int


class Stretches:
    """All levels that are known by now, in order; the publishers of a process share it."""

    def __init__(self) -> None:
        self.known: list[Stretch] = []

    def add(self, stretch: Stretch) -> bool:
        """Take the next level; False where it is known already. Raises ValueError where it begins too early."""
        if any(one.index == stretch.index for one in self.known):
            return False
        if self.known and stretch.from_ns < self.known[-1].to_ns:
            raise ValueError(f"level {stretch.index} begins before level {self.known[-1].index} is over")
        self.known.append(stretch)
        return True


def scaled(shape: Shape, factor: float) -> Shape:
    """The shape at another rate; its times stay."""
    rates = {key: rate * factor for key in RATES if (rate := getattr(shape, key)) is not None}
    return shape.model_copy(update=rates)


class Levelled:
    """The pacer of one publisher whose load goes by levels. `at(factor, name)` makes the pacer of a level."""

    def __init__(self, stretches: Stretches, at: Callable[[float, str], Pacer]) -> None:
        self._stretches, self._at = stretches, at
        self._background = at(GAP_FACTOR, "gap")
        self._made: dict[int, Pacer] = {}

    def before(self, ns: int) -> int:
        """How many are due before a moment."""
        return self.count(0, ns)

    def between(self, start_ns: int, end_ns: int) -> list[int]:
        """Due times in [start, end)."""
        found: list[int] = []
        for first, last, pacer, origin in self._pieces(start_ns, end_ns):
            due = pacer.between(first - origin, last - origin)
            found += due if not origin else [origin + at for at in due]
        return found

    def count(self, start_ns: int, end_ns: int) -> int:
        """How many are due in [start, end)."""
        return sum(
            pacer.count(first - origin, last - origin) for first, last, pacer, origin in self._pieces(start_ns, end_ns)
        )

    def next_ns(self, ns: int) -> int | None:
        """The first due time at or after a moment, as far as levels are known."""
        for first, last, pacer, origin in self._pieces(ns, LONG_AFTER_NS):
            found = pacer.next_ns(first - origin)
            if found is not None and origin + found < last:
                return origin + found
        return None

    def near(self, ns: int) -> int:
        """An index for choosing routes: that of the piece in which a moment lies."""
        first, _, pacer, origin = next(self._pieces(ns, ns + 1))
        return pacer.near(first - origin)

    def _pieces(self, start_ns: int, end_ns: int) -> Iterator[tuple[int, int, Pacer, int]]:
        """From, to, whose times they are, and what those count from."""
        known = self._stretches.known
        at = start_ns
        for stretch in known[bisect_right(known, start_ns, key=lambda one: one.to_ns) :]:
            if stretch.from_ns >= end_ns:
                break
            if at < stretch.from_ns:
                yield at, stretch.from_ns, self._background, 0
                at = stretch.from_ns
            last = min(end_ns, stretch.to_ns)
            yield at, last, self._of(stretch), stretch.from_ns
            at = last
        if at < end_ns:
            yield at, end_ns, self._background, 0

    def _of(self, stretch: Stretch) -> Pacer:
        if stretch.index not in self._made:
            self._made[stretch.index] = self._at(stretch.factor, f"level:{stretch.index}")
        return self._made[stretch.index]
