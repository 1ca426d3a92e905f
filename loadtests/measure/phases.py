"""In which phase was a moment, as captured?  Warm-up, baseline, fault, recovery, drain; calm is untouched by faults."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtests.measure.fault_windows import FaultWindow, Times
from loadtests.measure.history_tables import Bools, Ints
from loadtests.measure.interval_set import runs_of
from loadtests.model.ids import SLICE_NS
from loadtests.model.results import PhaseSpan

WARM, CALM, FAULT, RECOVERY, AFTER = range(5)
PHASE_CODE = {"calm": CALM, "fault": FAULT, "recovery": RECOVERY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A fault's time of effect on whatever it touched: began -> healed -> recovered (or the limit had passed)."""

    fault: FaultWindow
    from_ns: int
    healed_ns: int
    to_ns: int


def window(fault: FaultWindow, settled_ns: int | None, end_ns: int) -> Window | None:
    """The window of a fault, None where it cannot have acted; one that was never lifted lasts to the end.

    A band forgives a few per cent: what was lost in the first group of the steady stretch, just before the last of the
    path was back, is the recovery's and no defect. So the window ends where that group ends.
    """
    if fault.begin_ns is None:
        return None
    healed = end_ns if fault.healed_ns is None else fault.healed_ns
    limit = end_ns if fault.end_ns is None else fault.end_ns
    to_ns = max(healed, limit if settled_ns is None else settled_ns)
    return Window(fault=fault, from_ns=fault.begin_ns, healed_ns=healed, to_ns=to_ns)


class Phases:
    """Phases on an axis of slices; slices beyond its ends count as its ends."""

    def __init__(self, times: Times, windows: list[Window], *, low: int, high: int, late_slices: int) -> None:
        self.times = times
        self.windows = windows
        self.low, self.high, self.late_slices = low, max(high, low + 1), late_slices
        n = self.high - self.low
        self._fault = np.zeros(n + 1, dtype=np.int64)
        self._recovery = np.zeros(n + 1, dtype=np.int64)
        for w in windows:
            self._fault[1:] |= self._marks(w.from_ns, w.healed_ns)
            self._recovery[1:] |= self._marks(w.healed_ns, w.to_ns)
        self.disturbed = (self._fault[1:] | self._recovery[1:]) > 0
        self._fault = np.cumsum(self._fault)
        self._recovery = np.cumsum(self._recovery)
        at = np.arange(self.low, self.high) * SLICE_NS
        self.base = np.full(n, CALM, dtype=np.int64)
        self.base[at < times.warm_ns] = WARM
        self.base[at >= times.plan_end_ns] = AFTER

    def _marks(self, from_ns: int, to_ns: int) -> Ints:
        marks = np.zeros(self.high - self.low, dtype=np.int64)
        if to_ns > from_ns:
            first = min(max(from_ns // SLICE_NS - self.low, 0), len(marks))
            last = min(max(-(-to_ns // SLICE_NS) - self.low, 0), len(marks))
            marks[first:last] = 1
        return marks

    def codes(self, due: Ints, until: Ints | None = None) -> Ints:
        """Phase of messages due in a slice. A fault counts that began before they came, or the limit passed."""
        limit = due + self.late_slices
        until = limit if until is None else np.minimum(until, limit)
        return self._coded(due, due, np.maximum(until, due))

    def of_stretch(self, first: int, last: int) -> int:
        """Phase of what came from one slice to another: it may have been due before; after the plan, in it."""
        code = int(self._coded(*(np.array([at]) for at in (first, first - self.late_slices, last)))[0])
        return CALM if code == AFTER else code

    def _coded(self, at: Ints, first: Ints, last: Ints) -> Ints:
        """By where in the plan a slice lies, and by what was in force between two others."""
        top = self.high - self.low - 1
        first, last = np.clip(first - self.low, 0, top), np.clip(last - self.low, 0, top) + 1
        code = self.base[np.clip(at - self.low, 0, top)].copy()
        code[self._recovery[last] > self._recovery[first]] = RECOVERY
        code[self._fault[last] > self._fault[first]] = FAULT
        return code

    def code_at(self, at_ns: int) -> int:
        """Phase of a moment."""
        if any(w.from_ns <= at_ns < w.healed_ns for w in self.windows):
            return FAULT
        if any(w.healed_ns <= at_ns < w.to_ns for w in self.windows):
            return RECOVERY
        return WARM if at_ns < self.times.warm_ns else AFTER if at_ns >= self.times.plan_end_ns else CALM

    def calm_slices(self) -> Bools:
        """Slices of the axis that are calm as a whole."""
        calm: Bools = (self.base == CALM) & ~self.disturbed
        return calm

    def seconds_of(self, wanted: set[int] | None) -> float:
        """How long the phases lasted within the plan, in seconds; None: warm-up and plan."""
        return float(self._within(wanted).sum()) * SLICE_NS / 1e9

    def _within(self, wanted: set[int] | None) -> Bools:
        code = self.base.copy()
        code[np.diff(self._recovery) > 0] = RECOVERY
        code[np.diff(self._fault) > 0] = FAULT
        at = np.arange(self.low, self.high) * SLICE_NS
        inside = (at >= self.times.t0_ns - SLICE_NS) & (at < self.times.plan_end_ns)
        chosen: Bools = inside if wanted is None else inside & np.isin(code, sorted(wanted))
        return chosen

    def stretches(self, wanted: set[int] | None) -> list[tuple[int, int]]:
        """From when to when the phases lasted within warm-up and plan, in ns; None: all of both."""
        runs = runs_of(self._within(wanted)) + self.low
        t = self.times
        found = [(max(a * SLICE_NS, t.t0_ns), min(b * SLICE_NS, t.plan_end_ns)) for a, b in runs.tolist()]
        return [(a, b) for a, b in found if a < b]

    def spans(self) -> list[PhaseSpan]:
        """Phases as captured, in order; neighbours of one phase are one."""
        t = self.times
        points = {t.connect_ns, t.t0_ns, t.warm_ns, t.plan_end_ns, t.end_ns}
        for w in self.windows:
            points |= {min(max(p, t.t0_ns), t.end_ns) for p in (w.from_ns, w.healed_ns, w.to_ns)}
        edges = sorted(points)
        names = {WARM: "warm-up", CALM: "baseline", FAULT: "fault", RECOVERY: "recovery", AFTER: "drain"}
        found: list[tuple[str, int, int]] = []
        for start, end in itertools.pairwise(edges):
            name = "connect" if start < t.t0_ns else names[self.code_at(start)]
            if found and found[-1][0] == name:
                found[-1] = (name, found[-1][1], end)
            else:
                found.append((name, start, end))
        return [PhaseSpan(phase=n, from_s=t.seconds(a), to_s=t.seconds(b)) for n, a, b in found]


def chosen(phases: Sequence[str]) -> set[int] | None:
    """Codes of a threshold's phases; None stands for all of the run."""
    return None if "all" in phases else {PHASE_CODE[p] for p in phases}
