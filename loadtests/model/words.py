"""How are the words of others shown to people?  On one line, printable; those of a target also bounded.  Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any, Final

SAID: Final = 200
"""Characters of what a target said that go into a record."""


def printable(sentence: str) -> str:
    """On one line and fit for any terminal, whatever the text held; what cannot be printed is spelled out."""
    if sentence.isprintable():
        return sentence
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in sentence)


def plain(text: str, most: int = SAID) -> str:
    """The first of a text, in one line; what cannot be printed is replaced."""
    line = " ".join(text[: 4 * most].split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)[:most]


def of(data: Any) -> str:
    """The words in a refusal: its reason, error or message, else all of it."""
    if isinstance(data, dict):
        for key in ("reason", "error", "message"):
            told = data.get(key)
            if told:
                return of(told)
    return plain(str(data)) if data not in (None, "", {}, []) else ""


def nearest(name: str, known: Collection[str]) -> str:
    """A suggestion, empty where nothing is near."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""
