"""When is each message of a publisher due?  Index -> nanoseconds after T0; every time comes from its index alone.

Nothing sleeps, nothing drifts and nothing is drawn from a shared source of chance: the same seed and slot give the same
times in any process.  A fraction of one message, `phase`, spreads the publishers of a group; bursts start together.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
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
