"""How is what a target said shown to people?  One line, printable, bounded."""

from __future__ import annotations

from typing import Any, Final

SAID: Final = 200
"""Characters of what a target said that go into a record."""


def plain(text: str) -> str:
    """A text in one line; what cannot be printed is replaced."""
    line = " ".join(text[: 4 * SAID].split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)[:SAID]


def of(data: Any) -> str:
    """The words in a refusal: its reason, error or message, else all of it."""
    if isinstance(data, dict):
        for key in ("reason", "error", "message"):
            told = data.get(key)
            if told:
                return of(told)
    return plain(str(data)) if data not in (None, "", {}, []) else ""
