"""What may end a run before its plan does?  The table of the live figures that a guard may limit; data only."""

from __future__ import annotations

from collections.abc import Mapping

from loadtests.model.kinds import AbortMeasure, registry

_BY = "loadtests.harness.abort_guards"
ABORTS: Mapping[str, AbortMeasure] = registry(
    "aborts",
    (
        AbortMeasure(name="target_memory_mb", by=f"{_BY}:target_memory_mb", process=True),
        AbortMeasure(name="host_free_memory_mb", by=f"{_BY}:host_free_memory_mb", less_is_worse=True),
        AbortMeasure(name="error_share", by=f"{_BY}:error_share", share=True),
        AbortMeasure(name="lost_share", by=f"{_BY}:lost_share", share=True),
    ),
)
"""By name."""
