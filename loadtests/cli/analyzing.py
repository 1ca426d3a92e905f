"""What does a stored run say?  Reads the history, judges it, writes results.json, report.html and junit.xml."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtests.cli.console import err
from loadtests.cli.console import out as console
from loadtests.harness.places import reports_folder
from loadtests.measure.plausible import implausible
from loadtests.model.codec import Frame, Torn, decode_file
from loadtests.model.errors import BadInput
from loadtests.model.profile import Profile
from loadtests.model.profile_read import read_effective, read_profile
from loadtests.model.results import Results, to_json
from loadtests.model.runconfig import sha256_of
from loadtests.report.text import summary_lines

JUDGING = ("thresholds", "guard", "steady", "recovery")
"""Tables of a profile that say how a history is judged, not what happens in a run."""
HEAD = 2_000
"""Characters of a page in which it says which results it shows."""


def run_folder(run: str) -> Path:
    """Folder of a run named by id or path. Raises BadInput where there is none."""
    for folder in (Path(run), reports_folder() / run):
        if (folder / "history").is_dir():
            return folder
    raise BadInput(
        f'{run}: there is no such run; give an id from {reports_folder().name}/ or a folder that holds "history"'
    )


def read_history(folder: Path) -> Iterator[tuple[str, Frame | Torn]]:
    """Frames of every process's file, in the order (process, number); what else lies there is torn from its begin."""
    for path in sorted(p for p in (folder / "history").iterdir() if not p.name.startswith(".")):
        if path.suffix != ".tsh":
            yield path.name, Torn(0, "no file of a history")
            continue
        try:
            data = path.read_bytes()
        except OSError as error:
            yield path.stem, Torn(0, error.strerror or type(error).__name__)
            continue
        for number, frame in enumerate(decode_file(data)):
            yield path.stem, frame if isinstance(frame, Torn) else _believable(number, frame)


def _believable(offset: int, frame: Frame) -> Frame | Torn:
    """The frame, unless it holds what no run can have."""
    wrong = next(filter(None, map(implausible, frame.records)), "")
    return Torn(offset, f"frame {frame.number} holds a {wrong}, which no run can have") if wrong else frame


def write_reports(folder: Path, results: Results, *, html: bool = True) -> None:
    """All three files; without `html` two, and a page of before stays: where it shows other results, that is said."""
    from loadtests.report.junit import render_junit

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_bytes(to_json(results))
    (folder / "junit.xml").write_text(render_junit(results), encoding="utf-8")
    page = folder / "report.html"
    if html:
        from loadtests.report.html import render_html  # charts take a second to load: `show` does without

        page.write_text(render_html(results), encoding="utf-8")
    elif page.exists() and page_of(folder) is None:
        err.print(f"{page}: of an earlier judging; results.json beside it is newer", markup=False)


def page_of(folder: Path) -> Path | None:
    """The page of a folder, if it shows the very results that lie beside it."""
    page, results = folder / "report.html", folder / "results.json"
    try:
        begin, text = page.read_text(encoding="utf-8")[:HEAD], results.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return page if sha256_of(text) in begin else None


def profile_of(folder: Path, sets: Sequence[str]) -> Profile:
    """The run's effective profile, with other values where asked."""
    path = folder / "profile.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise BadInput(
            f"{folder.name}: profile.toml is missing or unreadable; a run is judged by its profile"
        ) from None
    foreign = [s for s in sets if re.split(r"[.\[=]", s, maxsplit=1)[0].strip() not in JUDGING]
    if foreign:
        raise BadInput(
            [f"--set {s}: the run is over; only how it is judged can change: {', '.join(JUDGING)}" for s in foreign]
        )
    if not sets:
        return read_effective(text)
    return read_profile(text, file="profile.toml", environment={}, sets=sets).profile


def analyze_run(
    run: str,
    sets: Sequence[str],
    *,
    out: Path | None,
    quiet: bool,
    html: bool = True,
    consumers: Path | None = None,
) -> int:
    """Judge again; the exit status of the verdict. `consumers`: where to write what each consumer felt, as CSV."""
    from loadtests.measure.case import case  # as above
    from loadtests.measure.facts import fold
    from loadtests.measure.felt_by import consumer_table
    from loadtests.measure.judge import concluded

    folder = run_folder(run)
    profile = profile_of(folder, sets)
    stored = sha256_of((folder / "profile.toml").read_text(encoding="utf-8"))
    found = case(profile, fold(read_history(folder)))
    results = concluded(found, profile_sha256=stored)
    target = out or (folder / "again" if sets else folder)
    write_reports(target, results, html=html)
    if consumers is not None:
        try:
            consumers.write_text(consumer_table(found.contract, found.felt), encoding="utf-8")
        except OSError as error:
            raise BadInput(f"--consumers {consumers}: {error.strerror}") from None
    if not quiet:
        show(results)
        console.print(f"report: {page_of(target) or target / 'results.json'}", markup=False)
    return results.verdict.exit_status


def show(results: Results) -> None:
    """The summary on the terminal."""
    for line in summary_lines(results):
        console.print(line.text, style=line.style, markup=False)
