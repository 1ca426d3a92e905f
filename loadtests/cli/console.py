"""How is text shown?  Rich where there is a terminal, plain lines where not."""

from __future__ import annotations

import os

from rich.console import Console
from rich.theme import Theme

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
out = Console(highlight=False, soft_wrap=True, theme=_THEME, _environ=_environment)
err = Console(stderr=True, highlight=False, soft_wrap=True, theme=_THEME, _environ=_environment)
