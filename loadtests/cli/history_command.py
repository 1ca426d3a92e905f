"""What do the stored weeks say, and what has a person decided about them?  The commands `history` and `gate`; no load.

Also how a series is written to its files, which the weekly job and the comparison share.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from loadtests.capture.speed import machine_facts
from loadtests.capture.store import SUFFIX, StoreFiles
from loadtests.cli.analyze_command import profile_text
from loadtests.cli.console import err, out
from loadtests.harness.files import find_run, replace_file, report_of, reports_folder
from loadtests.harness.process import machine, versions
from loadtests.measure.gateable import gated, values_of, why_unusable
from loadtests.measure.series import Asked, doubts, series_of, trend_of
from loadtests.model.errors import BadInput
from loadtests.model.profile.reading import Loaded, read_profile
from loadtests.model.results import Results, Verdict, from_json
from loadtests.model.results import to_json as results_json
from loadtests.model.runconfig import sha256_of
from loadtests.model.series import SeriesResult, to_json
from loadtests.model.store import (
    AcceptRow,
    AnchorRow,
    DecisionRow,
    ExcludeRow,
    History,
    LineageRow,
    Row,
    RunRow,
    Speed,
    Week,
    digest,
    history_of,
    lineage_values,
    machine_key,
)
from loadtests.report.series import figure_text, markdown, series_junit, series_lines

PUSHES = 5
SOON = timedelta(minutes=5)
"""Clocks of two machines may differ by this; what starts later has a wrong date."""
ATTRIBUTES = "*.jsonl merge=union\n"
"""Of the branch that keeps a store: two jobs that append to one file lose no line."""
THESE = "these runs"
IMPORTED = "-import"
"""So end the names of series that nobody judged when they were kept."""
SUMMARY = "GITHUB_STEP_SUMMARY"


# -- rows of runs


def row_of(
    run: str, results: Results | None, loaded: Loaded, *, series: str, index: int, seed: int, session: int = 0,
    side: str = "", speed: Sequence[Speed] = (), why_not: Sequence[str] = (), target_version: str = "",
    facts: dict[str, str] | None = None,
) -> RunRow:  # fmt: skip
    """What the store keeps of a run; without results it is a run that cannot be used."""
    profile = loaded.profile
    told = versions() | (results.run.versions if results else {})
    known = machine_facts(told, local=profile.target.kind == "local") if facts is None else facts
    why = [*why_not, *(why_unusable(results) if results else ["it has no results"])]
    began = (results.run.started_at if results else None) or datetime.now(UTC).isoformat(timespec="seconds")
    effective = loaded.effective
    return RunRow(
        series=series,
        run=run,
        index=index,
        seed=seed,
        started_at=began,
        session=session,
        side=side,
        profile=profile.name,
        lineage=digest(lineage_values(profile)),
        target_version=target_version or told.get("gateway", ""),
        machine_key=machine_key(known),
        machine=known,
        speed=list(speed),
        usable=not why,
        why_not=why,
        verdict=results.verdict if results else Verdict.UNKNOWN,
        checks=[f"{c.name}: {c.summary}" for c in results.checks if c.verdict is not Verdict.PASS] if results else [],
        broken=[c.name for c in results.checks if c.verdict is Verdict.FAIL] if results else [],
        overrides=sorted(key for key, relaxed in zip(effective.key, effective.relaxed, strict=True) if relaxed),
        gated=list(profile.gate.measures) if profile.gate else [],
        values=values_of(results) if results else {},
        results_sha256=sha256_of(results_json(results).decode()) if results else "",
        report=f"{run}/{report_of(reports_folder() / run).name}",
    )


def stored_rows(runs: Sequence[str], series: str) -> list[Row]:
    """Rows of runs that are stored, all of one profile. Raises BadInput with every problem."""
    problems: list[str] = []
    found: list[Row] = []
    for index, run in enumerate(runs):
        try:
            folder = find_run(run)
            results = from_json((folder / "results.json").read_bytes())
            loaded = read_profile(profile_text(folder), file=f"{folder.name}/profile.toml")
        except BadInput as error:
            problems += error.problems
            continue
        except (OSError, ValueError) as error:
            problems.append(f"{run}/results.json: {error}; `tickstorm analyze` writes it")
            continue
        here = results.run.machine == machine()
        facts = None if here else {"cpu": results.run.machine, "target": loaded.profile.target.kind}
        row = row_of(folder.name, results, loaded, series=series, index=index, seed=results.run.seed, facts=facts)
        values = lineage_values(loaded.profile)
        if not any(isinstance(one, LineageRow) and one.lineage == row.lineage for one in found):
            found.append(LineageRow(lineage=row.lineage, of=values))
        found.append(row)
    played = [row for row in found if isinstance(row, RunRow)]
    twice = sorted({row.run for row in played if sum(row.run == one.run for one in played) > 1})
    problems += [f"runs: found {run} twice, allowed once: a run is no evidence of itself" for run in twice]
    names = sorted({row.profile for row in played})
    if len(names) > 1:
        problems.append(f"runs: found several profiles ({', '.join(names)}), allowed one")
    if problems:
        raise BadInput(problems)
    return found


# -- files of a series


def write_series(
    series: SeriesResult, history: History, folder: Path, *, html: bool, summary: Path | None = None, json_to: str = ""
) -> None:
    """series.json, junit.xml, summary.md and, unless unwanted, the pages. Raises BadInput."""
    trend = f"trend-{series.series.profile}.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / "series.json", to_json(series))
        replace_file(folder / "junit.xml", series_junit(series).encode())
        text = markdown(series)
        replace_file(folder / "summary.md", text.encode())
        for place in {path for path in (summary, os.environ.get(SUMMARY)) if path}:
            with open(place, "a", encoding="utf-8") as file:
                file.write(text)
        if html:
            from loadtests.report.series import series_page, trend_page

            replace_file(folder / "index.html", series_page(series, f"../{trend}").encode())
            replace_file(folder.parent / trend, trend_page(trend_of(history)).encode())
    except OSError as error:
        raise BadInput(f"{error.filename or folder}: cannot be written: {error.strerror}") from None
    give_json(series, json_to)


def give_json(series: SeriesResult, json_to: str) -> None:
    """series.json for a program: `-` is standard output, else a file; nowhere where it is empty. Raises BadInput."""
    if json_to == "-":
        sys.stdout.write(to_json(series).decode())
    elif json_to:
        try:
            replace_file(Path(json_to), to_json(series))
        except OSError as error:
            raise BadInput(f"--json {json_to}: cannot be written: {error.strerror}") from None


def show_series(series: SeriesResult, folder: str = "", *, json_to: str = "") -> None:
    """The summary on the terminal; on standard error where the JSON goes to standard output."""
    for line in series_lines(series, folder):
        (err if json_to == "-" else out).print(line.text, style=line.style, markup=False)


# -- gate


def gate(
    names: Sequence[str], store: StoreFiles, asked: Asked, *, html: bool, to: Path | None, json_to: str,
    keep: bool = False,
) -> int:  # fmt: skip
    """Judge a stored series, or runs as a series of their own, against the store; the exit status of the verdict.

    `keep`: the decision enters the store.
    """
    history, told, series = _asked_for(names, store)
    if keep and series == THESE:
        raise BadInput(
            "--keep: found runs, allowed a series of the store; `tickstorm history import` makes one of them"
        )
    found = series_of(history, series, asked, told)
    if keep:
        before = next(week.decision for week in history.weeks if week.series == series)
        unconfirmed = before is not None and before.unconfirmed
        store.append(found.series.profile, [decision_of(found, unconfirmed=unconfirmed)])
    if to is not None:
        write_series(found, history, to, html=html, json_to=json_to)
    else:
        give_json(found, json_to)
    show_series(found, str(to or ""), json_to=json_to)
    return found.verdict.exit_status


def decision_of(series: SeriesResult, *, unconfirmed: bool) -> DecisionRow:
    """What the store keeps of a judgement."""
    return DecisionRow(
        series=series.series.id, at=datetime.now(UTC).isoformat(timespec="seconds"), verdict=series.verdict,
        sentence=series.reasons[0] if series.reasons else "", compared=series.compared, unconfirmed=unconfirmed,
    )  # fmt: skip


def _asked_for(names: Sequence[str], store: StoreFiles) -> tuple[History, tuple[str, ...], str]:
    if len(names) == 1:
        for profile in store.profiles():
            read = store.read(profile)
            history = history_of(read.rows, read.torn)
            if history.week(names[0]) is not None:
                return history, read.told, names[0]
    try:
        rows = stored_rows(names, THESE)
    except BadInput as error:
        raise BadInput(
            [*error.problems, f"{store.place}: found no such series there either; `tickstorm history list` shows all"]
        ) from None
    profile = next(row.profile for row in rows if isinstance(row, RunRow))
    read = store.read(profile)
    asked_runs = {row.run for row in rows if isinstance(row, RunRow)}
    own = {row.series for row in read.rows if isinstance(row, RunRow) and row.run in asked_runs}
    kept = [row for row in read.rows if not (isinstance(row, RunRow) and row.series in own)]
    return history_of([*kept, *rows], read.torn), read.told, THESE


# -- history


def _all(store: StoreFiles, profile: str = "") -> list[tuple[str, History, tuple[str, ...]]]:
    names = store.profiles()
    if profile and profile not in names:
        raise BadInput(
            f"--profile: found {profile!r}, allowed one of {', '.join(names) or 'nothing: the store is empty'}"
        )
    found, problems = [], []
    for name in [profile] if profile else names:
        try:
            read = store.read(name)
        except BadInput as error:
            problems += error.problems
            continue
        found.append((name, history_of(read.rows, read.torn), read.told))
    if problems:
        raise BadInput(problems)
    return found


def _tell(told: Sequence[str]) -> None:
    for text in told:
        err.print(text, markup=False)


def list_weeks(store: StoreFiles, profile: str = "") -> int:
    """One line a week; 3 where the store holds none."""
    found = _all(store, profile)
    for name, history, told in found:
        _tell(told)
        for week in history.weeks:
            out.print(_line(name, week), markup=False)
    if not any(history.weeks for _, history, _ in found):
        err.print(f"{store.place}: found no week", markup=False)
        return Verdict.UNKNOWN.exit_status
    return 0


def _line(name: str, week: Week) -> str:
    verdict = week.decision.verdict.value if week.decision else "not judged"
    marks = [*(["accepted"] if week.accepted else []), *(["excluded"] if week.excluded else [])]
    figures = []
    values = week.usable[0].values if week.usable else {}
    for measure in gated(week.first.gated, list(values))[:4]:
        known = sorted(float(v.value) for run in week.usable if (v := run.values.get(measure)) and v.value is not None)
        if known:
            figures.append(f"{measure} {figure_text(known[len(known) // 2], values[measure].unit)}")
    version, key = week.first.target_version or "-", week.first.machine_key[:6]
    text = (
        f"{week.label}  {verdict:10}  {name}  {week.series}  {len(week.usable)}/{len(week.runs)} runs  {version}  {key}"
    )
    return "  ".join([text, *marks, *figures])


def show_week(store: StoreFiles, series: str, json_to: str) -> int:
    """One week, judged as it would be now; the store stays as it is."""
    history, told, found = _asked_for([series], store)
    shown = series_of(history, found, Asked(may_be_first=True), told)
    give_json(shown, json_to)
    show_series(shown, json_to=json_to)
    return 0


def status(store: StoreFiles, max_age_s: float, profile: str = "") -> int:
    """3 where a profile's newest week is older, was aborted or never judged, where there is none, or where a run is
    dated in the future: nobody knows then how old the newest is.
    """
    found = _all(store, profile)
    bad = not found
    if bad:
        err.print(f"{store.place}: found no week", markup=False)
    now = datetime.now(UTC)
    for name, history, told in found:
        _tell(told)
        if not history.weeks:
            bad = True
            err.print(f"{name}: found no week", markup=False)
            continue
        week = history.weeks[-1]
        age = now - max(run.at for run in week.runs)
        verdict = week.decision.verdict if week.decision else None
        wrong = [f"{run.run} is dated in the future, {run.started_at}" for run in _ahead(history, now)]
        if age > timedelta(seconds=max_age_s):
            wrong.append(f"older than {_age(timedelta(seconds=max_age_s))}; does the job still run?")
        if verdict is Verdict.ABORTED:
            wrong.append(f"{week.series} was aborted: nothing was compared")
        if verdict is None:
            wrong.append(_never_judged(week))
        bad = bad or bool(wrong)
        out.print(
            f"{name}: {len(history.weeks)} weeks, the newest {_age(age)} old"
            f" ({verdict.value if verdict else 'not judged'})" + "".join(f": {text}" for text in wrong),
            style="unknown" if wrong else "pass",
            markup=False,
        )
    return Verdict.UNKNOWN.exit_status if bad else 0


def _ahead(history: History, now: datetime) -> list[RunRow]:
    """Of each week the first run that is."""
    runs = [next((run for run in week.runs if run.at > now + SOON), None) for week in history.weeks]
    return [run for run in runs if run is not None]


def _never_judged(week: Week) -> str:
    return f"{week.series} was never judged; `tickstorm gate {week.series} --keep` does, and keeps what it says"


def _age(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"


def decide(store: StoreFiles, what: str, series: str, why: str) -> int:
    """Keep what a person decided. Raises BadInput for a series that the store does not have."""
    kinds: dict[str, type[AcceptRow] | type[ExcludeRow] | type[AnchorRow]]
    kinds = {"accept": AcceptRow, "exclude": ExcludeRow, "anchor": AnchorRow}
    found = _all(store)
    named = [name for name, history, _ in found if history.week(series) is not None]
    if what == "anchor" and series == "none":
        named, series = [name for name, history, _ in found if history.anchor], ""
    elif not named:
        raise BadInput(f"{series}: found no such series in {store.place}; `tickstorm history list` shows all")
    if what != "anchor" and not why.strip():
        raise BadInput("--why: found nothing, allowed a sentence for whoever reads the store later")
    at = datetime.now(UTC).isoformat(timespec="seconds")
    for name in named:
        store.append(name, [kinds[what](series=series, at=at, why=why, who=_who())])
        out.print(f"{name}: {what} {series or 'none'}", markup=False)
    return 0


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def import_runs(store: StoreFiles, runs: Sequence[str]) -> int:
    """Rows of stored runs, as one series."""
    series = f"{datetime.now(UTC):%Y%m%d-%H%M%S}{IMPORTED}"
    rows = stored_rows(runs, series)
    name = next(row.profile for row in rows if isinstance(row, RunRow))
    kept = store.read(name).rows
    have = {row.run for row in kept if isinstance(row, RunRow)}
    known = set(history_of(kept).lineages)
    fresh = [row for row in rows if isinstance(row, RunRow) and row.run not in have]
    many = len(fresh)
    if many:
        told = [row for row in rows if isinstance(row, LineageRow) and row.lineage not in known]
        store.append(name, [*told, *(msgspec.structs.replace(row, index=at) for at, row in enumerate(fresh))])
    there = f"; {len(runs) - many} were there" if many < len(runs) else ""
    out.print(f"{many} of {len(runs)} runs imported as {series} of {name}{there}", markup=False)
    return 0


def check(store: StoreFiles) -> int:
    """Read all and say what is torn or doubtful; 2 where anything is, 3 where there is nothing to read."""
    doubtful: list[str] = []
    rows = 0
    now = datetime.now(UTC)
    for name, history, told in _all(store):
        doubtful += told
        doubtful += [
            f"{name}: {run.series}: {run.run} is dated in the future, {run.started_at}" for run in _ahead(history, now)
        ]
        for week in history.weeks:
            rows += len(week.runs)
            doubtful += [f"{name}: {week.series}: {text}" for text in doubts(history, week)]
            if week.decision is None and not week.series.endswith(IMPORTED):
                doubtful.append(f"{name}: {_never_judged(week)}")
    for text in doubtful:
        err.print(text, markup=False)
    out.print(f"{rows} runs read, {len(doubtful)} things are doubtful", markup=False)
    return 2 if doubtful else 0 if rows else Verdict.UNKNOWN.exit_status


def trim(store: StoreFiles, keep_runs: int, *, keep_fails: bool) -> int:
    """Delete the histories of old runs; rows, results.json and pages stay."""
    removed = 0
    for _, history, _ in _all(store):
        for week in history.weeks[: max(len(history.weeks) - keep_runs, 0)]:
            if keep_fails and week.decision is not None and week.decision.verdict is Verdict.FAIL:
                continue
            for run in week.runs:
                folder = reports_folder() / Path(run.run).name / "history"
                if folder.is_dir() and not folder.is_symlink():
                    shutil.rmtree(folder)
                    removed += 1
    out.print(f"the histories of {removed} runs are gone; their rows and results stay", markup=False)
    return 0


def push(place: Path) -> int:
    """Commit what is in a checked-out branch and push it, over what others pushed meanwhile; 3 where that fails."""
    if not (place / ".git").exists():
        raise BadInput(f"{place}: found no git checkout, allowed one of the branch that keeps the store")
    if any(place.rglob(f"*{SUFFIX}")):
        _merge_by_line(place / ".gitattributes")
    _git(place, "add", "--all")
    if _git(place, "diff", "--cached", "--quiet").returncode:
        done = _git(place, "commit", "--quiet", "--message", f"Weeks up to {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
        if done.returncode:
            err.print(done.stderr.strip(), markup=False)
            return Verdict.UNKNOWN.exit_status
    said = ""
    for _ in range(PUSHES):
        done = _git(place, "push", "--quiet", "origin", "HEAD")
        if done.returncode == 0:
            out.print("the store is pushed", markup=False)
            return 0
        said = done.stderr.strip()
        # the first one to push .gitattributes may be somebody else
        pulled = _git(place, "-c", "merge.default=union", "pull", "--quiet", "--rebase", "origin", _branch(place))
        if pulled.returncode:
            _git(place, "rebase", "--abort")
            said = pulled.stderr.strip() or said
    err.print(f"the store could not be pushed in {PUSHES} tries: {said}", markup=False)
    return Verdict.UNKNOWN.exit_status


def _merge_by_line(path: Path) -> None:
    try:
        said = path.read_text(encoding="utf-8") if path.exists() else ""
        if ATTRIBUTES not in said:
            replace_file(path, f"{said}{ATTRIBUTES}".encode())
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror}") from None


def _branch(place: Path) -> str:
    return _git(place, "rev-parse", "--abbrev-ref", "HEAD").stdout.strip()


def _git(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(place), "-c", "user.name=tickstorm", "-c", "user.email=tickstorm@localhost", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
