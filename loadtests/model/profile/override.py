"""What did environment and command line change in a profile?  Pure: raw tables and settings in, changed ones out.

A setting names its place by a path: `run.duration_s`, `thresholds[0].at_most`, or with the name of a list's item,
`consumers.plain.count`. In the environment the path is upper case with `__` for the dot: TICKSTORM_SET_RUN__DURATION_S.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtests.model.address import written
from loadtests.model.logins import DB_PASSWORD
from loadtests.model.profile.describe import PROFILE, FieldKind, Loc, default_at, found_words, path_of
from loadtests.model.profile.problems import unknown_key
from loadtests.model.words import nearest

PREFIX = "TICKSTORM_SET_"
ADDRESSES: tuple[tuple[str, str, str, int], ...] = (
    ("redis", "TEST_REDIS_HOST", "TEST_REDIS_PORT", 6379),
    ("postgres", "TEST_DB_HOST", "TEST_DB_PORT", 5432),
)
TEXTS: tuple[tuple[str, str], ...] = (("database", "TEST_DB_NAME"), ("write_user", "TEST_DB_USER"))
NOT_USED = "not used: the local stack has its own"

_STEP = re.compile(r"\.?([^.\[\]]+)|\[([^\[\]]+)\]")


class _NoPlaceError(Exception):
    """A setting's path leads nowhere; the text says where it ended."""


@dataclass(slots=True, kw_only=True)
class Overrides:
    """The raw profile after all settings, and which setting each place came from."""

    raw: dict[str, Any]
    sources: dict[Loc, str] = field(default_factory=dict)  # in the order in which they were applied
    problems: list[str] = field(default_factory=list)
    noted: list[tuple[str, str, str]] = field(default_factory=list)  # key, value, source: not part of the profile

    def source(self, loc: Loc) -> str | None:
        """The last setting that changed a place or a table around it."""
        last = None
        for changed, source in self.sources.items():
            if loc[: len(changed)] == changed:
                last = source
        return last

    def put(self, steps: Sequence[str | int], text: str, source: str) -> None:
        """Apply one setting; what is wrong with it becomes a problem."""
        try:
            value = parse_value(text)
            loc = _assign(self.raw, steps, value)
        except _NoPlaceError as error:
            self.problems.append(f"{source}: {error}")
            return
        self.sources.pop(loc, None)
        self.sources[loc] = source


def override(
    raw: Mapping[str, Any], *, environment: Mapping[str, str], sets: Sequence[str], seed: int | None
) -> Overrides:
    """Environment, then command line; a later one outranks an earlier one. Never raises for a wrong setting."""
    done = Overrides(raw=copy.deepcopy(dict(raw)))
    for name in sorted(environment):
        if name.startswith(PREFIX) and environment[name].strip():
            place: list[str | int] = list(name.removeprefix(PREFIX).lower().split("__"))
            done.put(place, environment[name], f"environment {name}")
    for text in sets:
        key, equals, value = text.partition("=")
        steps = steps_of(key.strip())
        if not equals or not steps:
            done.problems.append(f"--set {found_words(text)}: found no key=value, allowed such as run.duration_s=40")
            continue
        done.put(steps, value.strip(), f"--set {key.strip()}")
    if seed is not None:
        done.raw["seed"] = seed
        done.sources[("seed",)] = "--seed"
    _of_the_sources(done, environment)
    return done


def _of_the_sources(done: Overrides, environment: Mapping[str, str]) -> None:
    """The variables that the sources of the requirements name; our own settings outrank them."""
    target = done.raw.get("target", {})
    if environment.get(DB_PASSWORD):
        done.noted.append((DB_PASSWORD, "set", f"environment {DB_PASSWORD}"))
    names = [name for _, host, port, _ in ADDRESSES for name in (host, port)] + [name for _, name in TEXTS]
    given = [name for name in names if environment.get(name)]
    if not isinstance(target, dict) or target.get("kind") != "external":
        done.noted += [(name, NOT_USED, f"environment {name}") for name in given]
        return
    for key, host_name, port_name, standard in ADDRESSES:
        used = [name for name in (host_name, port_name) if name in given]
        if used and ("target", key) not in done.sources:
            host, _, port = str(target.get(key) or "").rpartition(":")
            host = environment.get(host_name) or host or "127.0.0.1"
            target[key] = written(host, environment.get(port_name) or port or standard)
            done.sources[("target", key)] = "environment " + ", ".join(used)
    for key, name in TEXTS:
        if name in given and ("target", key) not in done.sources:
            target[key] = environment[name]
            done.sources[("target", key)] = f"environment {name}"


def steps_of(path: str) -> list[str | int]:
    """The steps of a path; empty where it is none."""
    steps: list[str | int] = []
    at = 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None or (at == 0 and path[0] in ".["):
            return []
        name = step[1] if step[1] is not None else step[2]
        steps.append(int(name) if step[2] is not None and name.isdecimal() and len(name) < 10 else name)
        at = step.end()
    return steps


def parse_value(text: str) -> Any:
    """A TOML value; a bare word is text."""
    text = text.strip()
    if not text:
        raise _NoPlaceError("found no value, allowed a TOML value or a word")
    if "\n" in text or "\r" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _NoPlaceError("found a line break or bytes that are not UTF-8, allowed a TOML value or a word")
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        parsed = {}
    value = parsed.get("value")
    if len(parsed) == 1 and isinstance(value, bool | int | float | str | list | dict):
        return value
    if text[0] in "\"'[{":
        raise _NoPlaceError(f"found {found_words(text)}, allowed a TOML value or a word")
    return text


def _assign(raw: dict[str, Any], steps: Sequence[str | int], value: Any) -> Loc:
    """Put a value at its place, making the tables around it. Raises _NoPlaceError and leaves all as it was."""
    loc: Loc = ()
    node: Any = raw
    kind: FieldKind = PROFILE
    made: list[tuple[Any, str | int]] = []
    try:
        for index, step in enumerate(steps):
            place = _place(node, kind, step, loc)
            below = kind.child(place)
            assert below is not None
            loc = (*loc, place)
            if index == len(steps) - 1:
                node[place] = value
                return loc
            if isinstance(node, dict) and place not in node:
                node[place] = _empty(below, loc)
                made.append((node, place))
            node, kind = node[place], below
    except _NoPlaceError:
        for table, key in reversed(made):
            del table[key]
        raise
    raise AssertionError("a path has at least one step")


def _empty(kind: FieldKind, loc: Loc) -> Any:
    default = default_at(loc)
    return copy.deepcopy(default) if default is not None else [] if kind.of == "list" else {}


def _place(node: Any, kind: FieldKind, step: str | int, loc: Loc) -> str | int:
    """The key or index that a step means."""
    where = path_of(loc) or "the profile"
    if kind.of in ("table", "map"):
        if not isinstance(node, dict):
            raise _NoPlaceError(f"{where}: found {found_words(node)}, allowed {kind.allowed}")
        name = str(step)
        if kind.known and name not in kind.known:
            raise _NoPlaceError(f"{path_of((*loc, name))}: {unknown_key(name, kind)}")
        return name
    if kind.of == "list":
        if not isinstance(node, list):
            raise _NoPlaceError(f"{where}: found {found_words(node)}, allowed {kind.allowed}")
        return _index(node, step, where)
    raise _NoPlaceError(f"{path_of((*loc, step))}: found a key below {where}, allowed none: it takes {kind.allowed}")


def _index(items: list[Any], step: str | int, where: str) -> int:
    names = list(_names(items))
    wanted = str(step)
    if not isinstance(step, int):
        # a variable's name has no "-", so "_" stands for it unless an item has that very name
        alike = [index for index, name in names if name.replace("-", "_") == wanted.replace("-", "_")]
        exact = [index for index, name in names if name == wanted]
        if exact or alike:
            return (exact or alike)[0]
        step = int(wanted) if wanted.isdecimal() and len(wanted) < 10 else -1
    if 0 <= step < len(items):
        return step
    texts = [name for _, name in names]
    known = f", or a name of {', '.join(texts)}" if texts else ""
    last = f"an index from 0 to {len(items) - 1}" if items else "nothing, since the list is empty"
    raise _NoPlaceError(f"{where}: found no item {found_words(wanted)}, allowed {last}{known}{nearest(wanted, texts)}")


def _names(items: list[Any]) -> Iterator[tuple[int, str]]:
    for index, item in enumerate(items):
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            yield index, item["name"]
