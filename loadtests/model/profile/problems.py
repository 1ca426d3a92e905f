"""How does a user read what is wrong with a profile, all at once?  As `path: found ..., allowed ...`.

Rules between tables are asked although a table is refused: what is wrong in it is taken out, so that a user does not
meet a second set of problems after the first.  What they say of places that are told already is left away.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from loadtests.model.fault_kinds import KINDS, OWN_KEYS
from loadtests.model.profile import rules
from loadtests.model.profile.describe import PROFILE, FieldKind, Loc, found_words, kind_at, path_of
from loadtests.model.profile.faults import OF_KIND, Fault
from loadtests.model.profile.tables import Tables
from loadtests.model.words import nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, and where."""

    path: str
    text: str  # found ..., allowed ...


def all_problems(raw: dict[str, Any], error: ValidationError) -> list[Problem]:
    """Every problem of a profile that was refused: of its tables, and between them as far as they are valid."""
    told = list(problems_of(error))
    if not all(detail["loc"] for detail in error.errors(include_url=False)):
        return told  # each table is valid, and the rules between them have spoken
    known = [problem.path for problem in told]
    between = (problem for line in rules.problems(_as_far_as_valid(raw, error)) for problem in rule_problems(line))
    return told + [problem for problem in between if not _follows(problem, known)]


def problems_of(error: ValidationError, *, below: Loc = ()) -> Iterator[Problem]:
    """Every problem of a validation, in the order of the file's keys; `below` is where what was validated stands."""
    found = (problem for detail, loc, kind in _details(error, below) for problem in _problems(detail, loc, kind))
    yield from dict.fromkeys(found)  # each part of a union says the same


def _details(error: ValidationError, below: Loc = ()) -> Iterator[tuple[ErrorDetails, Loc, str | None]]:
    """Each detail, its place in the file, and the kind of the fault in which that is."""
    for detail in error.errors(include_url=False):
        loc: Loc = (*below, *detail["loc"])
        if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):  # a fault without a kind: what else is wrong
            try:
                Fault.all_keys.model_validate(detail["input"])
            except ValidationError as all_of_it:
                yield from _details(all_of_it, loc)
            continue
        kind = fault_kind_at(loc)
        yield detail, _place(loc if kind is None else (*loc[:2], *loc[3:])), kind


def _place(loc: Loc) -> Loc:
    """A place without the name of a union's part, which pydantic puts below it."""
    for depth in range(1, len(loc)):
        kind = kind_at(loc[:depth])
        if kind is not None and kind.of not in ("table", "list", "map"):
            return loc[:depth]
    return loc


def _problems(detail: ErrorDetails, loc: Loc, kind: str | None) -> Iterator[Problem]:
    """`kind`: of the fault in which it is."""
    path = path_of(loc)
    match detail["type"]:
        case "missing" if kind is not None and loc[-1] in OWN_KEYS:
            yield Problem(path=path, text=f'found nothing, allowed a value, which kind "{kind}" needs')
        case "extra_forbidden" if kind is not None and loc[-1] in OWN_KEYS:
            yield Problem(path=path, text=f'found {detail["input"]}, allowed nothing with kind "{kind}"')
        case "value_error":
            yield from rule_problems(_said(detail), path)
        case "extra_forbidden":
            yield Problem(path=path, text=unknown_key(str(loc[-1]), kind_at(loc[:-1])))
        case "missing":
            yield Problem(path=path, text=f"found nothing, allowed {_allowed(loc)}")
        case _ if loc and loc[-1] == "[key]":
            yield Problem(path=path, text=f"found an unknown key, allowed {_allowed(loc)}")
        case _:
            yield Problem(path=path, text=f"found {found_words(detail['input'])}, allowed {_allowed(loc)}")


def _said(detail: ErrorDetails) -> str:
    """What a rule of ours raised."""
    return detail["msg"].removeprefix("Value error, ")


def fault_kind_at(loc: Loc) -> str | None:
    """The kind of the fault in which a place is that pydantic names; it puts the kind where no key is."""
    kind = loc[2] if len(loc) > 2 and loc[0] == "faults" else None
    return kind if isinstance(kind, str) and kind in KINDS else None


def _allowed(loc: Loc) -> str:
    kind = kind_at(loc)
    return "nothing" if kind is None else kind.allowed


def rule_problems(text: str, path: str = "") -> Iterator[Problem]:
    """The lines of a rule's ValueError, below the table that it was raised for."""
    for line in text.split("\n"):
        key, _, rest = line.partition(": ")
        yield Problem(path=f"{path}.{key}" if path else key, text=rest)


def unknown_key(key: str, table: FieldKind | None) -> str:
    """Words for a key that a table does not have."""
    known = () if table is None else table.known
    return f"found an unknown key, allowed one of {', '.join(known)}{nearest(key, known)}"


# -- the rules between the tables of a profile that is refused anyway


_LONG_S = 86_400.0  # a duration in which all that is planned has room
_TIMES = (".at_s", ".for_s", ".every_s")
_OF_TIMES = ("run", "faults[", "steady", "recovery")
_STAND_IN = "tickstorm_stand_in"


def _follows(problem: Problem, known: list[str]) -> bool:
    """Whether a problem may come from what is told already, and not from what the user wrote."""
    if _STAND_IN in problem.text:
        return True
    if any(re.search(rf"(?<![\w.]){re.escape(path)}(?!\w)", problem.text) for path in known if path):
        return True
    if problem.path.endswith(_TIMES) and any(path.startswith(_OF_TIMES) for path in known):
        return True
    return any(problem.path == path or problem.path.startswith((f"{path}.", f"{path}[")) for path in known if path)


def _as_far_as_valid(raw: dict[str, Any], error: ValidationError) -> Tables:
    """The tables without what is wrong in them: a default stands there, or a stand-in where there is none."""
    left = copy.deepcopy(raw)
    for detail, loc, _ in sorted(_details(error), key=lambda row: len(row[1]), reverse=True):
        _take_out(left, detail, loc)
    left.setdefault("run", {}).setdefault("duration_s", _LONG_S)
    built: Tables = _built(PROFILE, left)
    return built


def _take_out(node: Any, detail: ErrorDetails, loc: Loc) -> None:
    """Take out what a detail complains of; items of a list and names of a map stay, with something valid."""
    *above, last = loc[:-1] if loc[-1] == "[key]" else loc
    try:
        for step in above:
            node = node[step]
        if detail["type"] == "value_error":  # the keys that the rule names, if the table can do without
            for problem in rule_problems(_said(detail)):
                node[last].pop(problem.path, None)
            return
        kind, around = kind_at(loc), kind_at(tuple(above))
        if loc[-1] != "[key]" and kind is not None and around is not None and around.of in ("list", "map"):
            node[last] = _valid(kind)
        else:
            del node[last]
    except (KeyError, IndexError):
        return  # missing, or taken out with what is around it


def _built(kind: FieldKind, value: Any) -> Any:
    """Tables of values that are valid each; whether a table agrees with itself is not asked again."""
    if kind.model is not None and isinstance(value, dict):
        model = kind.model
        if model is Fault.all_keys:
            model = OF_KIND[value.get("kind", next(iter(OF_KIND)))]
        fields = {}
        for name, field in model.model_fields.items():
            below = kind.child(name)
            if below is not None and (name in value or field.is_required()):
                fields[name] = _built(below, value[name]) if name in value else _valid(below)
        return model.model_construct(**fields)
    if kind.of == "list" and kind.item is not None:
        return [_built(kind.item, item) for item in value]
    return value


def _valid(kind: FieldKind) -> Any:
    """Some value that a kind takes."""
    limit = dict(kind.limits)
    match kind.of:
        case "choice":
            return kind.choices[0]
        case "text":
            return f"{_STAND_IN}.x" if r"\." in limit.get("pattern", "") else _STAND_IN
        case "whole number" | "number":
            return limit.get("ge", limit.get("gt", 0) + 1)
        case "true or false":
            return False
        case "list" if kind.item is not None:
            return [_valid(kind.item)] * limit.get("min_length", 0)
    return _built(kind, {})
