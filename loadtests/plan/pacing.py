"""When is each message of a publisher due?  Index -> nanoseconds after T0; every time comes from its index alone.

Nothing sleeps, nothing drifts and nothing is drawn from a shared source of chance: the same seed and slot give the same
times in any process.  A fraction of one message, `phase`, spreads the publishers of a group; bursts start together.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Protocol

import numpy as np

from loadtests.model.ids import NS_PER_S
from loadtests.model.kinds import part
from loadtests.model.profile.workload import SHAPES, Shape

_WINDOW_MESSAGES = 64
_WINDOW_MIN_NS = NS_PER_S // 1000
_WINDOW_MAX_NS = 60 * NS_PER_S


class Pacer(Protocol):
    """The due times of one publisher, ascending, in ns after T0."""

    def before(self, ns: int) -> int:
        """How many messages are due before `ns`: the index of the first that is not."""
        ...

    def between(self, start_ns: int, end_ns: int) -> list[int]:
        """Due times in [start, end)."""
        ...

    def count(self, start_ns: int, end_ns: int) -> int:
        """How many are due in [start, end), without building them where the pacer can do without."""
        ...

    def next_ns(self, ns: int) -> int | None:
        """The first due time at or after `ns`; None: nothing more is due."""
        ...

    def near(self, ns: int) -> int:
        """An index for choosing routes: `before`, or what is expected where counting would need the whole past."""
        ...


class _Indexed:
    """Pacers whose due time is a closed form of the index."""

    def due(self, index: int) -> int:
        raise NotImplementedError

    def planned(self, ns: float) -> float:
        """Integral of the rate over [0, ns), in messages."""
        raise NotImplementedError

    def before(self, ns: int) -> int:
        if ns <= 0:
            return 0
        index = max(0, int(self.planned(ns)))
        # The estimate may be off by one or two for rounding; membership is defined by due() alone.
        while index > 0 and self.due(index - 1) >= ns:
            index -= 1
        while self._exists(index) and self.due(index) < ns:
            index += 1
        return index

    def count(self, start_ns: int, end_ns: int) -> int:
        return max(0, self.before(end_ns) - self.before(start_ns))

    def next_ns(self, ns: int) -> int | None:
        index = self.before(ns)
        return self.due(index) if self._exists(index) else None

    def near(self, ns: int) -> int:
        return self.before(ns)

    def between(self, start_ns: int, end_ns: int) -> list[int]:
        due = self.due
        return [due(index) for index in range(self.before(start_ns), self.before(end_ns))]

    def _exists(self, index: int) -> bool:
        return True


class Constant(_Indexed):
    """`rate` messages per second, for ever."""

    def __init__(self, rate: float, phase: float = 0.0) -> None:
        self._rate = rate
        self._gap = NS_PER_S / rate
        self._phase = phase

    def due(self, index: int) -> int:
        """Due time of an index."""
        return int((index + self._phase) * self._gap)

    def planned(self, ns: float) -> float:
        return ns / NS_PER_S * self._rate

    def between(self, start_ns: int, end_ns: int) -> list[int]:
        first, last = self.before(start_ns), self.before(end_ns)
        found: list[int] = ((np.arange(first, last) + self._phase) * self._gap).astype(np.int64).tolist()
        return found


class Ramp(_Indexed):
    """`first` per second for `hold` seconds, then linearly to `last` over `length` seconds, and nothing after."""

    def __init__(self, first: float, last: float, hold_s: float, length_s: float, phase: float = 0.0) -> None:
        self._first, self._last, self._hold, self._length, self._phase = first, last, hold_s, length_s, phase
        self._slope = (last - first) / length_s
        self._held = first * hold_s
        self._total = self._held + (first + last) / 2 * length_s

    def due(self, index: int) -> int:
        """Due time of an index: the inverse of the integral."""
        wanted = index + self._phase
        if wanted <= self._held and self._first > 0:
            return int(wanted / self._first * NS_PER_S)
        above = wanted - self._held
        root = self._first + sqrt(max(0.0, self._first * self._first + 2 * self._slope * above))
        return int((self._hold + (2 * above / root if root > 0 else 0.0)) * NS_PER_S)

    def planned(self, ns: float) -> float:
        seconds = ns / NS_PER_S
        if seconds <= self._hold:
            return seconds * self._first
        into = min(seconds - self._hold, self._length)
        return self._held + self._first * into + self._slope * into * into / 2

    def _exists(self, index: int) -> bool:
        return index + self._phase < self._total

    def before(self, ns: int) -> int:
        index = super().before(ns)
        while index > 0 and not self._exists(index - 1):
            index -= 1
        return index


class Burst(_Indexed):
    """`peak` per second for `length` at the start of every `period`, else `base`; on/off is a burst over nothing."""

    def __init__(self, base: float, peak: float, length_s: float, period_s: float, phase: float = 0.0) -> None:
        self._base, self._peak, self._length, self._period, self._phase = base, peak, length_s, period_s, phase
        self._in_peak = peak * length_s
        self._in_period = self._in_peak + base * (period_s - length_s)

    def due(self, index: int) -> int:
        """Due time of an index."""
        periods, rest = divmod(index + self._phase, self._in_period)
        if rest < self._in_peak or self._base == 0:
            into = rest / self._peak
        else:
            into = self._length + (rest - self._in_peak) / self._base
        return int((periods * self._period + into) * NS_PER_S)

    def between(self, start_ns: int, end_ns: int) -> list[int]:
        periods, rest = np.divmod(np.arange(self.before(start_ns), self.before(end_ns)) + self._phase, self._in_period)
        into = rest / self._peak
        if self._base:
            into = np.where(rest < self._in_peak, into, self._length + (rest - self._in_peak) / self._base)
        found: list[int] = ((periods * self._period + into) * NS_PER_S).astype(np.int64).tolist()
        return found

    def planned(self, ns: float) -> float:
        periods, into = divmod(ns / NS_PER_S, self._period)
        peak = min(into, self._length)
        return periods * self._in_period + peak * self._peak + (into - peak) * self._base


class Poisson:
    """Independent messages at `rate` per second.

    A Poisson process has no memory, so exponential gaps may start afresh in every window; that gives any moment of the
    plan without drawing all that came before it.
    """

    def __init__(self, rate: float, seed: str) -> None:
        self._rate, self._seed = rate, seed
        self._window_ns = int(min(_WINDOW_MAX_NS, max(_WINDOW_MIN_NS, _WINDOW_MESSAGES / rate * NS_PER_S)))
        self._kept: tuple[int, list[int]] = (-1, [])
        self._counted = (0, 0)  # windows, messages in them

    def before(self, ns: int) -> int:
        if ns <= 0:
            return 0
        last, _ = divmod(ns, self._window_ns)
        windows, count = self._counted if self._counted[0] <= last else (0, 0)
        while windows < last:
            count += len(self._window(windows))
            windows += 1
        self._counted = (windows, count)
        return count + bisect_left(self._window(last), ns)

    def count(self, start_ns: int, end_ns: int) -> int:
        return len(self.between(start_ns, end_ns))

    def next_ns(self, ns: int) -> int | None:
        number = max(0, ns) // self._window_ns
        while not (later := [due for due in self._window(number) if due >= ns]):
            number += 1
        return later[0]

    def near(self, ns: int) -> int:
        return int(ns / NS_PER_S * self._rate)

    def between(self, start_ns: int, end_ns: int) -> list[int]:
        start_ns = max(0, start_ns)
        found: list[int] = []
        if end_ns > start_ns:
            for number in range(start_ns // self._window_ns, (end_ns - 1) // self._window_ns + 1):
                times = self._window(number)
                found += times[bisect_left(times, start_ns) : bisect_left(times, end_ns)]
        return found

    def _window(self, number: int) -> list[int]:
        if self._kept[0] != number:
            draw = random.Random(f"{self._seed}:{number}").expovariate
            at, end, times = 0.0, float(self._window_ns), []
            mean = self._rate / NS_PER_S
            start = number * self._window_ns
            while (at := at + draw(mean)) < end:
                times.append(start + int(at))
            self._kept = (number, times)
        return self._kept[1]


class Listed:
    """Times that are known one by one: a replay."""

    def __init__(self, times_ns: Sequence[int]) -> None:
        self.times = list(times_ns)

    def before(self, ns: int) -> int:
        return bisect_left(self.times, ns)

    def count(self, start_ns: int, end_ns: int) -> int:
        return max(0, self.before(end_ns) - self.before(start_ns))

    def next_ns(self, ns: int) -> int | None:
        index = self.before(ns)
        return self.times[index] if index < len(self.times) else None

    def near(self, ns: int) -> int:
        return self.before(ns)

    def between(self, start_ns: int, end_ns: int) -> list[int]:
        return self.times[self.before(start_ns) : self.before(end_ns)]


class AtMost:
    """The first `limit` messages of another pacer."""

    def __init__(self, inner: Pacer, limit: int) -> None:
        self._inner, self._limit = inner, limit
        self._full_ns: int | None = None  # from here on nothing is due; spares counting the past again

    def before(self, ns: int) -> int:
        return min(self._limit, self._inner.before(ns))

    def count(self, start_ns: int, end_ns: int) -> int:
        return len(self.between(start_ns, end_ns))

    def next_ns(self, ns: int) -> int | None:
        return None if self._inner.before(ns) >= self._limit else self._inner.next_ns(ns)

    def near(self, ns: int) -> int:
        return self._inner.near(ns)

    def between(self, start_ns: int, end_ns: int) -> list[int]:
        if self._full_ns is not None and start_ns >= self._full_ns:
            return []
        left = self._limit - self._inner.before(start_ns)
        if left <= 0:
            self._full_ns = start_ns
            return []
        return self._inner.between(start_ns, end_ns)[:left]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded:
    """What a shape's times depend on beside its own keys."""

    seed: str  # names run and slot
    phase: float  # fraction of one message, drawn from the seed
    warm_up_s: float
    duration_s: float
    replayed_ns: Sequence[int]  # times of a replay


def pacer(shape: Shape, *, seed: str, warm_up_s: float, duration_s: float, replayed_ns: Sequence[int] = ()) -> Pacer:
    """The pacer of one publisher; `seed` names run and slot, `replayed_ns` are its times of a replay."""
    run = Seeded(
        seed=seed,
        phase=random.Random(f"{seed}:phase").random(),
        warm_up_s=warm_up_s,
        duration_s=duration_s,
        replayed_ns=replayed_ns,
    )
    made: Pacer = part(SHAPES[shape.kind].by)(shape, run)
    return made if shape.at_most is None else AtMost(made, shape.at_most)


def constant(shape: Shape, run: Seeded) -> Pacer:
    """Equal gaps."""
    return Constant(_of(shape.rate_per_s), run.phase)


def poisson(shape: Shape, run: Seeded) -> Pacer:
    """Random gaps."""
    return Poisson(_of(shape.rate_per_s), f"{run.seed}:poisson")


def ramp(shape: Shape, run: Seeded) -> Pacer:
    """It holds its first rate through the warm-up and climbs over the duration."""
    return Ramp(_of(shape.from_per_s), _of(shape.to_per_s), run.warm_up_s, run.duration_s, run.phase)


def burst(shape: Shape, run: Seeded) -> Pacer:
    """A peak at the start of each period."""
    return Burst(_of(shape.base_per_s), _of(shape.peak_per_s), _of(shape.length_s), _of(shape.period_s), run.phase)


def on_off(shape: Shape, run: Seeded) -> Pacer:
    """A burst over nothing."""
    return Burst(0.0, _of(shape.rate_per_s), _of(shape.length_s), _of(shape.period_s), run.phase)


def replay(shape: Shape, run: Seeded) -> Pacer:
    """The times of its file."""
    del shape
    return Listed(run.replayed_ns)


def peak_per_s(shape: Shape) -> float:
    """The highest rate that a shape reaches; 0 for a replay, which its file decides."""
    rates = (shape.rate_per_s, shape.peak_per_s, shape.base_per_s, shape.from_per_s, shape.to_per_s)
    return max((rate for rate in rates if rate is not None), default=0.0)


def _of(value: float | None) -> float:
    if value is None:
        raise ValueError("a shape without what its kind needs passed the profile's rules")
    return value


# -- loads that go by levels
#
# How does the load go by levels that nobody knows before the run?  Stretches, told while it runs -> due times.
#
# Theory of operation.  Between levels a publisher plays its *background*, its own shape at GAP_FACTOR.  A level is a
# stretch [from, to) in which it plays its shape at a factor, begun anew with the level: so a burst comes at the same
# moments of each.  Every process is told a level before it begins, and the levels before it stay as they were; so all
# plan the same, and the plan up to the last told moment is a closed form: no message is drawn from a shared source, and
# nothing sleeps.
#
# Example, a constant 10/s and one level of factor 4 from 2 s to 3 s:
#
#     0 s to 2 s    1/s      the background
#     2 s to 3 s   40/s      due at 2 s + (index + phase) / 40
#     from 3 s on   1/s      the background again, as if it had gone on
#
# Times are ns after T0.

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
