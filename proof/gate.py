"""How often is the weekly gate right? Histories are planted by the thousand, and the gate's own code is asked about
each.

A history is what a store would hold: weeks of runs, each with several occurrences of a fault, whose figures differ by
cell (seed and occurrence), from occurrence to occurrence, from run to run and from week to week. The week that is
judged is planted unchanged, or worse by a known share. The gate is handed in, so that a wrong rule can be put in its
place.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Gate = Callable[[Array, Ints, Array, Ints, Ints, int], tuple[Flags, Flags, Array]]
"""Weeks (histories x weeks x runs x occurrences, in logarithms), their seeds (weeks x runs), the judged session
(histories x runs x occurrences), its seeds, in which session each run was, how many runs it may take at most -> FAIL,
PASS, and the power that is told."""

HISTORIES = 1_000
FIRST, MOST, CONFIRMING = 3, 7, 3
CELLS, STRETCHED, STRETCH = 0.18, 0.05, 2.0
"""Spread from cell to cell; of the occurrences this share takes up to so many times as long."""
SIZE, TWICE = 0.25, 0.40
TOLD = 5.0
"""Percent points that the told power may be off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Histories of one kind, and what must hold for them, in percent of the histories."""

    name: str
    weeks: int = 8
    occurrences: int = 4
    from_week: float = 0.03  # spread from week to week, as a share
    from_run: float = 0.03
    inside: float = 0.06  # from occurrence to occurrence
    confirmed: bool = False
    false_at_most: float
    found_at_least: float = 0.0
    passed_at_most: float = 100.0  # PASS of a week that is worse by `TWICE`
    told: bool = True  # the told power is compared with the simulated one


CASES = (
    Case(name="4 faults a run with cells, 8 weeks, sessions 3 %", false_at_most=2, found_at_least=95, passed_at_most=1),
    Case(name="the same, last week only", weeks=1, false_at_most=3, found_at_least=88, passed_at_most=1),
    Case(name="1 fault a run, 8 weeks", occurrences=1, false_at_most=4, found_at_least=80, passed_at_most=1),
    Case(name="sessions differ by 7 %", from_week=0.07, false_at_most=5, found_at_least=65, passed_at_most=2),
    Case(name="sessions differ by 15 %", from_week=0.15, false_at_most=8, passed_at_most=3),
    Case(
        name="one figure a run, run to run 8 %", occurrences=1, from_run=0.08, inside=0, false_at_most=2,
        found_at_least=92, passed_at_most=1,
    ),
    Case(
        name="4 faults, a FAIL confirmed in a second session", confirmed=True, false_at_most=0.5, found_at_least=94,
        passed_at_most=1, told=False,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOutcome:
    """What the gate said of the histories of one case and one planted change, in percent; mean number of runs."""

    fails: float
    passes: float
    told: float
    runs: float

    @property
    def said(self) -> str:
        """FAIL / PASS / UNKNOWN."""
        return f"{self.fails:.1f} / {self.passes:.1f} / {100 - self.fails - self.passes:.1f} ({self.runs:.1f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """One case: unchanged, worse by the size to be found, and worse by far."""

    case: Case
    unchanged: GateOutcome
    worse: GateOutcome
    far: GateOutcome

    @property
    def wrong(self) -> tuple[str, ...]:
        """What does not hold."""
        case = self.case
        off = self.worse.told - self.worse.fails
        false, found, missed = self.unchanged.fails, self.worse.fails, self.far.passes
        claims = (
            (false > case.false_at_most, f"false FAIL {false:.1f} %, at most {case.false_at_most:g}"),
            (found < case.found_at_least, f"+25 % found {found:.1f} %, at least {case.found_at_least:g}"),
            (missed > case.passed_at_most, f"PASS of +40 % {missed:.1f} %, at most {case.passed_at_most:g}"),
            (case.told and not abs(off) <= TOLD, f"told power {off:+.1f} points off, at most {TOLD:g}"),
        )
        return tuple(text for breaks, text in claims if breaks)


def planted(case: Case, change: float, seed: int) -> tuple[Array, Ints, Array, Ints, Ints]:
    """Histories, their seeds, the judged week with its confirmation, and that one's seeds and sessions."""
    dice = np.random.default_rng([seed, round(change * 1000), *case.name.encode()])
    cells = dice.normal(0, CELLS, (HISTORIES, FIRST, case.occurrences))

    def inside(*shape: int) -> Array:
        noise = dice.normal(0, case.inside, shape)
        stretched = dice.random(shape) < (STRETCHED if case.inside else 0)
        return noise + np.where(stretched, dice.uniform(0, math.log(STRETCH), shape), 0)

    seeds = np.tile(np.arange(FIRST), (case.weeks, 1))
    weeks = cells[:, seeds, :] + inside(HISTORIES, case.weeks, FIRST, case.occurrences)
    weeks += dice.normal(0, case.from_week, (HISTORIES, case.weeks, 1, 1))
    weeks += dice.normal(0, case.from_run, (HISTORIES, case.weeks, FIRST, 1))
    runs = MOST + CONFIRMING
    now, stacks = np.arange(runs) % FIRST, (np.arange(runs) >= MOST).astype(np.int64)
    week = cells[:, now, :] + inside(HISTORIES, runs, case.occurrences)
    week += dice.normal(0, case.from_week, (HISTORIES, 2))[:, stacks, None]
    week += dice.normal(0, case.from_run, (HISTORIES, runs, 1)) + math.log1p(change)
    return weeks, seeds, week, now, stacks


def outcome(case: Case, change: float, gate: Gate, seed: int) -> GateOutcome:
    """Play the session of every history: run after run while it is undecided, then the confirmation."""
    weeks, week_seeds, week, seeds, stacks = planted(case, change, seed)
    said = np.zeros(HISTORIES, dtype=np.int64)  # 1 FAIL, -1 PASS
    used = np.full(HISTORIES, MOST)
    told = np.zeros(HISTORIES)
    for runs in range(FIRST, MOST + 1):
        fails, passes, power = gate(weeks, week_seeds, week[:, :runs], seeds[:runs], stacks[:runs], MOST)
        fails, passes = fails & (said == 0), passes & (said == 0)
        if case.confirmed and fails.any():
            kept = [*range(runs), *range(MOST, MOST + CONFIRMING)]
            again, _, _ = gate(weeks[fails], week_seeds, week[fails][:, kept], seeds[kept], stacks[kept], MOST)
            said[np.flatnonzero(fails)[~again]] = 2  # worse in the first session only: UNKNOWN
            fails[np.flatnonzero(fails)[~again]] = False
        said[fails], said[passes] = 1, -1
        used[fails | passes] = runs
        told = power
        if (said != 0).all():
            break
    return GateOutcome(
        fails=float((said == 1).mean() * 100), passes=float((said == -1).mean() * 100), told=float(told.mean() * 100),
        runs=float(used.mean()),
    )  # fmt: skip


def characteristic(gate: Gate, seed: int, cases: tuple[Case, ...] = CASES) -> Iterator[CaseResult]:
    """Each case as it is done."""
    for case in cases:
        yield CaseResult(
            case=case,
            unchanged=outcome(case, 0.0, gate, seed),
            worse=outcome(case, SIZE, gate, seed),
            far=outcome(case, TWICE, gate, seed),
        )


def told_lines(gate: Gate, seed: int) -> Iterator[tuple[str, bool]]:
    """The whole characteristic as lines, each with whether it is in order; the last one sums up."""
    began = time.monotonic()
    yield f"{HISTORIES:,} planted histories a row; FAIL / PASS / UNKNOWN in percent (mean number of runs)", True
    wrong: list[str] = []
    first: CaseResult | None = None
    for result in characteristic(gate, seed):
        first = first or result
        told = f"told power {result.worse.told:.1f}" if result.case.told else ""
        yield (
            f"{result.case.name:50} no change {result.unchanged.said}, +25 % {result.worse.said}, "
            f"+40 % {result.far.said}  {told}",
            not result.wrong,
        )
        for text in result.wrong:
            wrong.append(f"{result.case.name}: {text}")
            yield f"  WRONG {text}", False
    took = f"{time.monotonic() - began:.0f} s"
    if wrong or first is None:
        yield f"the gate does not hold in {took}: {'; '.join(wrong)}", False
        return
    yield (
        f"the gate holds in all {len(CASES)} rows, {took}: {first.case.name}: {first.unchanged.fails:.1f} % false, "
        f"+25 % found in {first.worse.fails:.1f} %, told {first.worse.told:.1f} %",
        True,
    )
