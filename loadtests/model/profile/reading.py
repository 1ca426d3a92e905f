"""Is this text a profile, and what does it say after environment and command line?  Pure: texts in, a profile out.

A profile is refused with all its problems at once, each with file or setting, key, what was found and what is allowed.
`canonical` writes one as TOML, every value in order, so that reading it gives the same profile again.
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

from loadtests.model.errors import BadInput
from loadtests.model.profile.describe import Loc
from loadtests.model.profile.effective import effective
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
