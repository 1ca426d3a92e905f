"""Which value did every key of a run have, where did it come from, which limit was loosened, what does it reach?  Pure.

To reach is to name the target, a file to open or an address: a form may change what a run does, not where, however its
user spells it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loadtests.model.address import PATTERN, PATTERN_OR_SPARE, SPARE
from loadtests.model.measures import DEFAULT_LIMITS
from loadtests.model.profile.describe import FieldNote, Loc, all_fields, default_at, path_of
from loadtests.model.profile.override import Overrides
from loadtests.model.profile.profile import Profile
from loadtests.model.records import Effective

_MORE, _LESS, _ANY = "more", "less", "any"

LOOSER: dict[str, str] = {
    "run.drain_s": _MORE,
    "run.late_s": _MORE,
    "run.settle_ms": _MORE,
    "families[].mode": _ANY,
    "families[].latest_within_s": _MORE,
    "families[].copies": _MORE,
    "families[].offline": _ANY,
    "families[].path": _ANY,
    "consumers[].expect_slow": _ANY,
    "faults[].recovery_limit_s": _MORE,
    "steady.delivery_min": _LESS,
    "steady.latency_factor": _MORE,
    "steady.latency_add_ms": _MORE,
    "steady.connected_min": _LESS,
    "steady.hold_s": _LESS,
    "steady.group_ms": _MORE,
    "steady.group_min_messages": _MORE,
    "recovery.limit_s": _MORE,
    "guard.own_lag_p99_ms": _MORE,
    "guard.cpu_percent": _MORE,
    "guard.hub_lag_ms": _MORE,
    "guard.not_offered_share": _MORE,
    "guard.undecided_share": _MORE,
    "guard.clean_coverage_min": _LESS,
    "guard.memory_mb": _MORE,
    "aborts[].at_most": _MORE,
    "aborts[].at_least": _LESS,
    "aborts[].for_s": _MORE,
    "thresholds[].at_most": _MORE,
    "thresholds[].at_least": _LESS,
    "thresholds[].measure": _ANY,
    "thresholds[].phases": _ANY,
    "thresholds[].group": _ANY,
    "thresholds[].family": _ANY,
    "thresholds[].fault": _ANY,
    "thresholds[].process": _ANY,
    "thresholds[].query": _ANY,
}
"""Which change of a key loosens a verdict; a change that may, by what it stands for, counts as one that does."""

_INDEX = re.compile(r"\[\d+\]")


def effective(profile: Profile, raw: Mapping[str, Any], done: Overrides) -> Effective:
    """One row per value. `raw` is the file as it was before any setting."""
    rows: list[tuple[str, str, str, bool]] = []
    for loc, value in leaves(profile.model_dump(exclude_none=True)):
        in_file, before = _look(raw, loc)
        source = done.source(loc) or ("profile" if in_file else "default")
        relaxed = _relaxed(loc, raw, before, value) or (not in_file and _beyond_default(profile, loc))
        rows.append((path_of(loc), json.dumps(value, ensure_ascii=False), source, relaxed))
    rows += _missing(profile, raw, done)
    rows += [(key, json.dumps(value), source, False) for key, value, source in done.noted]
    return Effective(
        key=[row[0] for row in rows],
        value=[row[1] for row in rows],
        source=[row[2] for row in rows],
        relaxed=[row[3] for row in rows],
    )


def leaves(value: Any, loc: Loc = ()) -> Iterator[tuple[Loc, Any]]:
    """Values that are no tables, each with its place; a list of plain values is one."""
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from leaves(below, (*loc, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, below in enumerate(value):
            yield from leaves(below, (*loc, index))
    else:
        yield loc, value


def _look(raw: Any, loc: Loc) -> tuple[bool, Any]:
    """Whether the file has a place, and its value there or by default."""
    node = raw
    for step in loc:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return False, default_at(loc)
    return True, node


def _relaxed(loc: Loc, raw: Mapping[str, Any], before: Any, now: Any) -> bool:
    way = LOOSER.get(_INDEX.sub("[]", path_of(loc)))
    if way is None or before == now:
        return False
    if before is None and loc[0] == "faults":
        before = _look(raw, ("recovery", "limit_s"))[1]
    if before is None and loc[0] == "thresholds" and isinstance(loc[1], int):
        return _look(raw, loc[:2])[0]  # a threshold of its own that a setting added loosens nothing
    if way is _ANY or not isinstance(before, int | float):
        return True
    return bool(now > before if way is _MORE else now < before)


def _beyond_default(profile: Profile, loc: Loc) -> bool:
    """Whether a place is the bound of a threshold that a setting added and that loosens a default limit."""
    if loc[0] != "thresholds" or loc[-1] != "at_most" or not isinstance(loc[1], int):
        return False
    threshold = profile.thresholds[loc[1]]
    default = DEFAULT_LIMITS.get(threshold.measure)
    return default is not None and (threshold.off or threshold.limit > default)


def _missing(profile: Profile, raw: Mapping[str, Any], done: Overrides) -> Iterator[tuple[str, str, str, bool]]:
    """Thresholds that the file has and the run has not."""
    listed = raw.get("thresholds")
    for index in range(len(profile.thresholds), len(listed) if isinstance(listed, list) else 0):
        yield f"thresholds[{index}]", '"taken away"', done.source(("thresholds",)) or "profile", True


def _reaches(note: FieldNote) -> bool:
    pattern = dict(note.kind.limits).get("pattern")
    return note.path.endswith("file") or pattern in (PATTERN, PATTERN_OR_SPARE)


REACHING = tuple(note.path for note in all_fields() if _reaches(note) and not note.path.startswith("target."))
"""Keys beside those of the target that name a file or an address."""


def beyond(profile: Profile, named: Profile) -> list[str]:
    """Keys by which a profile reaches what the named one does not: its target is another, a file or address is new."""
    ours, theirs = profile.model_dump(), named.model_dump()
    found = [f"target.{key}" for key, value in ours["target"].items() if value != theirs["target"][key]]
    for path in REACHING:
        steps = path.replace("[]", "").split(".")
        if {*_at(ours, steps)} - {*_at(theirs, steps), SPARE, None}:  # the local stack chooses a spare, no user does
            found.append(path.replace("[]", ""))
    return found


def _at(node: Any, steps: Sequence[str]) -> Iterator[Any]:
    """Every value at a path, of each item where there is a list."""
    if isinstance(node, list | tuple):
        for item in node:
            yield from _at(item, steps)
    elif not steps:
        yield node
    elif isinstance(node, dict):
        yield from _at(node.get(steps[0]), steps[1:])
