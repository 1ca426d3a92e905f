"""`python -m benchmarks`: measures Tickstorm beside a C floor and its peers, prints a table, writes docs/.

Exit status: 0 when everything that was asked for was tried, whatever the figures; 2 for bad options; 130 after Ctrl-C.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.bench import Bench
from benchmarks.children import SERVER_CORE, ChildError, Children, raise_file_limit, stay_on
from benchmarks.document import PLOT, Figures, from_json, merged, quoting, table, to_json, to_markdown
from benchmarks.experiments import needed
from benchmarks.figures import Measured, Outcome, met_text, outcome, value_text
from benchmarks.machine import machine, versions
from benchmarks.obtaining import HERE, ROOT, MissingError, peers_python, redis_server
from benchmarks.ours import forget_runs
from benchmarks.rows import BY_KEY, ROWS
from benchmarks.session import Session

DOCS = ROOT / "docs"
README = ROOT / "README.md"
WIDTH = None if sys.stdout.isatty() else 150
out = Console(highlight=False, soft_wrap=True, width=WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def main(
    only: Annotated[
        list[str] | None, typer.Argument(help="Rows to measure; none: all but those that are only measured by name.")
    ] = None,
    also_only: Annotated[
        list[str] | None, typer.Option("--only", help="The same as an option; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Short windows, no repeats: to try it out.")] = False,
    long: Annotated[bool, typer.Option("--long", help="Also half an hour of 50,000/s.")] = False,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder of the page; default docs/, nowhere with --quick.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the rows and their targets.")] = False,
) -> None:
    """Measure, print, write."""
    asked = [*(only or []), *(also_only or [])]
    unknown = sorted(set(asked) - BY_KEY.keys())
    if unknown:
        err.print(f"no such row: {', '.join(unknown)}; known are {', '.join(BY_KEY)}", markup=False)
        raise typer.Exit(2)
    if show:
        for row in ROWS:
            out.print(f"{row.key:24} {row.target:>14}  {row.name}", markup=False)
        return
    keys = asked or [row.key for row in ROWS if not row.optional]
    if long and "long" not in keys:
        keys.append("long")
    signal.signal(signal.SIGTERM, _interrupt)
    figures = _measure(keys, quick=quick)
    _print(figures)
    folder = folder or (None if quick else DOCS)
    if folder is not None:
        _write(figures, folder)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _measure(keys: list[str], *, quick: bool) -> Figures:
    raise_file_limit()
    stay_on(SERVER_CORE)
    forget_runs()
    outcomes: dict[str, Outcome] = {}
    with Children() as children:
        session = Session(Bench(children, quick=quick))
        for experiment in needed(keys):
            err.print(f"{datetime.now(UTC):%H:%M:%S}  {experiment.name} (about {experiment.about_s} s)", markup=False)
            began, date = time.monotonic(), f"{datetime.now(UTC):%Y-%m-%d}"
            try:
                found = experiment.measure(session)
            except (ChildError, MissingError) as error:
                found = dict.fromkeys(experiment.rows, Measured(missing=str(error).replace(f"{ROOT}/", "")))
            for key in experiment.rows:
                if key in keys:
                    outcomes[key] = made = outcome(BY_KEY[key], found[key], date)
                    text = f"{value_text(made, BY_KEY[key].unit)}, met: {met_text(made, BY_KEY[key].limit)}"
                    err.print(f"          {key}: {text} {made.reason if made.value is None else ''}", markup=False)
            err.print(f"          took {time.monotonic() - began:.0f} s", markup=False)
        forget_runs()
    return Figures(
        machine=machine(),
        versions=versions(_or_none(peers_python), _or_none(redis_server)),
        outcomes=list(outcomes.values()),
        bars=session.bars,
        curve=session.curve,
    )


def _or_none(get: object) -> Path | None:
    try:
        found: Path = get()  # type: ignore[operator]
    except MissingError:
        return None
    return found


def _print(figures: Figures) -> None:
    shown = Table("figure", "target", "measured", "met", box=None, pad_edge=False)
    for row, found in table(figures.outcomes):
        shown.add_row(row.name, row.target, value_text(found, row.unit), met_text(found, row.limit))
    out.print(shown)
    for row, found in table(figures.outcomes):
        for text in (found.detail, found.reason):
            if text:
                out.print(f"{row.key}: {text}", markup=False)
    out.print(f"{figures.machine}; {figures.versions}", markup=False)


def _write(figures: Figures, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stored = folder / "performance.json"
    figures = merged(from_json(stored.read_bytes()) if stored.exists() else None, figures)
    stored.write_bytes(to_json(figures))
    (folder / "performance.md").write_text(to_markdown(figures), encoding="utf-8")
    if figures.bars or figures.curve:
        _draw(figures, folder / PLOT)
    if folder == DOCS:
        README.write_text(quoting(README.read_text(encoding="utf-8"), figures), encoding="utf-8")
    err.print(f"written: performance.md, performance.json in {folder.name}/", markup=False)


def _draw(figures: Figures, path: Path) -> None:
    try:
        python = peers_python()
    except MissingError as error:
        err.print(f"no plot: {error}", markup=False)
        return
    data = json.dumps({"bars": figures.bars, "curve": figures.curve})
    done = subprocess.run(
        [str(python), str(HERE / "drawing.py")], input=data.encode(), capture_output=True, timeout=60, check=False
    )
    if done.returncode:
        err.print(f"no plot: {done.stderr.decode(errors='replace').strip().splitlines()[-1]}", markup=False)
        return
    path.write_bytes(done.stdout)


if __name__ == "__main__":
    try:
        typer.run(main)
    except KeyboardInterrupt:
        sys.exit(130)
