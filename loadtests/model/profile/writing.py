"""How is a profile written, so that reading it gives the same profile again?  As TOML, every value in order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from loadtests.model.profile.tables import Profile

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
