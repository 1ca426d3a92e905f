"""How is text shown?  Rich where there is a terminal, plain lines where not."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.theme import Theme

from loadtests.model.words import printable

_THEME = Theme(
    {
        "pass": "bold green",
        "fail": "bold red",
        "unknown": "yellow",
        "aborted": "magenta",
        "title": "bold",
        "dim": "dim",
        "plain": "none",
    }
)
_SIZES = {"COLUMNS": range(20, 1001), "LINES": range(5, 1001)}
_environment = {
    name: text
    for name, text in os.environ.items()
    if name not in _SIZES or (text.isdecimal() and len(text) < 5 and int(text) in _SIZES[name])
}
"""Without sizes that no terminal has."""


class _Lines(Console):
    """Every text is one line: control characters that a terminal would obey, line feeds too, are spelled out."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


out = _Lines(highlight=False, soft_wrap=True, theme=_THEME, _environ=_environment)
err = _Lines(stderr=True, highlight=False, soft_wrap=True, theme=_THEME, _environ=_environment)
