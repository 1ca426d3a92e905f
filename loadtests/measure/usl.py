"""How does throughput grow with gateways or workers, and where does it turn?  Points in, the Universal Scalability Law
with its intervals out; no clock, no file.

X(N) = λN / (1 + σ(N - 1) + κN(N - 1)): λ is what one carries, σ what has to wait in a queue for something that is
shared, κ what it costs that each has to agree with each.  N / X is linear in 1/λ, σ/λ and κ/λ, none of which can be
negative: a least squares problem with four possible sets of parameters that are not 0, of which the best is taken.  No
measurement at N = 1 is needed.

A law that fits says little of what lies far beyond its points: only what the points can carry is told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loadtests.model.capacity import Scaling, Span, Told

Array = NDArray[np.float64]

MOST = {"N": 1_000_000, "X": 1_000_000_000_000}
LEAST_X = 1e-6
"""Beyond these a point is a slip of the pen, and its squares are no numbers any more."""
LEAST_POINTS = 3
"""Of different N: below it there is no fit."""
RESAMPLES = 300
WIDEST = 0.15
"""Half an interval's width, as a share: what is less certain is not told."""
REACH = 2.0
"""Times the greatest N that was measured: beyond it nothing is told."""
OFF = 2.5
"""A point further from the law than so many of its errors is named."""
ASTRAY = 2.0
"""Times so far that chance is not why: such a law foretells nothing."""
DEFAULT_ERROR = 0.03
"""Of a point whose error nobody said: a bracket of 5 % is about so wide."""
_ACTIVE = ((0, 1, 2), (0, 1), (0, 2), (0,))
_LOW, _HIGH = 5.0, 95.0
_POINT = re.compile(r"\s*([^:]+?)\s*:\s*([^:]+?)\s*$")


def parse_points(text: str) -> list[tuple[float, float]]:
    """`1:9100,2:17400,4:31000`. Raises ValueError that names every problem."""
    found: list[tuple[float, float]] = []
    problems: list[str] = []
    parts = text.split(",") if text.strip() else []
    for number, part in enumerate(parts, 1):
        pair = _POINT.match(part)
        if pair is None:
            problems.append(f"point {number}: found {part.strip()!r}, allowed N:X, such as 2:17400")
            continue
        values = []
        for name, given, least in (("N", pair[1], 1.0), ("X", pair[2], 0.0)):
            try:
                value = float(given.replace("_", ""))
            except ValueError:
                problems.append(f"point {number}: {name} is {given!r}, allowed a number")
                continue
            if not (least <= value <= MOST[name] and value > LEAST_X):
                said = f"{'1' if least else 'above ' + format(LEAST_X, 'g')} to {MOST[name]:,}"
                problems.append(f"point {number}: {name} is {given}, allowed {said}")
                continue
            values.append(value)
        if len(values) == 2:
            found.append((values[0], values[1]))
    different = len({n for n, _ in found})
    if not problems and different < LEAST_POINTS:
        problems.append(f"{different} different N, allowed {LEAST_POINTS} or more: fewer say nothing of scaling")
    if problems:
        raise ValueError("\n".join(problems))
    return found


def fit(points: Sequence[tuple[float, float]], errors: Sequence[float] | None = None, seed: int = 1) -> Scaling:
    """The law through points (N, X); `errors` are shares of X, of each point, such as half the width of its search's
    bracket.

    Equal arguments give equal results. Raises ValueError for an N below 1, an X or error that is not above 0.
    """
    ordered = sorted(zip(points, errors or [DEFAULT_ERROR] * len(points), strict=True))
    if any(not (n >= 1 and 0 < x < math.inf and 0 < error < math.inf) for (n, x), error in ordered):
        raise ValueError("N is 1 or more, X and errors are above 0")
    kept = [point for point, _ in ordered]
    different = sorted({n for n, _ in kept})
    why_not: list[str] = []
    if len(different) < LEAST_POINTS:
        few = "one point says" if len(different) == 1 else f"{len(different)} different N say"
        nothing = Span()
        return Scaling(
            points=kept, lambda_=nothing, sigma=nothing, kappa=nothing, told=[], peak=None,
            why_not=[f"{few} nothing of scaling: {LEAST_POINTS} are needed"],
        )  # fmt: skip
    if errors is None:
        why_not.append(f"nobody said how sharp the points are: ± {DEFAULT_ERROR:.0%} is taken of each")
    n = np.array([n for n, _ in kept])
    x = np.array([x for _, x in kept])
    error = np.array([e for _, e in ordered])
    best = _fitted(n, x[None], error)[0]
    law = _law(n, best)
    dice = np.random.default_rng(seed)
    off = float((np.abs(np.log(x / law)) / (OFF * error)).max())
    drawn = law * np.exp(dice.normal(0, 1, (RESAMPLES, len(n))) * error)
    many = _fitted(n, drawn, error)
    spans = [
        Span(
            low=float(np.percentile(many[:, i], _LOW)), at=float(best[i]), high=float(np.percentile(many[:, i], _HIGH))
        )
        for i in range(3)
    ]
    largest = different[-1]
    why_not += [
        f"the law does not fit N = {there:g}: {value:,.0f} is {value / at - 1:+.0%} off, its error ± {e:.0%}"
        for there, value, at, e in zip(n, x, law, error, strict=True)
        if abs(math.log(value / at)) > OFF * e
    ]
    told, told_not = _told(best, many, largest, three=len(different) == LEAST_POINTS, error=float(np.median(error)))
    if off > ASTRAY:
        told, told_not = [], [f"beyond N = {largest:g} nothing is told, since the law does not fit"]
    peak, no_peak = _peak(best, many, spans[2], largest) if off <= ASTRAY else (None, [])
    steps = np.linspace(float(different[0]), largest * REACH, 41)
    return Scaling(
        points=kept,
        lambda_=spans[0],
        sigma=spans[1],
        kappa=spans[2],
        told=told,
        peak=peak,
        why_not=[*why_not, *told_not, *no_peak],
        curve=[_at(float(step), best, many) for step in steps],
    )


def _law(n: Array | float, of: Array) -> Array:
    """X(N); the last axis of `of` is λ, σ, κ."""
    found: Array = of[..., 0] * n / (1 + of[..., 1] * (n - 1) + of[..., 2] * n * (n - 1))
    return found


def _fitted(n: Array, rows: Array, error: Array) -> Array:
    """λ, σ, κ for each row of X, weighted by the points' errors; none is negative."""
    design = np.stack([np.ones_like(n), n - 1, n * (n - 1)], axis=1)
    wanted = n / rows
    weight = 1 / (wanted * error)
    right = wanted * weight  # rows x points
    best = np.full(len(rows), np.inf)
    found = np.zeros((len(rows), 3))
    for active in _ACTIVE:
        left = design[:, active] * weight[:, :, None]  # rows x points x parameters
        across = left.transpose(0, 2, 1)
        parameters = (np.linalg.pinv(across @ left) @ (across @ right[:, :, None]))[..., 0]
        off = (((left @ parameters[..., None])[..., 0] - right) ** 2).sum(axis=1)
        better = (parameters >= 0).all(axis=1) & (parameters[:, 0] > 0) & (off < best - 1e-9)
        full = np.zeros((len(rows), 3))
        full[:, active] = parameters
        best[better], found[better] = off[better], full[better]
    return np.stack([1 / found[:, 0], found[:, 1] / found[:, 0], found[:, 2] / found[:, 0]], axis=1)


def _at(n: float, best: Array, many: Array) -> Told:
    drawn = _law(n, many)
    low, high = np.percentile(drawn, [_LOW, _HIGH])
    return Told(n=n, x=float(_law(n, best)), low=float(low), high=float(high))


def _told(best: Array, many: Array, largest: float, *, three: bool, error: float) -> tuple[list[Told], list[str]]:
    """What is told beyond the points, and why the rest is not."""
    ends = [largest + 1] if three else sorted({largest + 1, round(largest * 1.5), largest * REACH})
    told: list[Told] = []
    for n in ends:
        if not largest < n <= max(largest * REACH, largest + 1):
            continue
        found = _at(n, best, many)
        half = (found.high - found.low) / 2 / found.x
        if half > WIDEST:
            sharper = error * WIDEST / half
            return told, [
                f"X({n:g}) is not told, ± {half:.0%}: it needs a point at N = {n:g}, or points to ± {sharper:.1%} "
                f"(they are ± {error:.1%})"
            ]
        told.append(found)
    if three:
        return told, [f"of three different N nothing is told beyond X({largest + 1:g}): it needs a fourth"]
    return told, []


def _peak(best: Array, many: Array, kappa: Span, largest: float) -> tuple[Told | None, list[str]]:
    """Where more of them carry less; told only where every resample has it within reach."""
    none = [f"no turning point up to N = {largest:g}"]
    if kappa.low is None or kappa.low <= 0 or best[2] <= 0:
        return None, none
    turns = many[:, 2] > 0
    drawn = np.full(len(many), np.inf)
    drawn[turns] = np.sqrt(np.maximum(1 - many[turns, 1], 0) / many[turns, 2])
    if drawn.max() > REACH * largest:  # by its 90 % interval alone it was told in 2 % of cases from N < peak / 2
        return None, [f"{none[0]}; there is one beyond it, but where cannot be told"]
    at = math.sqrt(max(1 - float(best[1]), 0) / float(best[2]))
    if at < 1:
        return None, ["more of them carry less from the first on"]
    low, high = (float(v) for v in np.percentile(drawn, [_LOW, _HIGH]))
    return Told(n=at, x=float(_law(max(at, 1.0), best)), low=low, high=high), []
