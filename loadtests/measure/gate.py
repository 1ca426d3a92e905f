"""Is this week worse than the weeks before, and since when is it? Arrays in, decisions out; no clock, no
file.

Wald's sequential test on the logarithm of a ratio: one likelihood ratio, so looking again after every run costs
nothing. Like is compared with like: a value is first set against the mean of its *cell*, which is the same occurrence
of the same fault under the same seed in the weeks before. What remains is split into what differs from run to run
(`within`) and from week to week (`between`); more runs help against the first alone.

Every function takes many histories at once (the first axis), so that the same code that judges one store can be tried
on thousands of planted ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

BETWEEN_PRIOR, BETWEEN_WEIGHT = 0.03**2, 4.0
"""How far weeks differ before a store has said it (variance of logarithms), and how many weeks that opinion weighs."""
BETWEEN_LEAST = 0.02**2
"""No machine repeats itself better than this from week to week."""
WITHIN_PRIOR, WITHIN_WEIGHT = 0.06**2, 2.0
"""The same for runs of one session."""
WITHIN_LEAST = 0.005**2
_NORMAL = NormalDist()
_LOW_90 = _NORMAL.inv_cdf(0.95)
_NINE_OF_TEN = _NORMAL.inv_cdf(0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What must be found, and how often it may be wrong."""

    size: float = 0.25  # the regression to be found, as a share
    alpha: float = 0.05  # chance of a false FAIL of one measure
    beta: float = 0.05  # chance of a PASS though it is worse by `size`

    @property
    def shift(self) -> float:
        """The size as a difference of logarithms."""
        return math.log1p(self.size)

    @property
    def worse(self) -> float:
        """Evidence above this is FAIL."""
        return math.log((1 - self.beta) / self.alpha)

    @property
    def fine(self) -> float:
        """Evidence below this is PASS."""
        return math.log(self.beta / (1 - self.alpha))


@dataclass(frozen=True, slots=True, kw_only=True)
class Weeks:
    """Logarithms of one measure over the weeks of a baseline; NaN where there is no value."""

    values: Array  # histories x weeks x runs x occurrences of the fault (1 where the measure has one value a run)
    seeds: Ints  # weeks x runs: which of the seeds the run had


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Logarithms of the same measure in the week that is judged."""

    values: Array  # histories x runs x occurrences
    seeds: Ints  # runs
    stacks: Ints  # runs: in which session, counted from 0; a confirmation is one of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the runs so far say, one value per history; shifts are differences of logarithms."""

    evidence: Array  # logarithm of the likelihood ratio
    shift: Array
    variance: Array  # of the shift
    between: Array  # variance from week to week
    within: Array  # variance from run to run
    baseline: Array  # logarithm of the baseline's place, as a run of the judged seeds would have it
    weeks: Array  # share of each week from that place: histories x weeks
    beyond: Array  # of the variance, what more runs cannot lower
    rule: Rule

    @property
    def fails(self) -> NDArray[np.bool_]:
        """Worse, by the evidence."""
        return self.evidence > self.rule.worse

    @property
    def passes(self) -> NDArray[np.bool_]:
        """Not worse by the size that must be found."""
        return self.evidence < self.rule.fine

    @property
    def better(self) -> NDArray[np.bool_]:
        """The mirrored question: better by as much. It is told, and gates nothing."""
        d = self.rule.shift
        return d * (-self.shift - d / 2) / self.variance > self.rule.worse

    @property
    def low(self) -> Array:
        """Lower end of the ratio's 90 % interval."""
        return np.exp(self.shift - _LOW_90 * np.sqrt(self.variance))

    @property
    def high(self) -> Array:
        """Upper end of it."""
        return np.exp(self.shift + _LOW_90 * np.sqrt(self.variance))

    def power(self, runs: int) -> Array:
        """Chance that a regression of the rule's size is FAIL in a session that may take so many runs."""
        z = (self.rule.shift - self._line(runs)) / np.sqrt(self._with(runs))
        return np.array([_NORMAL.cdf(float(one)) for one in z])

    def smallest(self, runs: int) -> Array:
        """The regression that such a session finds in nine of ten weeks, as a share."""
        return np.expm1(self._line(runs) + _NINE_OF_TEN * np.sqrt(self._with(runs)))

    def _with(self, runs: int) -> Array:
        return self.beyond + self.within / runs

    def _line(self, runs: int) -> Array:
        """The shift at which the evidence reaches FAIL."""
        d = self.rule.shift
        return d / 2 + self.rule.worse * self._with(runs) / d


def median(values: Array) -> Array:
    """Over the last axis, without NaN; NaN where there is nothing else. What is infinite ranks last."""
    ordered = np.sort(values, axis=-1)
    count = (~np.isnan(ordered)).sum(axis=-1)
    low, high = np.maximum((count - 1) // 2, 0), np.maximum(count // 2, 0)
    high = np.minimum(high, values.shape[-1] - 1)
    found = (_pick(ordered, low) + _pick(ordered, high)) / 2
    return np.where(count > 0, found, np.nan)


def _pick(ordered: Array, index: Ints) -> Array:
    taken: Array = np.take_along_axis(ordered, index[..., None], axis=-1)[..., 0]
    return taken


def location(values: Array) -> Array:
    """Hodges and Lehmann's, over the last axis: the median of all means of two, robust and nearly as sharp as the
    mean.
    """
    i, j = np.triu_indices(values.shape[-1])
    return median((values[..., i] + values[..., j]) / 2)


def mean(values: Array, axis: int | tuple[int, ...]) -> Array:
    """Without NaN; NaN where there is nothing else."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def judged(
    weeks: Weeks, session: Session, rule: Rule = Rule(), *, error: float = 0.0, paired: bool = False
) -> Evidence:
    """`error`: of one value, as a share of it. `paired`: both sides ran in turn in one session, so that weeks do not
    differ.

    Raises ValueError for no week, or fewer than two runs.
    """
    n = session.values.shape[1]
    if weeks.values.shape[1] == 0 or n < 2:
        raise ValueError("a baseline of at least one week and two runs of this week are needed")
    cells, counts = _cells(weeks, session)
    middle = mean(cells, axis=1)  # histories x occurrences: for a cell that no week has
    lacking = ~np.isfinite(cells)
    spread = np.nan_to_num(np.nanvar(np.where(lacking, np.nan, cells), axis=(1, 2))) if lacking.any() else 0.0
    cells = np.where(lacking, middle[:, None, :], cells)

    past = median(weeks.values - cells[:, weeks.seeds, :])  # histories x weeks x runs
    now = median(session.values - cells[:, session.seeds, :])  # histories x runs
    places = location(past)
    m = np.isfinite(places).sum(axis=1)
    runs = np.isfinite(past).sum(axis=2)
    each = runs.sum(axis=1) / np.maximum(m, 1)
    centre = location(places)

    # What differs from run to run: weeks and cells were both fitted to the baseline, which costs degrees of freedom.
    off_past = past - mean(past, axis=2)[..., None]
    off_now = now - _means_of(now, session.stacks)
    seeds = int((counts > 0).sum())
    sessions = len(np.unique(session.stacks))
    freedom_past = np.maximum(runs.sum(axis=1) - m - seeds + 1, 0)
    freedom_now = np.maximum(np.isfinite(now).sum(axis=1) - sessions, 0)
    stretched = 1 + 1 / np.maximum(mean(counts[session.seeds].astype(float), axis=0), 1)
    squares = (
        np.where(freedom_past > 0, np.nansum(off_past**2, axis=(1, 2)), 0) + np.nansum(off_now**2, axis=1) / stretched
    )
    freedom = freedom_past + freedom_now
    within = np.maximum((squares + WITHIN_PRIOR * WITHIN_WEIGHT) / (freedom + WITHIN_WEIGHT), WITHIN_LEAST)

    if paired:
        between = np.zeros_like(within)
    else:
        varied = np.where(
            m > 1, np.nansum((places - mean(places, axis=1)[:, None]) ** 2, axis=1) / np.maximum(m - 1, 1), 0
        )
        seen = np.maximum(varied - within / each, 0)
        between = np.maximum(
            (seen * (m - 1) + BETWEEN_PRIOR * BETWEEN_WEIGHT) / (m - 1 + BETWEEN_WEIGHT), BETWEEN_LEAST
        )
    many = np.isfinite(now).sum(axis=1)
    fixed = between * (1 / sessions + 1 / m) + within / (m * each) + error**2
    fixed = (
        fixed
        + spread * lacking[:, session.seeds, :].sum(axis=(1, 2)) / np.maximum(many * session.values.shape[2], 1) ** 2
    )
    variance = fixed + within / np.maximum(many, 1)
    shift = mean(_places_of(now, session.stacks), axis=1) - centre
    d = rule.shift
    return Evidence(
        evidence=d * (shift - d / 2) / variance,
        shift=shift,
        variance=variance,
        between=between,
        within=within,
        baseline=centre + median(mean(cells[:, session.seeds, :], axis=1)),
        weeks=places - centre[:, None],
        beyond=fixed,
        rule=rule,
    )


def confirmed(weeks: Weeks, session: Session, rule: Rule = Rule(), *, error: float = 0.0) -> NDArray[np.bool_]:
    """Whether each session after the first is by itself nearer to worse than to unchanged; so where there is none.

    The evidence of all sessions together is not enough: one session far off would outweigh a second one that is in
    order.
    """
    found = np.ones(len(session.values), dtype=bool)
    for stack in np.unique(session.stacks)[1:]:
        of_it = session.stacks == stack
        alone = Session(values=session.values[:, of_it], seeds=session.seeds[of_it], stacks=session.stacks[of_it])
        found &= judged(weeks, alone, rule, error=error).evidence > 0
    return found


def look(
    weeks: Array, week_seeds: Ints, session: Array, seeds: Ints, stacks: Ints, most: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Array]:
    """FAIL, PASS and told power of many histories, by the rule as it is shipped: `tickstorm prove --gate` asks it."""
    before, now = Weeks(values=weeks, seeds=week_seeds), Session(values=session, seeds=seeds, stacks=stacks)
    found = judged(before, now)
    return found.fails & confirmed(before, now), found.passes, found.power(most)


def _cells(weeks: Weeks, session: Session) -> tuple[Array, Ints]:
    """Mean of each cell over the baseline (histories x seeds x occurrences), and how many runs of it each seed had."""
    many = int(max(weeks.seeds.max(initial=0), session.seeds.max(initial=0))) + 1
    found, counts = [], []
    known = np.isfinite(weeks.values).any(axis=(0, 3))
    for seed in range(many):
        of_it = np.where((weeks.seeds == seed)[None, :, :, None], weeks.values, np.nan)
        found.append(mean(of_it, axis=(1, 2)))
        counts.append(int(((weeks.seeds == seed) & known).sum()))
    return np.stack(found, axis=1), np.array(counts, dtype=np.int64)


def _places_of(now: Array, stacks: Ints) -> Array:
    return np.stack([location(now[:, stacks == stack]) for stack in np.unique(stacks)], axis=1)


def _means_of(now: Array, stacks: Ints) -> Array:
    means = np.zeros_like(now)
    for stack in np.unique(stacks):
        means[:, stacks == stack] = mean(now[:, stacks == stack], axis=1)[:, None]
    return means


def more_runs(found: Evidence, runs: int) -> int | None:
    """About how many runs beyond these would decide the first history; None: no number would."""
    shift, d = float(found.shift[0]), found.rule.shift
    away = shift - d / 2
    if away == 0:
        return None
    wanted = d * away / (found.rule.worse if away > 0 else found.rule.fine)
    rest = wanted - float(found.beyond[0])
    return max(1, math.ceil(float(found.within[0]) / rest) - runs) if rest > 0 else None


LEAST_SIDE = 3
"""Weeks on either side of a change."""
LEAST_WEEKS = 10
"""A series shorter than this is not searched."""
SHUFFLES = 499
CHANCE = 0.01
_CLIP = 2.5 * 1.4826


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`at`: index of the first week of the new level. `ratio`: of the medians of both sides. `p`: chance of as much."""

    at: int
    ratio: float
    p: float


def changes(values: Sequence[float], *, breaks: Sequence[int] = (), seed: int = 1) -> list[Change]:
    """Change points in order of time. All values must be greater than 0."""
    logs = np.log(np.asarray(values, dtype=float))
    if len(logs) < LEAST_WEEKS:
        return []
    edges = sorted({0, len(logs), *(at for at in breaks if 0 < at < len(logs))})
    found: list[Change] = []
    for first, end in pairwise(edges):
        found += _within(logs, first, end, np.random.default_rng(seed))
    return sorted(found, key=lambda change: change.at)


def _within(logs: NDArray[np.float64], first: int, end: int, dice: np.random.Generator) -> list[Change]:
    length = end - first
    if length < 2 * LEAST_SIDE:
        return []
    middle = np.median(logs[first:end])
    reach = _CLIP * np.median(np.abs(logs[first:end] - middle)) + 1e-9
    clipped = np.clip(logs[first:end], middle - reach, middle + reach)
    splits = np.arange(LEAST_SIDE, length - LEAST_SIDE + 1)
    weights = np.sqrt(splits * (length - splits) / length)

    def contrast(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.cumsum(rows, axis=1)
        left = sums[:, splits - 1]
        found: NDArray[np.float64] = np.abs(left / splits - (sums[:, -1:] - left) / (length - splits)) * weights
        return found

    own = contrast(clipped[None])[0]
    shuffled = dice.permuted(np.tile(clipped, (SHUFFLES, 1)), axis=1)
    p = (1 + int((contrast(shuffled).max(axis=1) >= own.max() - 1e-12).sum())) / (SHUFFLES + 1)
    if p > CHANCE:
        return []
    at = first + int(splits[own.argmax()])
    ratio = float(np.exp(np.median(logs[at:end]) - np.median(logs[first:at])))
    return [*_within(logs, first, at, dice), Change(at=at, ratio=ratio, p=p), *_within(logs, at, end, dice)]
