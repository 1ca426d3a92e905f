"""Were there as many samples as had to be?  What was not sampled is never judged good."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from loadtests.model.ids import NS_PER_S

LEAST_SHARE = 0.9
LONGEST_PERIODS = 5
"""A longer hole could hide what happened in it, however many samples there are besides."""

Span = tuple[int, int]
"""From one moment to before another, in ns of the run clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """How many samples a source gave of the samples that it had to give, and its longest hole."""

    source: str
    got: int
    expected: int
    hole: Span | None

    @property
    def enough(self) -> bool:
        """One less is chance: that of where in a period the phases begin and end."""
        return self.hole is None and self.got + 1 >= LEAST_SHARE * self.expected

    def said(self, seconds: Callable[[int], float]) -> str:
        """`health: 36 of 264 expected samples, none from 3.2 s to 60.1 s`."""
        text = f"{self.source}: {min(self.got, self.expected)} of {self.expected} expected samples"
        if self.hole is None:
            return text
        return f"{text}, none from {seconds(self.hole[0]):.1f} s to {seconds(self.hole[1]):.1f} s"


def sampled(source: str, samples: Iterable[tuple[int, int]], period_ns: int, spans: Sequence[Span]) -> Sampled:
    """Of samples that begin at a moment and last so long: a long one stands for those that could not be taken.

    Samples that come closer together than they should do not make up for missing ones elsewhere.
    """
    taken = sorted(samples)
    until = [*(at for at, _ in taken[1:]), 2**62]
    got = expected = 0
    worst: Span = (0, 0)
    for from_ns, to_ns in spans:
        expected += (to_ns - from_ns) // period_ns
        count = stands_ns = 0
        covered, counted = from_ns, from_ns - period_ns
        for (at_ns, took_ns), next_ns in zip(taken, until, strict=False):
            end_ns = at_ns + took_ns
            first, last = max(at_ns, from_ns), min(next_ns, end_ns + period_ns + period_ns // 4, to_ns)
            stands_ns += max(last - first, 0)
            if from_ns <= end_ns and at_ns < to_ns:
                worst = _longer(worst, (covered, first))
                covered = max(covered, min(end_ns, to_ns))
                if first - counted >= period_ns // 2:
                    count += max((covered - first) // period_ns, 1)
                    counted = first
        worst = _longer(worst, (covered, to_ns))
        got += min(count, stands_ns // period_ns)
    long = worst[1] - worst[0] > LONGEST_PERIODS * period_ns
    return Sampled(source=source, got=got, expected=expected, hole=worst if long else None)


def _longer(one: Span, other: Span) -> Span:
    return other if other[1] - other[0] > one[1] - one[0] else one


def without(spans: Iterable[Span], held: Iterable[Span]) -> list[Span]:
    """What is left of spans."""
    left = list(spans)
    for begin, end in held:
        cut = ((a, min(b, begin)) for a, b in left)
        left = [(a, b) for a, b in itertools.chain(cut, ((max(a, end), b) for a, b in left)) if a < b]
    return sorted(left)


def every_ns(seconds: float) -> int:
    """A period in ns."""
    return max(round(seconds * NS_PER_S), 1)
