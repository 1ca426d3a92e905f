"""How may a rate go over time?  The table of shapes; data only. Due times come from the function that a row names."""

from __future__ import annotations

from collections.abc import Mapping

from loadtests.model.kinds import ShapeKind, registry


def _shape(name: str, *needs: str) -> ShapeKind:
    return ShapeKind(name=name, by=f"loadtests.plan.pacing:{name.replace('-', '_')}", needs=needs)


REPLAY = _shape("replay", "file")
SHAPES: Mapping[str, ShapeKind] = registry(
    "shapes",
    (
        _shape("constant", "rate_per_s"),
        _shape("ramp", "from_per_s", "to_per_s"),
        _shape("poisson", "rate_per_s"),
        _shape("burst", "base_per_s", "peak_per_s", "length_s", "period_s"),
        _shape("on-off", "rate_per_s", "length_s", "period_s"),
        REPLAY,
    ),
)
"""By name."""
