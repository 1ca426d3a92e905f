"""How do two runs, two series or two profiles differ? The command `compare`: a table, JSON, and one page of both.

Runs of one plan under the same seeds are compared as the weekly gate compares; what is too little for that is only
told.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtests.capture.store import StoreFiles
from loadtests.cli.analyze_command import run_folder
from loadtests.cli.console import err, out
from loadtests.cli.history_command import stored_rows
from loadtests.cli.weekly_command import interleaved
from loadtests.harness.files import replace_file, reports_folder
from loadtests.measure.series import Asked, series_of
from loadtests.model.errors import BadInput
from loadtests.model.results import Results, Verdict, from_json
from loadtests.model.series import MeasureResult, Series, to_json
from loadtests.model.store import History, Row, RunRow, history_of
from loadtests.report.series import figure_text, ratio_text, series_lines
from loadtests.report.text import TextLine

NAME = "compared"


def compare(a: str, b: str, store: StoreFiles, *, html: bool, to: Path | None, json_to: str) -> int:
    """Two runs or series that exist; the exit status of the comparison: UNKNOWN where they are too few to judge."""
    rows_a, rows_b = _rows(a, store), _rows(b, store)
    alike = {row.lineage for row in rows_a} == {row.lineage for row in rows_b}
    series = series_of(_both(rows_a, rows_b), NAME, Asked(first=min(2, len(rows_b)), most=len(rows_b), ended="stored"))
    if not alike:
        series = _only_told(series, "they do not play the same plan")
    elif min(len(rows_a), len(rows_b)) < 2:
        series = _only_told(series, "one run on a side says nothing of how runs differ")
    return finish(series, [(a, rows_a), (b, rows_b)], html=html, to=to, json_to=json_to)


def interleave(a: str, b: str, pairs: int, *, html: bool, to: Path | None, json_to: str) -> int:
    """Two profiles, played now in turn."""
    series, rows = interleaved(a, b, pairs)
    sides = [(name, [row for row in rows if row.side == side]) for name, side in ((a, "a"), (b, "b"))]
    return finish(series, sides, html=html, to=to, json_to=json_to)


def finish(
    series: Series, sides: Sequence[tuple[str, Sequence[RunRow]]], *, html: bool, to: Path | None, json_to: str
) -> int:
    """Show, and write what was asked for."""
    if json_to == "-":
        sys.stdout.write(to_json(series).decode())
    if to is not None or html:
        folder = to or reports_folder() / f"compare-{series.series.id}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(folder / "series.json", to_json(series))
            if html:
                from loadtests.report.series import compare_page

                replace_file(folder / "index.html", compare_page(series, list(_timelines(sides))).encode())
        except OSError as error:
            raise BadInput(f"{folder}: cannot be written: {error.strerror}") from None
        page = folder / ("index.html" if html else "series.json")
        (err if json_to == "-" else out).print(f"page: {page}", markup=False)
    if json_to and json_to != "-":
        replace_file(Path(json_to), to_json(series))
    for line in [*(TextLine(text=text) for text in _table(series)), *series_lines(series, "")[-1:]]:
        (err if json_to == "-" else out).print(line.text, style=line.style, markup=False)
    return series.verdict.exit_status


def _rows(name: str, store: StoreFiles) -> list[RunRow]:
    for profile in store.profiles():
        week = history_of(store.read(profile).rows).week(name)
        if week is not None:
            return list(week.usable or week.runs)
    try:
        return [row for row in stored_rows([name], NAME) if isinstance(row, RunRow)]
    except BadInput as error:
        raise BadInput([*error.problems, f"{name}: found no such series in {store.place} either"]) from None


def _both(rows_a: Sequence[RunRow], rows_b: Sequence[RunRow]) -> History:
    rows: list[Row] = []
    for side, of_it in (("a", rows_a), ("b", rows_b)):
        rows += [
            msgspec.structs.replace(row, series=NAME, side=side, run=f"{side} {row.run}", usable=True, session=0)
            for row in of_it
        ]
    return history_of(rows)


def _only_told(series: Series, why: str) -> Series:
    """Figures side by side, and no judgement."""
    measures = [
        msgspec.structs.replace(m, verdict=Verdict.UNKNOWN, sentence=f"told only: {why}") for m in series.measures
    ]
    return msgspec.structs.replace(
        series, verdict=Verdict.UNKNOWN, measures=measures, compared=0, reasons=[f"nothing was judged: {why}"]
    )


def _table(series: Series) -> list[str]:
    def before(measure: MeasureResult) -> float | None:
        return measure.rolling.value if measure.rolling else None

    return [
        f"  {m.verdict.value:8} {m.name}: {figure_text(before(m), m.unit)} -> {figure_text(m.value, m.unit)}, "
        f"{ratio_text(m)}; {m.sentence}"
        for m in series.measures
    ]


def _timelines(sides: Sequence[tuple[str, Sequence[RunRow]]]) -> list[tuple[str, Results]]:
    """The first run of each side that still has its results."""
    found = []
    for label, rows in sides:
        for row in rows:
            try:
                folder = run_folder(row.run.rpartition(" ")[2])
                found.append((label, from_json((folder / "results.json").read_bytes())))
                break
            except (BadInput, OSError, msgspec.DecodeError):
                continue
    return found
