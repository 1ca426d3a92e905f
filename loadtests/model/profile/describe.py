"""Which keys may a profile have, and what does each take?  Read off the pydantic models, so that words and rules agree.

Wording of problems, overrides by path and the completeness of docs/profile.md all ask here.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from loadtests.model.address import PATTERN, PATTERN_OR_SPARE
from loadtests.model.profile.faults import Fault
from loadtests.model.profile.tables import Tables
from loadtests.model.profile.workload import NO_KIND

Loc = tuple[str | int, ...]
"""Where in a profile: keys of tables and indices of lists."""

_ADDRESS = "host:port, an IPv6 address in brackets"
_WORDS: dict[str, str] = {
    r"^[a-z0-9][a-z0-9_-]{0,47}$": 'a name of lower-case letters, digits, "_" and "-", at most 48 characters',
    r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_-]+)+$": "a channel of at least two segments, such as tickstock.events.patterns",
    PATTERN: _ADDRESS,
    PATTERN_OR_SPARE: f'"spare" or {_ADDRESS}',
    r"^[^\x00-\x1f\x7f]+$": "text without control characters, not empty",
    NO_KIND: "nothing: no extension that adds a kind of user is enabled",
    r"^/[!-~]*$": 'a path that begins with "/"',
    r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,5}$": "at most six keys joined by dots",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldKind:
    """What one place in a profile takes."""

    of: Literal["table", "list", "map", "choice", "text", "whole number", "number", "true or false"]
    model: type[BaseModel] | None = None  # of a table
    item: FieldKind | None = None  # of a list's items or a map's values
    keys: FieldKind | None = None  # of a map
    choices: tuple[str, ...] = ()
    limits: tuple[tuple[str, Any], ...] = ()  # ge, gt, le, lt, multiple_of, min_length, max_length, pattern
    other: FieldKind | None = None  # what it takes as well

    def child(self, step: str | int) -> FieldKind | None:
        """What lies one step below; None where nothing can."""
        if self.of == "table" and self.model is not None:
            field = self.model.model_fields.get(str(step))
            return None if field is None else _of_field(field)
        if self.of in ("list", "map"):
            return self.keys if step == "[key]" else self.item
        return None

    @property
    def known(self) -> tuple[str, ...]:
        """Keys of a table, or a map's keys where they are fixed."""
        if self.model is not None:
            return tuple(self.model.model_fields)
        return self.keys.choices if self.keys is not None else ()

    @property
    def allowed(self) -> str:
        """In words, for the user."""
        return self._allowed if self.other is None else f"{self._allowed}; or {self.other.allowed}"

    @property
    def _allowed(self) -> str:
        limit = dict(self.limits)
        match self.of:
            case "choice":
                return "one of " + ", ".join(f'"{choice}"' for choice in self.choices)
            case "whole number" | "number":
                return f"a {self.of}" + _range(limit)
            case "text":
                return _text(limit)
            case "list" if self.item is not None:
                least = f" (at least {limit['min_length']})" if "min_length" in limit else ""
                most = f" (at most {limit['max_length']})" if "max_length" in limit else ""
                return f"a list{least}{most}, each {self.item.allowed}"
            case "map" if self.item is not None and self.keys is not None:
                return f"a table whose keys are {self.keys.allowed} and whose values are {self.item.allowed}"
            case "table":
                return "a table with keys of " + ", ".join(self.known)
        return self.of


def _range(limit: Mapping[str, Any]) -> str:
    low = f" from {limit['ge']:g}" if "ge" in limit else f" above {limit['gt']:g}" if "gt" in limit else ""
    high = f" to {limit['le']:,}" if "le" in limit else f" below {limit['lt']:,}" if "lt" in limit else ""
    return low + high + (f" in steps of {limit['multiple_of']:g}" if "multiple_of" in limit else "")


def _text(limit: Mapping[str, Any]) -> str:
    if "pattern" in limit:
        return _WORDS.get(limit["pattern"], f"text that matches {limit['pattern']}")
    if "min_length" in limit or "max_length" in limit:
        return f"text of {limit.get('min_length', 0)} to {limit.get('max_length', 'any number of')} characters"
    return "text"


def kind_of(annotation: Any, limits: tuple[tuple[str, Any], ...] = ()) -> FieldKind:
    """The kind behind a type annotation of the models. Raises TypeError for an annotation that they do not use."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = kind_of(args[0], tuple(found for part in args[1:] for found in _limits(part)))
        return replace(inner, limits=(*inner.limits, *limits))
    if origin in (Union, types.UnionType):
        rest = [part for part in args if part is not type(None)]
        if all(isinstance(part, type) and issubclass(part, Fault) for part in rest):
            return FieldKind(of="table", model=Fault.all_keys)
        first = kind_of(rest[0], limits)
        return first if len(rest) == 1 else replace(first, other=kind_of(rest[1]))
    if origin is Literal:
        return FieldKind(of="choice", choices=tuple(map(str, args)))
    if origin is list:
        return FieldKind(of="list", item=kind_of(args[0]), limits=limits)
    if origin is dict:
        return FieldKind(of="map", keys=kind_of(args[0]), item=kind_of(args[1]), limits=limits)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return FieldKind(of="table", model=annotation)
    if annotation is bool:
        return FieldKind(of="true or false")
    if annotation is str:
        return FieldKind(of="text", limits=limits)
    if annotation is int:
        return FieldKind(of="whole number", limits=limits)
    if annotation is float:
        return FieldKind(of="number", limits=limits)
    raise TypeError(f"no words for {annotation!r}")


def _of_field(field: FieldInfo) -> FieldKind:
    return kind_of(field.annotation, tuple(found for part in field.metadata for found in _limits(part)))


def _limits(part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, FieldInfo):
        for inner in part.metadata:
            yield from _limits(inner)
        return
    for name in ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern"):
        value = getattr(part, name, None)
        if value is not None:
            yield name, value


PROFILE = FieldKind(of="table", model=Tables)


def kind_at(loc: Loc) -> FieldKind | None:
    """The kind of a place; None where the models know no such place."""
    kind: FieldKind | None = PROFILE
    for step in loc:
        if kind is None:
            return None
        kind = kind.child(step)
    return kind


def path_of(loc: Loc) -> str:
    """A place as the user writes it: `faults[1].latency_ms`."""
    text = ""
    for step in loc:
        if step == "[key]":
            continue
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def default_at(loc: Loc) -> Any:
    """The default of a field, None where it has none or the models know no such place."""
    parent = kind_at(loc[:-1]) if loc else None
    if parent is None or parent.model is None or loc[-1] not in parent.model.model_fields:
        return None
    default = parent.model.model_fields[str(loc[-1])].get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined:
        return None
    return default.model_dump() if isinstance(default, BaseModel) else default


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldNote:
    """One key of a profile, for its documentation."""

    path: str  # faults[].latency_ms
    kind: FieldKind
    required: bool
    default: str  # as TOML writes it; empty where there is none


def all_fields() -> Iterator[FieldNote]:
    """Every key of every table, in the models' order."""
    yield from _walk(PROFILE, "")


def _walk(kind: FieldKind, prefix: str) -> Iterator[FieldNote]:
    if kind.model is None:
        return
    for name, field in kind.model.model_fields.items():
        below = _of_field(field)
        path = f"{prefix}{name}"
        default = field.get_default(call_default_factory=True, validated_data={})
        plain = None if default is PydanticUndefined or isinstance(default, BaseModel) else default
        text = "" if plain is None else json.dumps(plain)
        yield FieldNote(path=path, kind=below, required=field.is_required(), default=text)
        if below.of == "table":
            yield from _walk(below, f"{path}.")
        elif below.of == "list" and below.item is not None:
            yield from _walk(below.item, f"{path}[].")


def found_words(value: Any) -> str:
    """What the user wrote, short enough for a sentence."""
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return "a table"
        case list():
            return f"a list of {len(value)}"
        case str():
            text = json.dumps(value, ensure_ascii=False)
            return text if len(text) <= 80 else text[:76] + '..."'
        case datetime() | date() | time():
            return f"the date or time {value.isoformat()}"
        case int() if abs(value) >= 10**20:
            return f"a whole number of about {value.bit_length() * 3 // 10} digits"
    return str(value)
