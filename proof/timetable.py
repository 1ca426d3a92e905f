"""What happens when in the latency proof?  Stretches of load, how busy the worker is meanwhile, and a stall.

Also what the proof and the burner in its worker say to each other; imports no Locust.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

RATE_PER_S = 50
"""A consumer gets one message each 20 ms, so that a read brings one even where the worker was held up."""
_FIRST_S = 1.2
_BEFORE_S = 0.3
_AFTER_S = 0.6
"""The CPU is kept while the longest delay may last."""
_APART_S = 1.6
"""A second that our own readings exclude reaches into what came before it."""
BURN_SLICE_MS = 0.4
BEYOND_SLICE_MS = 300.0
STALL_S = 1.0
STALL = "stall"
BEYOND = "beyond"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Messages of one family, due in [from_s, to_s) since T0; the worker uses a share of one core meanwhile."""

    name: str  # of the family and of its only pattern
    from_s: float
    to_s: float
    share: float  # 0: as it comes
    slice_ms: float = BURN_SLICE_MS
    after_s: float = _AFTER_S  # so long it is kept busy after its last message was due

    @property
    def burn(self) -> tuple[float, float, float, float]:
        """Its line in the burner's timetable."""
        return self.from_s - _BEFORE_S, self.to_s + self.after_s, self.share, self.slice_ms

    def due_s(self) -> Iterator[float]:
        """When its messages are due."""
        for number in range(round((self.to_s - self.from_s) * RATE_PER_S)):
            yield self.from_s + number / RATE_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """Stretches in order; the gateway stands still from `stop_s` on for STALL_S."""

    levels: tuple[Stretch, ...]
    stall: Stretch
    stop_s: float
    beyond: Stretch

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """All of them, in the order of the families."""
        return (*self.levels, self.stall, self.beyond)

    @property
    def end_s(self) -> float:
        """When the plan is over."""
        return self.beyond.to_s + 0.2

    def burns(self) -> list[tuple[float, float, float, float]]:
        """The burner's timetable."""
        return [stretch.burn for stretch in self.stretches if stretch.share > 0]

    def replay(self) -> str:
        """The publisher's file: JSON lines are longer, so CSV. The first row is at T0, as a replay wants it."""
        rows = [f"{due:.4f},{stretch.name}" for stretch in self.stretches for due in stretch.due_s()]
        return "\n".join(["due_s,pattern", f"0.0000,{self.stretches[0].name}", *rows, ""])


def timetable(percents: Sequence[int], length_s: float) -> Timetable:
    """One stretch for each CPU load, then a stall of the target, then more than the worker can do."""
    at, levels = _FIRST_S, []
    for percent in percents:
        levels.append(Stretch(name=f"cpu-{percent}", from_s=at, to_s=at + length_s, share=percent / 100))
        at += length_s + _BEFORE_S + _AFTER_S
    stall = Stretch(name=STALL, from_s=at, to_s=at + STALL_S + 0.3, share=0.0)
    at = stall.to_s + _APART_S
    beyond = Stretch(name=BEYOND, from_s=at, to_s=at + 1.5, share=1.0, slice_ms=BEYOND_SLICE_MS, after_s=1.0)
    return Timetable(levels=tuple(levels), stall=stall, stop_s=stall.from_s + 0.2, beyond=beyond)


VARIABLE = "TICKSTORM_PROVE_BURN"
"""Environment: a JSON list of `[from_s, to_s, share, slice_ms]`, seconds since the run's T0."""

T0 = "burner: T0 is "
"""Begins a line of its standard output; monotonic ns follow."""
