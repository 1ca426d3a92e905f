"""How is text shown?  Rich where there is a terminal, plain lines where not."""

from __future__ import annotations

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
out = Console(highlight=False, soft_wrap=True, theme=_THEME)
err = Console(stderr=True, highlight=False, soft_wrap=True, theme=_THEME)
