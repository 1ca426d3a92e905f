"""How is text shown?  Rich where there is a terminal, plain lines where not; so too the line of a run."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
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


class Progress:
    """Fed with the status lines of the Locust child."""

    def __init__(self, run: str, web_port: int | None) -> None:
        self._run, self._web_port = run, web_port
        self._phase = ""
        self._task: TaskID | None = None
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=err,
            disable=not err.is_terminal,
            transient=True,
        )

    def __enter__(self) -> Progress:
        self._bar.start()
        err.print(f"run {self._run}", markup=False)
        if self._web_port is not None:
            err.print("Locust's web UI, whose page /tickstorm shows the run; Ctrl-C ends it", markup=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def pause(self) -> None:
        """Take the moving line away."""
        self._bar.stop()

    def update(self, data: dict[str, Any]) -> None:
        """One status line."""
        if "say" in data:
            err.print(data["say"], markup=False)
        if "phase" not in data:
            return
        phase = data["state"] if data["state"] in ("draining", "judging", "done") else data["phase"]
        faults = ", ".join(data["faults"])
        p95 = data["latency_ms"].get("p95")
        figures = f"{data['connected']}/{data['planned']} connected, {data['published']} published"
        figures += f", {data['delivered']} delivered"
        figures += f", p95 {p95:.1f} ms" if p95 is not None else ""
        figures += f", fault: {faults}" if faults else ""
        if self._task is None:
            self._task = self._bar.add_task(phase, total=data["plan_s"], figures=figures)
        self._bar.update(self._task, description=phase, completed=max(0.0, data["now_s"]), figures=figures)
        if phase != self._phase:
            self._phase = phase
            if not err.is_terminal:
                err.print(f"{max(0.0, data['now_s']):6.1f} s  {phase}: {figures}", markup=False)
