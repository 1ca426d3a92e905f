"""What would a capacity session find on a target whose limit is known?  A fluid queue in virtual time.

A token bucket serves at its rate, with 4 % noise from half second to half second; arrivals come in bursts (their counts
vary four times as much as Poisson's); on request everything stands still for a while, regularly. Backlog queues, or is
dropped beyond a bound. Each step of the search becomes a trial.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from loadtests.model.capacity import Capacity, CapacityAsked, Judged, Trial
from loadtests.plan.search import Search, Step

BIN_S = 0.01
SLICE_S = 0.5
_PER_SLICE = round(SLICE_S / BIN_S)
DISPERSION, NOISE = 4.0, 0.04
BASE_MS = 2.0
LIMIT_MS = 100.0
LATENCY, LOSS = "latency_p95_ms<=100", "lost_defect<=0"


@dataclass(kw_only=True)
class Target:
    """Carries `per_s`; `profile_per_s` is what the profile offers at factor 1."""

    per_s: float
    seed: int
    profile_per_s: float = 500.0
    burst: float = 50.0
    stall_s: float = 0.0
    stall_every_s: float = 0.0
    drops_beyond: float | None = None  # deliveries in the queue
    generator_per_s: float = 1e9  # more cannot be offered
    cpu_us: float = 60.0  # of the gateway, for a delivery
    now_s: float = 0.0
    backlog: float = 0.0
    dice: np.random.Generator = field(init=False)
    first_stall_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.dice = np.random.default_rng(self.seed)
        self.first_stall_s = float(self.dice.uniform(0, self.stall_every_s or 1.0))

    def play(self, step: Step, index: int) -> Trial:
        """Offers the step's load, judges its hold, and waits until the backlog has drained."""
        rate = self.profile_per_s * step.factor
        shown = min(rate, self.generator_per_s)
        count = round((step.settle_s + step.hold_s) / BIN_S)
        mean = shown * BIN_S
        offered = self.dice.gamma(mean / DISPERSION, DISPERSION, count)
        served, left, lost = self._serve(offered, count)
        began = round(step.settle_s / BIN_S)
        arrived = np.cumsum(offered - lost)
        # A delivery of bin i is gone when all that arrived until then is; what is left drains at the target's rate.
        beyond = int(left[-1] / (self.per_s * BIN_S)) + 2 + round(self.stall_s / BIN_S)
        gone = np.concatenate([np.cumsum(served), arrived[-1] - left[-1] + self._tail(beyond)])
        late_bins = np.searchsorted(gone, arrived - 1e-6) - np.arange(count)
        latency = np.maximum(late_bins, 0) * BIN_S * 1000 + self.dice.gamma(4, BASE_MS / 4, count)
        hold = slice(began, count)
        weights = (offered - lost)[hold]
        late = latency[hold] > LIMIT_MS
        slices = len(weights) // _PER_SLICE
        of_slice = weights[: slices * _PER_SLICE].reshape(slices, _PER_SLICE)
        late_of = (of_slice * late[: slices * _PER_SLICE].reshape(slices, _PER_SLICE)).sum(axis=1)
        late_slice = late_of > 0.05 * of_slice.sum(axis=1)
        p50, p95, p99 = (_quantile(latency[hold], weights, q) for q in (0.5, 0.95, 0.99))
        total_lost = float(lost[hold].sum())
        slope = _slope_low(left[hold][::_PER_SLICE])
        broke = [LATENCY] if p95 > LIMIT_MS else []
        broke += [LOSS] if total_lost >= 1 else []
        broke += ["unseen grows"] if slope > 0 and left[-1] - left[began] > self.per_s * LIMIT_MS / 1000 else []
        verdict: Judged = "BAD" if broke else "GOOD"
        if shown < 0.98 * rate:
            verdict, broke = "UNUSABLE", ["the generator is saturated"]
        from_s = self.now_s + step.settle_s
        gap_s = max(1.0, beyond * BIN_S)
        self.now_s = from_s + step.hold_s + gap_s
        self.backlog = 0.0
        delivered = float(served[hold].sum()) / step.hold_s
        return Trial(
            run="simulated", index=index, kind=step.kind, factor=step.factor, from_s=from_s, to_s=from_s + step.hold_s,
            verdict=verdict, broke=broke, clients=50, gateways=1, published_per_s=shown / 50,
            offered_per_s=float(offered[hold].sum()) / step.hold_s, delivered_per_s=delivered,
            latency_ms={"p50": p50, "p95": p95, "p99": p99}, lost=round(total_lost), unseen_start=float(left[began]),
            unseen_end=float(left[-1]), unseen_slope_per_s=slope, little_ratio=1.0, own_lag_p99_ms=1.0, not_offered=0,
            slices=slices, late_slices=int(late_slice.sum()), longest_late_s=_longest(late_slice) * SLICE_S,
            resources={
                "gateway cpu": 3.0 + delivered * self.cpu_us * 1e-4 * float(np.exp(self.dice.normal(0, 0.01))),
                "gateway memory": 80.0 + delivered / 1000,
                "generator cpu": 2.0 + shown * 20e-4 * float(np.exp(self.dice.normal(0, 0.02))),
            },
        )  # fmt: skip

    def _serve(self, offered: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Served, left and lost of each bin."""
        noise = np.repeat(self.dice.normal(1, NOISE, count // _PER_SLICE + 1), _PER_SLICE)[:count]
        can = self.per_s * BIN_S * np.maximum(noise, 0.1)
        if self.stall_s:
            at = self.now_s + np.arange(count) * BIN_S - self.first_stall_s
            can[(at >= 0) & (at % self.stall_every_s < self.stall_s)] = 0.0
        lost = np.zeros(count)
        if self.drops_beyond is None:
            run = np.cumsum(offered - can)
            low = np.minimum(np.minimum.accumulate(run), 0.0)
            level = run - low
        else:
            level, at_now = np.empty(count), 0.0
            for i in range(count):
                at_now = max(0.0, at_now + offered[i] - can[i])
                lost[i] = max(0.0, at_now - self.burst - self.drops_beyond)
                at_now -= lost[i]
                level[i] = at_now
        left = np.maximum(level - self.burst, 0.0)  # a full bucket serves so many at once
        served = offered - lost - np.diff(left, prepend=0.0)
        return served, left, lost

    def _tail(self, bins: int) -> np.ndarray:
        """What is served of the backlog after the hold."""
        gone: np.ndarray = np.arange(1, bins + 1) * self.per_s * BIN_S
        return gone


def _quantile(values: np.ndarray, weights: np.ndarray, q: float) -> float:
    order = np.argsort(values)
    whole = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(whole, q * whole[-1])])


def _slope_low(unseen: np.ndarray) -> float:
    x = np.arange(len(unseen)) * SLICE_S
    x = x - x.mean()
    slope = float((x * unseen).sum() / (x * x).sum())
    rest = unseen - unseen.mean() - slope * x
    return slope - 3 * float(np.sqrt((rest**2).sum() / max(len(unseen) - 2, 1) / (x * x).sum()))


def _longest(flags: np.ndarray) -> int:
    longest = now = 0
    for flag in flags:
        now = now + 1 if flag else 0
        longest = max(longest, now)
    return longest


def session(target: Target, asked: CapacityAsked) -> tuple[Search, list[Trial]]:
    """A whole search on the target."""
    search, trials = Search(asked), []
    while (step := search.next(target.now_s)) is not None:
        trial = target.play(step, len(trials))
        trials.append(trial)
        search.add(trial.verdict, ", ".join(trial.broke))
    return search, trials


def told(capacity: Capacity) -> str:
    """For a failed test: the answer in a line."""
    return f"{capacity.confidence} {capacity.low} {capacity.high} {capacity.sentence}"
