"""Which profiles and runs are there, and how does one look at a run?  The commands `profiles`, `list` and `open`."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.table import Table
from rich.text import Text

from loadtests.cli.console import clock, err, next_step, out, row
from loadtests.harness.files import find_run, past_run, reports_folder, run_folders, shipped_profiles
from loadtests.harness.stack_lock import user_of
from loadtests.model.errors import BadInput
from loadtests.model.live import PastRun
from loadtests.model.words import printable
from loadtests.stack.folder import stack_folder

MOST_ROWS = 30
"""Of a list on a terminal, unless it was asked for more."""
SHORT = len("20260102-030405")
"""Characters of a run's id that are shown at least; its time alone is rarely another's."""
GOES_ON, NEVER_JUDGED = "running", "-"


def list_profiles() -> None:
    """Name, length, faults and question of each."""
    from loadtests.harness.profile_loading import load  # takes a second, which `list` and `open` need not wait

    if not out.is_terminal:
        for name in shipped_profiles():
            row(name, load(name).profile.question)
        return
    table = Table("profile", "seconds", "clients", "faults", "question", box=None, pad_edge=False)
    for name in shipped_profiles():
        profile = load(name).profile
        clients = sum(c.count for c in profile.consumers)
        table.add_row(name, f"{profile.run.length_s:.0f}", f"{clients:,}", str(len(profile.faults)), profile.question)
    out.print(table)
    next_step("tickstorm run NAME", "runs one; NAME may be the path of a file of yours")


# -- stored runs


class ListedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A stored run, for programs."""

    run: str
    profile: str
    verdict: str | None  # None: it was never judged
    reason: str
    running: bool
    started_at: str
    duration_s: float | None
    folder: str
    results: str | None
    report: str | None


def list_runs(*, as_json: bool, most: int | None) -> int:
    """Newest first; always 0."""
    folders, going_on = run_folders(), user_of(stack_folder())
    if most is None and out.is_terminal and not as_json:
        most = MOST_ROWS
    shown = folders[: most or None]
    runs = [_listed(folder, past_run(folder), going_on) for folder in shown]
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(runs)).decode())  # noqa: T201  JSON for programs, no console
    elif not runs:
        err.print(f"{short_path(reports_folder())} holds no run yet: `tickstorm run first-run` makes one", markup=False)
    elif not out.is_terminal:
        for r in runs:
            row(_verdict(r), r.run, r.profile, r.started_at, _took(r.duration_s), r.report or r.results or "-")
    else:
        _show(runs, [folder.name for folder in folders])
        if len(folders) > len(runs):
            out.print(f"{len(folders) - len(runs)} older ones are not shown: `tickstorm list --limit 0`", markup=False)
        next_step("tickstorm open RUN", "shows a report; RUN is the beginning of a name, or `last`")
    return 0


def _listed(folder: Path, past: PastRun, going_on: str | None) -> ListedRun:
    results, page = folder / "results.json", folder / "report.html"
    return ListedRun(
        run=past.run,
        profile=past.profile,
        verdict=past.verdict or None,
        reason=past.reason,
        running=past.run == going_on,
        started_at=past.started_at,
        duration_s=past.duration_s,
        folder=short_path(folder),
        results=short_path(results) if results.is_file() else None,
        report=short_path(page) if past.page else None,
    )


def _show(runs: Sequence[ListedRun], names: Sequence[str]) -> None:
    now = datetime.now(UTC)
    longest = max(len(r.run) for r in runs)
    whole = out.width >= longest + 70
    table = Table("verdict", "run", "when", "took", "report", "profile", box=None, pad_edge=False, header_style="bold")
    for column in table.columns[:-1]:
        column.no_wrap = True
    for r in runs:
        page = Text("page", style=f"link {Path(r.report).absolute().as_uri()}") if r.report else Text("-")
        table.add_row(
            Text(
                printable(_verdict(r)),
                style=r.verdict.lower() if r.verdict in ("PASS", "FAIL", "UNKNOWN", "ABORTED") else "",
            ),
            r.run if whole else shortest(r.run, names),
            when(r.started_at, now),
            _took(r.duration_s),
            page if r.report or not r.results else Text("results"),
            r.profile,
        )
    out.print(table)


def _verdict(run: ListedRun) -> str:
    return GOES_ON if run.running else run.verdict or NEVER_JUDGED


def shortest(name: str, names: Sequence[str]) -> str:
    """The beginning of a run's id that no other has: its time, or more."""
    others = [other for other in names if other != name]
    for length in range(SHORT, len(name)):
        if not any(other.startswith(name[:length]) for other in others):
            return name[:length]
    return name


def when(started_at: str, now: datetime) -> str:
    """`5 min ago`, `3 h ago`, `2 days ago`, `2026-01-02`: a name is in UTC, and a clock on the wall is not."""
    try:
        began = datetime.fromisoformat(started_at)
        minutes = int((now - began).total_seconds() // 60)
    except (ValueError, TypeError):
        return "-"
    if minutes < 1:
        return "just now"
    if minutes < 120:
        return f"{minutes} min ago"
    if minutes < 48 * 60:
        return f"{minutes // 60} h ago"
    return f"{minutes // 1440} days ago" if minutes < 14 * 1440 else f"{began:%Y-%m-%d}"


def _took(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.0f} s" if seconds < 120 else clock(seconds)


# -- a report


def open_report(named: str) -> int:
    """Show the page of a run in the browser and print its path. Raises BadInput where there is no page."""
    folder = Path(named) if os.path.isfile(os.path.join(named, "report.html")) else find_run(named)
    page = folder / "report.html"
    if not page.is_file():
        if folder.name == user_of(stack_folder()):
            raise BadInput(f"{folder.name}: has no report yet, for it goes on")
        raise BadInput(f"{folder.name}: has no report.html; `tickstorm analyze {folder.name}` makes it")
    out.print(short_path(page), markup=False)
    if not (has_browser(os.environ) and webbrowser.open(page.absolute().as_uri())):
        err.print("there is no browser here: open that file in one", markup=False)
    return 0


def has_browser(environ: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether a browser with windows can be shown; one for the terminal could not draw the page."""
    if environ.get("BROWSER") or platform in ("darwin", "win32", "cygwin"):
        return True
    return bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def short_path(path: Path) -> str:
    """As one would write it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
