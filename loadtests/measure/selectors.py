"""Which rows is a threshold about, and what does a measure hand back?  Group, family and phases, for all measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from loadtests.measure.analysis import Analysis
from loadtests.measure.history_tables import Bools, Ints
from loadtests.measure.phases import chosen
from loadtests.measure.sample_counts import Sampled, Span, without
from loadtests.model.profile.tables import Threshold
from loadtests.model.results import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measured value with its evidence; `verdict` where the measure judges itself."""

    value: float | None
    evidence: list[str] = field(default_factory=list)
    why_not: str = "no samples"
    verdict: Verdict | None = None
    because: str = ""  # what explains a breach, in the target's own words
    samples: str = ""  # how many it rests on, of how many that were expected


# -- which rows


def groups_of(analysis: Analysis, t: Threshold) -> list[int]:
    """Consumer groups that a threshold is about."""
    groups = analysis.profile.consumers
    if t.group is not None:
        return [i for i, g in enumerate(groups) if g.name == t.group]
    return [i for i, g in enumerate(groups) if not g.expect_slow]


def family_of(analysis: Analysis, t: Threshold) -> int | None:
    """Family that a threshold is about; None stands for all."""
    return next((i for i, f in enumerate(analysis.profile.families) if f.name == t.family), None)


def came_rows(analysis: Analysis, t: Threshold) -> Bools:
    """Consumed rows of a threshold's group, family and phases."""
    wanted, family = chosen(t.phases), family_of(analysis, t)
    rows: Bools = np.isin(analysis.came.consumers, groups_of(analysis, t))
    if family is not None:
        rows &= analysis.came.family == family
    if wanted is not None:
        rows &= np.isin(analysis.phases.codes(analysis.came.due, analysis.came.received), sorted(wanted))
    return rows


def published_rows(analysis: Analysis, t: Threshold, *, no_faults: bool = False) -> Ints:
    """A column of 0 and 1 over the published rows: those of a threshold's family and phases.

    A message belongs to the phase of a fault that began before it had to be there.  `no_faults`: for what the account
    has shown to be no fault's, which belongs to the phase in which the message was due.
    """
    wanted, family = chosen(t.phases), family_of(analysis, t)
    due = analysis.table.due
    rows: Bools = np.ones(len(due), dtype=np.bool_)
    if family is not None:
        rows &= analysis.table.row_family == family
    if wanted is not None:
        rows &= np.isin(analysis.phases.codes(due, due if no_faults else None), sorted(wanted))
    return rows.astype(np.int64)


def untroubled(analysis: Analysis) -> Ints:
    """A column of 0 and 1 over the published rows: those that were sent and waited for while all of ours kept up."""
    n = len(analysis.behind)
    before = np.concatenate(([0], np.cumsum(analysis.behind)))
    first = np.clip(analysis.table.sent - analysis.low, 0, n)
    last = np.clip(analysis.table.sent - analysis.low + analysis.phases.late_slices + 1, 0, n)
    rows: Ints = np.equal(before[last], before[first]).astype(np.int64)
    return rows


def within(analysis: Analysis, at_ns: int, wanted: set[int] | None) -> bool:
    """Whether a moment lies in the wanted phases; None stands for all."""
    return wanted is None or analysis.phases.code_at(at_ns) in wanted


# -- on which samples it rests


def spans_of(analysis: Analysis, wanted: set[int] | None, source: str = "") -> list[Span]:
    """The phases within the plan, without the time in which a planned fault holds a source of samples."""
    held = [
        (a.began_ns, max(a.healed_ns, a.lifted_ns or 0) if a.healed_ns is not None else analysis.times.end_ns)
        for a in analysis.fault_windows
        if a.began_ns is not None and a.link == source
    ]
    return without(analysis.phases.stretches(wanted), held)


def resting_on(analysis: Analysis, t: Threshold, figure: Figure, found: Sequence[Sampled], *, proves: bool) -> Figure:
    """The figure with how many samples it rests on; UNKNOWN where they are too few.

    `proves`: one bad sample is enough for a breach, so that it stands however few others there are.
    """
    breach = figure.verdict is Verdict.FAIL or (figure.value is not None and figure.value > t.limit)
    thin = [s.said(analysis.times.seconds) for s in found if not s.enough]
    if thin and not (proves and breach and figure.verdict is not Verdict.UNKNOWN):
        return replace(figure, verdict=Verdict.UNKNOWN, why_not="; ".join(thin))
    return replace(figure, samples="; ".join(s.said(analysis.times.seconds) for s in found))
