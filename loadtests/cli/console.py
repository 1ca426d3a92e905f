"""How is text shown, and what does one see while a run goes on?

Rich where there is a terminal: lines end between words, and a moving line says how far the run is.  Plain lines, whole
and without colour, where not.
"""

from __future__ import annotations

import os
import re
import textwrap
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
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
NARROWEST = 20
"""Columns below which lines are not folded any more."""
_LABEL = re.compile(r" *\S+ {2,}(?=\S)")
_WHOLE = re.compile(r"`[^`]{1,60}`|(?<=\d) (?=(?:ms|s|%|MB|/s)\b|%)|(?<=[≤≥]) ")
"""What no line end may tear: a command, a number and its unit."""
_STUCK = "\u00a0"


def folded(text: str, width: int) -> str:
    """A line as lines that end between words; those after the first stand below what follows the first one's label."""
    if len(text) <= width or width < NARROWEST:
        return text
    label, lead = _LABEL.match(text), len(text) - len(text.lstrip())
    hang = len(label[0]) if label is not None and len(label[0]) <= width // 2 else lead + 2
    lines = textwrap.wrap(
        _WHOLE.sub(lambda found: found[0].replace(" ", _STUCK), text),
        width,
        subsequent_indent=" " * hang,
        break_long_words=False,  # a path that is torn cannot be copied
        break_on_hyphens=False,
        replace_whitespace=False,
    )
    return "\n".join(lines).replace(_STUCK, " ")


class _Lines(Console):
    """Every text is one line: control characters that a terminal would obey, line feeds too, are spelled out.

    On a terminal it is folded to its width.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """As Rich's; one text alone is folded."""
        if self.is_terminal and len(objects) == 1 and isinstance(objects[0], str):
            objects = (Text(folded(printable(objects[0]), self.width)),)
        super().print(*objects, **options)


out = _Lines(highlight=False, soft_wrap=True, theme=_THEME, _environ=_environment)
err = _Lines(stderr=True, highlight=False, soft_wrap=True, theme=_THEME, _environ=_environment)


def tell_line(sentence: str) -> None:
    """One sentence beside the output, as it is."""
    err.print(sentence, markup=False)


def row(*cells: str) -> None:
    """A line for programs, with tabs between the cells, which Rich would make spaces."""
    out.file.write("\t".join(map(printable, cells)) + "\n")


def next_step(command: str, why: str) -> None:
    """What one may want to do now; for people alone, who read a terminal."""
    if out.is_terminal:
        out.print(f"next: `{command}` {why}", style="dim", markup=False)


# -- while a run goes on


BAR = 16
"""Cells of the bar."""
PLAIN_S, PLAIN_SHARE = 20.0, 0.05
"""Where no line can move: a line so often, or after such a share of a long plan; at each new phase in any case."""
AFTER = {"draining": "waiting for the last messages", "judging": "judging"}
"""States that come when the plan is over, in words."""


def clock(seconds: float) -> str:
    """`1:03`, `1:00:05`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_parts(data: dict[str, Any]) -> tuple[str, float | None, list[str]]:
    """Of a status line: what goes on, the share of the plan that is over, and figures, the most telling first."""
    state, now_s, plan_s = data["state"], max(0.0, data["now_s"]), data["plan_s"]
    if state == "judging":
        return AFTER[state], None, []
    figures = [f"{data['connected']:,}/{data['planned']:,} connected"]
    if (p95 := data["latency_ms"].get("p95")) is not None:
        figures.append(f"p95 {p95:,.0f} ms" if p95 >= 100 else f"p95 {p95:.1f} ms")
    if state == "connecting" or plan_s <= 0 or data["now_s"] < 0:
        return "connecting", None, figures
    figures += [f"{data['published']:,} published", f"{data['delivered']:,} delivered"]
    if state == "draining":
        return AFTER[state], None, [figure for figure in figures if "connected" not in figure]
    left_s = max(0.0, plan_s - now_s)
    phase = f"fault {', '.join(data['faults'])}" if data["faults"] else data["phase"]
    return phase, min(1.0, now_s / plan_s), [f"{clock(now_s)}, {clock(left_s)} left", *figures]


class Progress:
    """Fed with the status lines of the Locust child."""

    def __init__(self, run: str, web_port: int | None, *, quiet: bool = False) -> None:
        self._run, self._web_port, self._quiet = run, web_port, quiet
        self._told: tuple[str, float] = ("", 0.0)
        moves = err.is_terminal and not err.is_dumb_terminal and not quiet
        self._line = Live(console=err, auto_refresh=False, transient=True) if moves else None

    def __enter__(self) -> Progress:
        if not self._quiet:
            err.print(f"run {self._run}", markup=False)
            if self._web_port is not None:
                err.print("Locust's web UI, whose page /tickstorm shows the run; Ctrl-C ends it", markup=False)
        if self._line is not None:
            self._line.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()

    def pause(self) -> None:
        """Take the moving line away."""
        if self._line is not None:
            self._line.stop()

    def update(self, data: dict[str, Any]) -> None:
        """One status line."""
        if "say" in data and not (self._quiet and self._web_port is None):  # with a page, it says where that is
            err.print(data["say"], markup=False)
        if "phase" not in data or data["state"] == "done" or self._quiet:  # then the verdict is told
            return
        phase, share, figures = progress_parts(data)
        if self._line is not None:
            self._line.update(Text(moving_line(phase, share, figures, err.width - 1, err.encoding)), refresh=True)
            return
        told, at_s = self._told
        if phase != told or data["now_s"] - at_s >= max(PLAIN_S, PLAIN_SHARE * data["plan_s"]):
            self._told = (phase, data["now_s"])
            err.print(": ".join(filter(None, (phase, ", ".join(figures)))), markup=False)


def moving_line(phase: str, share: float | None, figures: list[str], width: int, encoding: str) -> str:
    """Phase, bar and as many figures as have room: nothing in it is cut, unless a phase alone is too long."""
    line = f"{phase:<14}"
    if share is not None:
        full, empty = "\u2501\u2500" if "utf" in encoding.lower() else "#-"
        done = round(share * BAR)
        line += f" {full * done}{empty * (BAR - done)}"
    for figure in figures:
        if len(line) + 2 + len(figure) > width:
            break
        line += f"  {figure}"
    return line.rstrip()[: max(1, width)]
