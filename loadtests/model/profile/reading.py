"""Is this text a profile, and what does it say after environment and command line?  Pure: texts in, a profile out.

A profile is refused with all its problems at once, each with file or setting, key, what was found and what is allowed.
`canonical` writes one as TOML, every value in order, so that reading it gives the same profile again. `effective` says
which value every key of a run had, where it came from, and which limit was loosened.

`beyond` says what a profile reaches: to reach is to name the target, a file to open or an address. A form may change
what a run does, not where, however its user spells it.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from loadtests.model.address import PATTERN, PATTERN_OR_SPARE, SPARE
from loadtests.model.errors import BadInput
from loadtests.model.measures import DEFAULT_LIMITS
from loadtests.model.profile.describe import FieldNote, Loc, all_fields, default_at, path_of
from loadtests.model.profile.override import Overrides, override
from loadtests.model.profile.problems import Problem, all_problems
from loadtests.model.profile.profile import Profile
from loadtests.model.records import Effective
from loadtests.model.words import printable

MAX_CHARACTERS = 4_000_000
"""Longer text is no profile."""

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A profile as a run uses it."""

    profile: Profile
    text: str  # canonical TOML of every effective value: workers get it, and the run's folder keeps it
    sha256: str  # of `text` in UTF-8
    effective: Effective


def read_profile(
    text: str | bytes,
    *,
    file: str,
    environment: Mapping[str, str] | None = None,
    sets: Sequence[str] = (),
    seed: int | None = None,
) -> Loaded:
    """Parse, override and validate. `file` is only a name for the user; nothing is opened.

    `environment` holds the variables to look at (TICKSTORM_SET_... and the sources' TEST_...), `sets` the texts of
    `--set key=value` in their order, `seed` the value of `--seed`. Raises BadInput with every problem.
    """
    raw = _parse(text, file)
    done = override(raw, environment=environment or {}, sets=sets, seed=seed)
    try:
        profile = Profile.model_validate(done.raw)
    except ValidationError as error:
        sentences = done.problems + [_sentence(problem, file, done) for problem in all_problems(done.raw, error)]
        raise BadInput([printable(sentence) for sentence in sentences]) from None
    if done.problems:
        raise BadInput([printable(sentence) for sentence in done.problems])
    frozen = canonical(profile)
    return Loaded(
        profile=profile,
        text=frozen,
        sha256=hashlib.sha256(frozen.encode()).hexdigest(),
        effective=effective(profile, raw, done),
    )


def _parse(text: str | bytes, file: str) -> dict[str, Any]:
    if isinstance(text, bytes):
        if b"\0" in text:
            raise BadInput(f"{file}: found binary data, allowed TOML text in UTF-8")
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise BadInput(f"{file}: line {line}: found bytes that are not UTF-8, allowed TOML text in UTF-8") from None
    if len(text) > MAX_CHARACTERS:
        raise BadInput(f"{file}: found {len(text):,} characters, allowed {MAX_CHARACTERS:,}")
    text = text.removeprefix("\ufeff")  # some editors write a byte order mark, which TOML does not know
    if "\0" in text:
        raise BadInput(f"{file}: found binary data, allowed TOML text in UTF-8")
    if not text.strip():
        raise BadInput(f"{file}: found an empty file, allowed a profile in TOML; see docs/profile.md")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{file}: found no valid TOML: {error}") from None
    except RecursionError:
        raise BadInput(f"{file}: found tables or lists nested too deeply, allowed a few levels") from None
    except ValueError as error:
        raise BadInput(f"{file}: found no valid TOML: {error}") from None


def _sentence(problem: Problem, file: str, done: Overrides) -> str:
    """With the setting that it came from, or else the file."""
    source = done.source(_loc(problem.path))
    where = f"{problem.path}: " if problem.path else ""
    return f"{source or file}: {where}{problem.text}"


def _loc(path: str) -> Loc:
    return tuple(int(index) if index else name for name, index in _STEP.findall(path))


def read_effective(text: str) -> Profile:
    """The profile of a text that `read_profile` froze. Raises BadInput where it was changed for the worse."""
    return read_profile(text, file="profile.toml").profile


# -- the other way: a profile as text


HEAD = "# The effective profile: every value of the run, defaults and overrides included.\n"

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def canonical(profile: Profile) -> str:
    """TOML text of a profile; equal profiles give equal text."""
    return HEAD + "\n".join(_table(profile.model_dump(exclude_none=True), ())) + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Plain values first: after a header TOML has no way back."""
    for key, value in table.items():
        if not isinstance(value, dict) and not _is_tables(value):
            yield f"{_key(key)} = {_value(value)}"
    for key, value in table.items():
        name = ".".join((*path, _key(key)))
        if isinstance(value, dict):
            yield f"\n[{name}]"
            yield from _table(value, (*path, _key(key)))
        elif _is_tables(value):
            for item in value:
                yield f"\n[[{name}]]"
                yield from _table(item, (*path, _key(key)))


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, str):
        # TOML escapes as JSON does, but for DEL, which JSON leaves as it is
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value)


# -- what a run was given, and what it reaches


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
