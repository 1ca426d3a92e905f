"""Which numbers may a threshold limit, and which may end a run?  The tables; data only.  Meanings: docs/profile.md.

How to add one: a row here, a function of its name in a module `measure/measures_*`, its line in docs/profile.md, and
a run in which it is red (tests/measure/test_checks.py, whose table must name every measure).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from loadtests.model.kinds import AbortMeasure, Measure, registry

TIMES = frozenset({"ms", "s"})
"""Units of times: nothing takes less than 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedFigure:
    """Of a run, as it is kept and compared from week to week."""

    unit: str
    better: Literal["less", "more"] = "less"


SELECTORS = ("group", "family", "fault", "process", "query")
"""What a threshold may be confined to."""

_SEEN = {"deliveries", "seen"}
_ACCOUNT = {"account", *_SEEN}
_FLOW = {"publishers", "consumers"}
_STRANGE = {"needs": _SEEN, "none_better": True, "stands": True}
_RECOVERY = {"takes": {"fault"}, "needs": {"faults", *_FLOW}}
_QUERY = {"takes": {"query"}, "needs": {"readers", "due"}}
_LATENCY = {"unit": "ms", "needs": {"sent", "clock", "due"}}
_SERVICE = {"unit": "ms", "needs": {"sent", "clock"}}
_PROCESS = {"takes": {"process"}, "stands": True}


def _row(name: str, by: str, **more: Any) -> Measure:
    """A row; `by` is a module `measures_*`, and its attribute where that is not the measure's name."""
    module, _, attribute = by.partition(":")
    for key in ("takes", "needs"):
        if key in more:
            more[key] = frozenset(more[key])
    return Measure(name=name, by=f"loadtests.measure.measures_{module}:{attribute or name}", **more)


_ROWS = (
    _row("deliveries", "delivery:deliveries_", better="more", needs={*_SEEN, *_FLOW, "whole"}),
    _row("published", "delivery:published_", better="more", takes={"family"}, needs={"publishers", "whole"}),
    _row("delivery_rate", "delivery", unit="share", better="more", needs={*_ACCOUNT, *_FLOW}),
    _row("received_per_s", "delivery", unit="per_s", better="more", needs={*_SEEN, *_FLOW, "whole"}),
    _row("lost_defect", "delivery", needs=_ACCOUNT, none_better=True, stands=True),
    _row("lost_disconnected", "delivery", limit=0, needs={*_ACCOUNT, *_FLOW}, none_better=True, stands=True),
    _row("lost_not_replayed", "delivery", limit=0, at_all_times=True, needs=_ACCOUNT, none_better=True),
    _row("lost_charged", "delivery", needs=_ACCOUNT, none_better=True, stands=True),
    _row("lost_total", "delivery", needs=_ACCOUNT, none_better=True, stands=True),
    _row("repeated", "delivery:repeated_", **_STRANGE),
    _row("missing_copies", "delivery", limit=0, needs=_SEEN, none_better=True),
    _row("undecodable", "delivery", limit=0, at_all_times=True, takes={"group"}, **_STRANGE),
    _row("protocol", "delivery", limit=0, at_all_times=True, takes={"group"}, **_STRANGE),
    _row("altered", "delivery:altered_", limit=0, at_all_times=True, **{**_STRANGE, "needs": {*_SEEN, "content"}}),
    _row("restamped", "delivery", limit=0, at_all_times=True, **_STRANGE),
    _row("reordered", "delivery:reordered_", **_STRANGE),
    _row("foreign", "delivery", **_STRANGE),
    _row("unasked", "delivery", limit=0, at_all_times=True, **_STRANGE),
    _row("not_admitted", "delivery", limit=0, takes={"group"}),
    _row("publish_failed", "delivery", limit=0, takes={"family"}, stands=True),
    _row("publish_unknown", "delivery", limit=0, takes={"family"}, stands=True),
    _row("late", "delivery:late_", needs={*_SEEN, "sent"}, stands=True),
    _row("latency_mean_ms", "time", **_LATENCY),
    _row("latency_p50_ms", "time", **_LATENCY),
    _row("latency_p95_ms", "time", **_LATENCY),
    _row("latency_p99_ms", "time", **_LATENCY),
    _row("latency_max_ms", "time", **_LATENCY),
    _row("slowest_client_p95_ms", "time", takes={"group"}, **_LATENCY),
    _row("service_p95_ms", "time", **_SERVICE),
    _row("service_p99_ms", "time", **_SERVICE),
    _row("own_lag_p99_ms", "time", unit="ms", takes=(), needs={"own"}),
    _row("query_mean_ms", "target", unit="ms", **_QUERY),
    _row("query_p95_ms", "target", unit="ms", **_QUERY),
    _row("query_max_ms", "target", unit="ms", **_QUERY),
    _row("query_failed", "target", takes={"query"}, needs={"readers"}, stands=True),
    _row("recovery_s", "time", unit="s", **_RECOVERY),
    _row("outage_s", "time", unit="s", **_RECOVERY),
    _row("not_recovered", "time", **_RECOVERY),
    _row("clients_not_back", "time", limit=0, **_RECOVERY),
    _row("growth_mb", "target", unit="mb", shown=True, **_PROCESS),
    _row("growth_mb_per_h", "target", unit="mb_per_h", shown=True, **_PROCESS),
    _row("cpu_mean_percent", "target:cpu", unit="percent", **_PROCESS),
    _row("health_ms", "target:health", unit="ms", takes=(), needs={"health"}, stands=True),
    _row("clean_coverage", "target:coverage", unit="share", better="more", takes=(), needs={"own"}),
    _row("connected", "target", better="more", takes={"group"}, needs={"consumers"}),
    _row("stray", "delivery", takes={"group"}, **_STRANGE),
)

MEASURES: Mapping[str, Measure] = registry("measures", _ROWS)
"""By name, in the order of the manual, then those of extensions."""


def needing(what: str) -> frozenset[str]:
    """The measures that rest on something."""
    return frozenset(name for name, row in MEASURES.items() if what in row.needs)


AT_LEAST = frozenset(name for name, row in MEASURES.items() if row.at_least)
"""Measures of which more is better; their thresholds say `at_least`, all others `at_most`."""
DEFAULT_LIMITS: Mapping[str, float] = {name: row.limit for name, row in MEASURES.items() if row.limit is not None}
"""Limits (at_most) that hold though a profile does not name them; `at_most = "off"` switches one off."""

OF_THE_RUN = frozenset(
    {
        "deliveries", "published", "received_per_s", "clean_coverage", "connected", "growth_mb", "growth_mb_per_h",
        "own_lag_p99_ms",
    }
)  # fmt: skip
"""Measures that say nothing of a hold: they count over the run, or are our own."""

TIMED = frozenset(name for name, row in MEASURES.items() if row.unit in {*TIMES, "percent", "per_s"} or name == "late")
"""Measures that a slow machine breaks without the target's fault."""
_LIMIT = re.compile("[<>]=")


def is_timed(check: str) -> bool:
    """Whether a check, such as `latency_p95_ms<=100 calm`, limits one of these."""
    name, *limited = _LIMIT.split(check, maxsplit=1)
    return bool(limited) and name in TIMED


GATEABLE: Mapping[str, GatedFigure] = {
    name: GatedFigure(unit=unit, better="more" if name in AT_LEAST or name == "capacity" else "less")
    for unit, names in (
        ("s", ("first_fresh_p50_s", "first_fresh_p95_s", "recovery_s", "outage_s")),
        ("ms", ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")),
        ("s", ("cpu_s_per_million",)),
        ("mb", ("growth_mb",)),
        ("ms", ("query_p95_ms", "query_mean_ms")),
        ("count", ("unseen_max",)),
        ("per_s", ("received_per_s", "capacity")),
    )
    for name in names
}
"""Figures that are kept of every run, and that a profile may have compared from week to week: `[gate] measures`."""
MOST_GATED = 8
"""Each gated figure may fail by chance."""


def figure_of(name: str) -> GatedFigure | None:
    """What a figure such as `first_fresh_p95_s:redis-cut` is; None: this version does not know it."""
    return GATEABLE.get(name.partition(":")[0])


_GUARD = "loadtests.harness.triggers"
ABORTS: Mapping[str, AbortMeasure] = registry(
    "aborts",
    (
        AbortMeasure(name="target_memory_mb", by=f"{_GUARD}:target_memory_mb", process=True),
        AbortMeasure(name="host_free_memory_mb", by=f"{_GUARD}:host_free_memory_mb", less_is_worse=True),
        AbortMeasure(name="error_share", by=f"{_GUARD}:error_share", share=True),
        AbortMeasure(name="lost_share", by=f"{_GUARD}:lost_share", share=True),
    ),
)
"""Live figures that a guard may limit, so that a run ends before its plan does; by name."""
