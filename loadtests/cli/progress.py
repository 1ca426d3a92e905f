"""What does one see while a run goes on?  A moving line on a terminal, a plain line per phase elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from loadtests.cli.console import err


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
