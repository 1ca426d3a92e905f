"""How does a user read what is wrong with a profile?  Pydantic's errors in, `path: found ..., allowed ...` out."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from loadtests.model.fault_kinds import KINDS, OWN_KEYS
from loadtests.model.profile.describe import FieldKind, Loc, found_words, kind_at, path_of
from loadtests.model.profile.faults import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, and where."""

    path: str
    text: str  # found ..., allowed ...


def problems_of(error: ValidationError, *, below: Loc = ()) -> Iterator[Problem]:
    """Every problem of a validation, in the order of the file's keys; `below` is where what was validated stands."""
    for detail in error.errors(include_url=False):
        loc: Loc = (*below, *detail["loc"])
        kind = fault_kind_at(loc)
        yield from _problems(detail, loc if kind is None else (*loc[:2], *loc[3:]), kind)


def _problems(detail: ErrorDetails, loc: Loc, kind: str | None) -> Iterator[Problem]:
    """`kind`: of the fault in which it is."""
    path = path_of(loc)
    match detail["type"]:
        case "union_tag_invalid" | "union_tag_not_found":
            yield from _without_kind(detail["input"], loc)
        case "missing" if kind is not None and loc[-1] in OWN_KEYS:
            yield Problem(path=path, text=f'found nothing, allowed a value, which kind "{kind}" needs')
        case "extra_forbidden" if kind is not None and loc[-1] in OWN_KEYS:
            yield Problem(path=path, text=f'found {detail["input"]}, allowed nothing with kind "{kind}"')
        case "value_error":
            yield from rule_problems(detail["msg"].removeprefix("Value error, "), path)
        case "extra_forbidden":
            yield Problem(path=path, text=unknown_key(str(loc[-1]), kind_at(loc[:-1])))
        case "missing":
            yield Problem(path=path, text=f"found nothing, allowed {_allowed(loc)}")
        case _ if loc and loc[-1] == "[key]":
            yield Problem(path=path, text=f"found an unknown key, allowed {_allowed(loc)}")
        case _:
            yield Problem(path=path, text=f"found {found_words(detail['input'])}, allowed {_allowed(loc)}")


def _without_kind(fault: object, loc: Loc) -> Iterator[Problem]:
    """What else is wrong with a fault of which nobody knows the kind."""
    try:
        Fault.all_keys.model_validate(fault)
    except ValidationError as error:
        yield from problems_of(error, below=loc)


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


def nearest(name: str, known: Collection[str]) -> str:
    """A suggestion, empty where nothing is near."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""
