"""What would a refused profile look like with its wrong places mended?  So that the rules between tables speak as well.

The mended profile is never run: it only lets a user see all problems at once instead of a second set after the first.
"""

from __future__ import annotations

import copy
from typing import Any

from pydantic import ValidationError

from loadtests.model.measures import AT_LEAST
from loadtests.model.profile.describe import FieldKind, Loc, default_at, kind_at
from loadtests.model.profile.problems import Problem, fault_kind_at, rule_problems
from loadtests.model.profile.tables import Profile

_ROUNDS = 6
_LONG_S = 86_400.0
_RULE = "Value error, "
_OF_TIMES = ("run", "faults[", "steady", "recovery")


def problems_between(raw: dict[str, Any], error: ValidationError, spoken: list[Problem]) -> list[Problem]:
    """Problems between the tables of a profile that was refused with `error`, apart from what `spoken` says already."""
    mended = copy.deepcopy(raw)
    for _ in range(_ROUNDS):
        for detail in sorted(error.errors(include_url=False), key=lambda d: len(d["loc"]), reverse=True):
            loc: Loc = detail["loc"]
            if fault_kind_at(loc) is not None:
                loc = (*loc[:2], *loc[3:])
            if not loc:
                known = [problem.path for problem in spoken]
                text = detail["msg"].removeprefix(_RULE)
                return [problem for problem in rule_problems(text) if not _touches(problem.path, known)]
            if not _mend(mended, loc, detail["type"]):
                return []
        try:
            Profile.model_validate(mended)
        except ValidationError as next_error:
            error = next_error
        else:
            return []
    return []


def _touches(path: str, known: list[str]) -> bool:
    if path.endswith((".at_s", ".for_s", ".every_s")) and any(other.startswith(_OF_TIMES) for other in known):
        return True  # the mended times are not the user's
    return any(path == other or path.startswith((f"{other}.", f"{other}[")) for other in known if other)


def _mend(raw: dict[str, Any], loc: Loc, kind_of_error: str) -> bool:
    """Put something valid at a place; False where nothing can be put."""
    loc = tuple(step for step in loc if step != "[key]")
    node: Any = raw
    for step in loc[:-1]:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return False
    last = loc[-1]
    kind = kind_at(loc)
    try:
        if kind_of_error == "extra_forbidden" or kind is None:
            del node[last]
        elif kind_of_error == "value_error":
            _fit_rule(node[last], kind)
        elif isinstance(node, dict) and (kind.of == "map" or _optional(loc)):
            node.pop(last, None)
        else:
            node[last] = _LONG_S if loc == ("run", "duration_s") else _valid(kind)
    except (KeyError, IndexError, TypeError, AttributeError):
        return False
    return True


def _optional(loc: Loc) -> bool:
    parent = kind_at(loc[:-1])
    if parent is None or parent.model is None:
        return default_at(loc) is not None
    return not parent.model.model_fields[str(loc[-1])].is_required()


def _valid(kind: FieldKind) -> Any:
    """Some value that a kind takes."""
    limit = dict(kind.limits)
    match kind.of:
        case "choice":
            return kind.choices[0]
        case "text":
            return _TEXTS.get(limit.get("pattern", ""), "mended text")
        case "whole number":
            return limit.get("ge", limit.get("gt", 0) + 1)
        case "number":
            return float(limit.get("ge", limit.get("gt", 0) + 1))
        case "true or false":
            return False
        case "list" if kind.item is not None:
            return [_valid(kind.item)] * limit.get("min_length", 0)
        case "table" if kind.model is not None:
            table = {}
            for name, field in kind.model.model_fields.items():
                below = kind.child(name)
                if field.is_required() and below is not None:
                    table[name] = _valid(below)
            if kind.model.__name__ == "Shape":
                _fit_rule(table, kind)
            return table
    return {}


_TEXTS: dict[str, str] = {
    r"^[a-z0-9][a-z0-9_-]{0,47}$": "mended",
    r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_-]+)+$": "mended.channel",
    r"^[^\s:/]+:[0-9]{1,5}$": "mended:1",
    r"^/[!-~]*$": "/",
    r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,5}$": "mended",
}


def _fit_rule(table: dict[str, Any], kind: FieldKind) -> None:
    """Make a table agree with itself, keeping its name and what it refers to."""
    name = "" if kind.model is None else kind.model.__name__
    if name == "Shape":
        table.clear()
        table.update(kind="constant", rate_per_s=1.0)
    elif name == "Fault":
        for key in ("latency_ms", "jitter_ms", "rate_kb_per_s", "direction", "repeat", "after"):
            table.pop(key, None)
        if table.get("kind") == "latency":
            table["latency_ms"] = 1
        if table.get("kind") == "bandwidth":
            table["rate_kb_per_s"] = 1
    elif name == "Threshold":
        for key in ("at_most", "at_least"):
            table.pop(key, None)
        table["at_least" if table.get("measure") in AT_LEAST else "at_most"] = 1.0
    elif name == "Abort":
        for key in ("at_most", "at_least"):
            table.pop(key, None)
        table["at_least" if table.get("measure") == "host_free_memory_mb" else "at_most"] = 1.0
    elif name == "Family":
        keep: dict[str, Any] = {key: table[key] for key in ("name", "channel", "event") if key in table}
        keys = {key: list(dict.fromkeys(values)) for key, values in table.get("keys", {}).items()}
        table.clear()
        table.update(keep, keys=keys)
    elif name == "Target":
        table.clear()
