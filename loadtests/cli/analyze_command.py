"""What does a stored run say?  `analyze` reads the history, judges it, writes results, page and junit.xml."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from loadtests.cli.console import err, next_step
from loadtests.cli.console import out as console
from loadtests.cli.runs_command import short_path
from loadtests.drive.publish.replays import open_bounded, read_bounded
from loadtests.harness.files import find_run, replace_file
from loadtests.measure.damage import bounds, columns_hold, implausible, longest_ns
from loadtests.model.codec import Frame, Reader, Torn, decode_file
from loadtests.model.errors import BadInput
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.reading import MAX_CHARACTERS, read_effective, read_profile
from loadtests.model.results import Results, to_json
from loadtests.model.runconfig import sha256_of
from loadtests.report.text import answer, summary_lines, verdict_lines

JUDGING = ("thresholds", "guard", "steady", "recovery")
"""Tables of a profile that say how a history is judged, not what happens in a run."""
MOST_BYTES = 64 << 30
"""Of one file of a history, which is read frame by frame."""
MOST_OF_A_PAGE = 2 << 30
"""Of another file in a run's folder."""
HEAD = 2_000
"""Characters of a page in which it says which results it shows."""


def read_history(folder: Path, profile: Profile) -> Iterator[tuple[str, Frame | Torn]]:
    """Frames of every process's file, in the order (process, number), as they are stored (`codec.thin`); what else lies
    there is torn from its begin.
    """
    longest = longest_ns(profile)
    reader = Reader(bounds(longest), whole=False)
    for path in sorted(p for p in (folder / "history").iterdir() if not p.name.startswith(".")):
        if path.suffix != ".tsh":
            yield path.name, Torn(0, "no file of a history")
            continue
        try:
            with open_bounded(path, MOST_BYTES, links=False) as file:
                for number, frame in enumerate(decode_file(file, reader)):
                    yield path.stem, frame if isinstance(frame, Torn) else _believable(number, frame, longest)
        except OSError as error:
            yield path.stem, Torn(0, error.strerror or type(error).__name__)


def _believable(offset: int, frame: Frame, longest: int) -> Frame | Torn:
    """The frame, unless it holds what no run can have."""
    if frame.within and columns_hold(frame.records, longest):
        return frame
    wrong = next(filter(None, (implausible(record, longest) for record in frame.records)), "")
    return Torn(offset, f"frame {frame.number} holds a {wrong}, which no run can have") if wrong else frame


def write_reports(folder: Path, results: Results, *, html: bool = True) -> None:
    """All three files; without `html` two, and a page of before stays: where it shows other results, that is said."""
    from loadtests.report.junit import render_junit

    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "results.json", to_json(results))
    replace_file(folder / "junit.xml", render_junit(results).encode())
    page = folder / "report.html"
    if html:
        from loadtests.report.html import render_html  # charts take a second to load: `show` does without

        replace_file(page, render_html(results).encode())
    elif page.exists() and page_of(folder) is None:
        err.print(f"{page}: of an earlier judging; results.json beside it is newer", markup=False)


def page_of(folder: Path) -> Path | None:
    """The page of a folder, if it shows the very results that lie beside it."""
    page, results = folder / "report.html", folder / "results.json"
    try:
        begin, text = (read_bounded(path, MOST_OF_A_PAGE, links=False).decode() for path in (page, results))
    except (OSError, UnicodeDecodeError):
        return None
    return page if sha256_of(text) in begin[:HEAD] else None


def profile_text(folder: Path) -> str:
    """What a run's folder keeps of its profile. Raises BadInput."""
    try:
        return read_bounded(folder / "profile.toml", 4 * MAX_CHARACTERS, links=False).decode()
    except (OSError, UnicodeDecodeError):
        raise BadInput(
            f"{folder.name}: profile.toml is missing or unreadable; a run is judged by its profile"
        ) from None


def profile_of(folder: Path, sets: Sequence[str]) -> Profile:
    """The run's effective profile, with other values where asked."""
    text = profile_text(folder)
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
    as_json: bool = False,
) -> int:
    """Judge again; the exit status of the verdict. `consumers`: where to write what each consumer felt, as CSV."""
    from loadtests.measure.calm import analysed
    from loadtests.measure.judge import concluded
    from loadtests.measure.recovery_spread import consumer_table  # as above

    folder = find_run(run)
    if not (folder / "history").is_dir():
        raise BadInput(f'{folder}: holds no folder "history", by which alone a run is judged')
    profile = profile_of(folder, sets)
    stored = sha256_of(profile_text(folder))
    found = analysed(profile, lambda: read_history(folder, profile))
    results = concluded(found, profile_sha256=stored)
    target = out or (folder / "again" if sets else folder)
    if out is None and target.is_symlink() and sets:
        raise BadInput(f"{target}: found a link, allowed a folder; say with --out where to write")
    write_reports(target, results, html=html)
    if consumers is not None:
        try:
            consumers.write_text(consumer_table(found.contract, found.felt), encoding="utf-8")
        except OSError as error:
            raise BadInput(f"--consumers {consumers}: {error.strerror}") from None
    if as_json or not quiet:
        tell(results, target, "json" if as_json else "all")
    return results.verdict.exit_status


Told = Literal["all", "verdict", "json"]
"""How much is told of a run that was judged: all, the verdict with its reasons, or the same for a program."""


def tell(results: Results, folder: Path, told: Told) -> None:
    """Say on standard output what came out, and where the reports lie."""
    if told == "json":
        print(json.dumps(_for_programs(results, folder), indent=2))  # noqa: T201  no console
        return
    for line in verdict_lines(results) if told == "verdict" else summary_lines(results):
        console.print(line.text, style=line.style, markup=False)
    if told == "verdict":
        return
    page = page_of(folder)
    console.print(f"report: {short_path(page or folder / 'results.json')}", markup=False)
    named = results.run.id if folder.name == results.run.id else short_path(folder)
    if page is not None:
        next_step(f"tickstorm open {named}", "shows it in the browser")
    elif folder.name == results.run.id:
        next_step(f"tickstorm analyze {named}", "makes the page")


def _for_programs(results: Results, folder: Path) -> dict[str, object]:
    return {
        "run": results.run.id,
        "profile": results.run.profile,
        "verdict": results.verdict.value,
        "exit_status": results.verdict.exit_status,
        "answer": answer(results),
        "reasons": results.reasons,
        "results": str((folder / "results.json").absolute()),
        "report": str(page.absolute()) if (page := page_of(folder)) is not None else None,
    }
