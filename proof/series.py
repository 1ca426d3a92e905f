"""What would a process's memory look like?  Seeded series in virtual time, of which the truth is known."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from loadtests.model.ids import NS_PER_S

_KEPT = 0.8
_NOISE_MB = 0.15
_BASE_MB = 120.0
_SAW_S = 37.0
"""Period of a garbage collector: no multiple of a reading's, or it would not be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesShape:
    """One process. A plateau is reached in the first fifth, as by a process that fills its caches."""

    name: str
    verdict: str  # what the rule must say: LEAK, CLEAN, UNKNOWN; "" where only an alarm would be wrong
    mb_per_h: float = 0.0
    saw_mb: float = 0.0
    plateau_mb: float = 0.0


def readings(shape: SeriesShape, *, seed: int, span_s: float, every_s: float) -> Iterator[tuple[int, float]]:
    """Time in ns from 0 and bytes: trend, saw-tooth, warm-up and noise that remembers its last value."""
    dice = random.Random(f"{seed}:{shape.name}")
    noise, phase = 0.0, dice.uniform(0, _SAW_S)
    for number in range(round(span_s / every_s)):
        at_s = number * every_s
        noise = _KEPT * noise + dice.gauss(0, _NOISE_MB)
        mb = _BASE_MB + shape.mb_per_h * at_s / 3600 + noise
        mb += shape.saw_mb * ((at_s + phase) % _SAW_S) / _SAW_S
        mb += shape.plateau_mb * min(at_s / (span_s / 5), 1.0)
        yield round(at_s * NS_PER_S), mb * 1e6
