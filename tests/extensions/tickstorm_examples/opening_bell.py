"""A shape: at its peak when the market opens, then what is above the base is halved in each `length_s`."""

from __future__ import annotations

from loadtests.model.ids import NS_PER_S
from loadtests.model.profile.workload import Shape
from loadtests.plan.pacing import Listed, Pacer, Seeded


def opening_bell(shape: Shape, run: Seeded) -> Pacer:
    """All times at once: the shape has no closed form, and a run has an end."""
    base, peak, half_s = shape.base_per_s or 0.0, shape.peak_per_s or 0.0, shape.length_s or 1.0
    at_s, times = 0.0, []
    while at_s < run.warm_up_s + run.duration_s:
        times.append(round(at_s * NS_PER_S))
        at_s += 1 / (base + (peak - base) * 0.5 ** (at_s / half_s))
    return Listed(times)
