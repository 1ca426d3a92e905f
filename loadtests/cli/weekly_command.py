"""How does the weekly job go?  Plays runs until the gate has decided, keeps every row first, then judges and draws.

Composition root of `tickstorm weekly` and of `compare`: both play sessions, each on a stack of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import psutil

from loadtests.capture.machine import free_memory
from loadtests.capture.speed import speed_print, strain_now, strain_since
from loadtests.capture.store import StoreFiles
from loadtests.cli.console import err, out, tell_line
from loadtests.cli.history_command import decision_of, give_json, row_of, show_series, stored_rows, write_series
from loadtests.cli.run_command import Ended, played, results_of
from loadtests.harness.files import find_run, new_id, replace_file, reports_folder
from loadtests.harness.profile_loading import load
from loadtests.measure.gate import Rule
from loadtests.measure.series import LEAST_RUNS, Asked, series_of
from loadtests.model.errors import BadInput
from loadtests.model.logins import TOKEN_SECRET
from loadtests.model.profile.reading import Loaded
from loadtests.model.results import Results, Verdict, from_json, worst
from loadtests.model.series import MeasureResult, SeriesResult, to_json
from loadtests.model.store import (
    History,
    LineageRow,
    Row,
    RunRow,
    Speed,
    digest,
    history_of,
    lineage_values,
)
from loadtests.report.series import figure_text, ratio_text, series_lines
from loadtests.report.text import TextLine
from loadtests.stack.local import LocalStack

CONFIRMING = 3
"""Runs of a confirmation."""
MOST_RUNS = 20
BUSY_PERCENT, CALM_S, LOOK_S = 20.0, 60.0, 1.0
"""A machine busier than this before a session is not used; so long it may take to calm down."""
STRAIN = 0.05
"""Share of a run's time that was stolen from this machine, or in which all waited for memory: more makes it unusable.
"""
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_of(text: str, option: str) -> float:
    """`90s`, `45m`, `2h`, `10d` in seconds. Raises BadInput."""
    found = _SPAN.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0:
        raise BadInput(f"{option}: found {text!r}, allowed a number with s, m, h or d, such as 45m")
    return float(found[1]) * _SECONDS[found[2]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeklyOptions:
    """What the user asked of a weekly job."""

    store: StoreFiles
    may_be_first: bool = False
    runs: str = f"{LEAST_RUNS}..7"
    limit: float = 25.0
    alpha: float = 0.05
    beta: float = 0.05
    confirm: bool = True
    target_version: str = ""
    against: str = ""
    budget: str = ""
    html: bool = True
    out: Path | None = None
    json: str = ""
    summary: Path | None = None

    def asked(self) -> Asked:
        """As the judgement takes it. Raises BadInput with every problem."""
        problems: list[str] = []
        spans = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", self.runs)
        first, most = (int(spans[1]), int(spans[2] or spans[1])) if spans else (0, 0)
        if not LEAST_RUNS <= first <= most <= MOST_RUNS:
            problems.append(
                f"--runs: found {self.runs!r}, allowed first..most from {LEAST_RUNS}..{LEAST_RUNS} to "
                f"{MOST_RUNS}..{MOST_RUNS}: fewer than {LEAST_RUNS} runs say nothing of how runs differ"
            )
        if not 1 <= self.limit <= 300:
            problems.append(f"--limit: found {self.limit:g}, allowed 1 to 300 (percent)")
        for name, value in (("--alpha", self.alpha), ("--beta", self.beta)):
            if not 0.001 <= value <= 0.2:
                problems.append(f"{name}: found {value:g}, allowed 0.001 to 0.2")
        budget: float | None = None
        if self.budget:
            try:
                budget = seconds_of(self.budget, "--budget")
            except BadInput as error:
                problems += error.problems
        if problems:
            raise BadInput(problems)
        return Asked(
            rule=Rule(size=self.limit / 100, alpha=self.alpha, beta=self.beta),
            first=first,
            most=most,
            may_be_first=self.may_be_first,
            budget_s=budget,
        )


def weekly(profiles: Sequence[str], options: WeeklyOptions) -> int:
    """The job, profile after profile; the worst exit status. Raises BadInput before anything was started."""
    asked = options.asked()
    jobs = [_prepared(name, options, len(profiles)) for name in profiles]
    lacking = [job for job in jobs if not job.history.weeks and not options.may_be_first]
    if lacking:
        for job in lacking:
            for text in job.told:
                err.print(text, markup=False)
            err.print(
                f"{options.store.file(job.loaded.profile.name)}: found no week, so nothing can be compared; "
                "`--first` says that this is the first week",
                markup=False,
            )
        return Verdict.UNKNOWN.exit_status
    found: list[Verdict] = []
    for job in jobs:
        verdict = _one(job, options, asked)
        found.append(verdict)
        if verdict is Verdict.ABORTED:
            break
    return worst(found).exit_status


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeklyJob:
    """One profile and what its store holds."""

    name: str
    loaded: Loaded
    history: History
    rows: tuple[Row, ...]
    told: tuple[str, ...]
    torn: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    against: Loaded | None = None
    against_name: str = ""


def _prepared(name: str, options: WeeklyOptions, many: int) -> WeeklyJob:
    loaded = load(name)
    read = options.store.read(loaded.profile.name)
    problems = []
    if options.out is not None and many > 1:
        problems.append(f"--out {options.out}: found {many} profiles, allowed one: they would overwrite each other")
    if loaded.profile.target.kind == "external" and not options.target_version:
        problems.append(f"--target-version: found nothing, allowed a text: {name} tests an external target")
    against = load(options.against) if options.against else None
    if against is not None and _without_target(against) != _without_target(loaded):
        problems.append(f"--against {options.against}: found another plan, allowed is another target alone")
    if problems:
        raise BadInput(problems)
    repeats = [fault.repeat.times if fault.repeat else 1 for fault in loaded.profile.faults]
    if repeats and min(repeats) < 4:
        err.print(
            f"{name}: a fault comes {min(repeats)} times a run: four or more find a change of 25 % far more often",
            markup=False,
        )
    return WeeklyJob(
        name=name, loaded=loaded, history=history_of(read.rows, read.torn), rows=read.rows, told=read.told,
        torn=read.torn, against=against, against_name=options.against,
    )  # fmt: skip


def _without_target(loaded: Loaded) -> dict[str, str]:
    return {key: value for key, value in lineage_values(loaded.profile).items() if not key.startswith("target")}


# -- one session


@dataclass(slots=True, kw_only=True)
class PlayedSession:
    """Plays the runs of one series and keeps a row of each before anybody judges it."""

    loaded: Loaded
    name: str
    series: str
    keep: Callable[[list[Row]], None]
    target_version: str = ""
    known: frozenset[str] = frozenset()  # lineages that the store has told
    rows: list[RunRow] = field(default_factory=list)
    longest_s: float = 0.0
    _speed: Speed | None = None
    _lineages: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def stack(self) -> Iterator[None]:
        """A fresh local stack for what is played meanwhile; nothing for an external target."""
        if self.loaded.profile.target.kind != "local":
            yield
            return
        if self.loaded.profile.target.auth == "token":
            os.environ.setdefault(TOKEN_SECRET, secrets.token_urlsafe(32))
        else:
            os.environ.pop(TOKEN_SECRET, None)
        before = os.environ.get("TICKSTORM_STACK")
        with tempfile.TemporaryDirectory(prefix="tickstorm-weekly-") as folder:
            place = Path(folder) / "stack"
            with LocalStack.up(place, progress=tell_line, mine=True):
                os.environ["TICKSTORM_STACK"] = str(place)
                try:
                    yield
                finally:
                    os.environ.pop("TICKSTORM_STACK")
                    if before is not None:
                        os.environ["TICKSTORM_STACK"] = before

    def play(self, *, session: int, offset: int, side: str = "", other: tuple[str, Loaded] | None = None) -> RunRow:
        """One run, with the seed that every session has at this place."""
        name, loaded = other or (self.name, self.loaded)
        seed = loaded.profile.seed + 1 + offset
        began = time.monotonic()
        before = self._speed or speed_print()
        strain = strain_now()
        run, ended = played(name, (), seed=seed, html=False)
        strained = strain_since(strain)
        self._speed = speed_print()
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        row = self._row(
            run, ended, results_of(run, ended), loaded, session=session, side=side, seed=seed, strained=strained,
            speed=[one for one in (before, self._speed) if one is not None],
        )  # fmt: skip
        told: list[Row] = []
        if row.lineage not in self.known | self._lineages:
            self._lineages.add(row.lineage)
            told.append(LineageRow(lineage=row.lineage, of=lineage_values(loaded.profile)))
        self.keep([*told, row])
        self.rows.append(row)
        return row

    def _row(
        self, run: str, ended: Ended, results: Results | None, loaded: Loaded, *, session: int, side: str, seed: int,
        strained: dict[str, float], speed: list[Speed],
    ) -> RunRow:  # fmt: skip
        why = [f"{what} took {share:.0%} of the run" for what, share in strained.items() if share > STRAIN]
        return row_of(
            run, results, loaded, series=self.series, index=len(self.rows), session=session, side=side, seed=seed,
            speed=speed, why_not=why or ([] if results else [ended.words]), target_version=self.target_version,
        )  # fmt: skip


def _one(job: WeeklyJob, options: WeeklyOptions, asked: Asked) -> Verdict:
    """The session of one profile, where this machine can be used at all."""
    profile = job.loaded.profile
    name = new_id(f"weekly-{profile.name}")
    if why := _not_calm(job.loaded):
        err.print(f"{job.name}: UNKNOWN, and no run was wasted: {why}", markup=False)
        return Verdict.UNKNOWN
    session = PlayedSession(
        loaded=job.loaded,
        name=job.name,
        series=name,
        keep=lambda rows: options.store.append(profile.name, rows),
        target_version=options.target_version,
        known=frozenset(job.history.lineages),
    )
    return carried_out(job, session, options, asked)


def carried_out(job: WeeklyJob, session: PlayedSession, options: WeeklyOptions, asked: Asked) -> Verdict:
    """Play, judge after each run, confirm, and write what came out."""
    began, name, profile = time.monotonic(), session.series, job.loaded.profile

    def history() -> History:
        return history_of([*job.rows, LineageRow(lineage=digest(values), of=values), *session.rows], job.torn)

    def judged(asked: Asked) -> SeriesResult:
        return series_of(history(), name, replace(asked, spent_s=time.monotonic() - began), job.told)

    values = lineage_values(profile)
    ended = _play_first(job, session, asked, judged, began)
    asked = replace(asked, ended=ended)
    series = judged(asked)
    if options.confirm and _by_gate_alone(series):
        if _fits(asked, session, began, CONFIRMING):
            err.print("FAIL: once more, on a fresh stack", markup=False)
            with session.stack():
                for offset in range(CONFIRMING):
                    _pair(job, session, session_number=1, offset=offset)
        else:
            asked = replace(asked, unconfirmed=True, ended="budget")
    series = judged(asked)
    options.store.append(profile.name, [decision_of(series, unconfirmed=asked.unconfirmed)])
    folder = options.out or reports_folder() / name
    write_series(series, history(), folder, html=options.html, summary=options.summary, json_to=options.json)
    show_series(series, str(folder), json_to=options.json)
    return series.verdict


def _play_first(
    job: WeeklyJob,
    session: PlayedSession,
    asked: Asked,
    judged: Callable[[Asked], SeriesResult],
    began: float,
) -> str:
    """The first session, until the gate has decided; why it ended."""
    with session.stack():
        for offset in range(asked.most):
            if offset and not _fits(asked, session, began, 1):
                return "budget"
            _pair(job, session, session_number=0, offset=offset % asked.first)
            if session.rows[-1].verdict is Verdict.ABORTED:
                return "aborted"
            if offset + 1 < asked.first:
                continue
            series = judged(asked)
            tested = [row for row in session.rows if row.side != "a"]
            if any(run.verdict is Verdict.FAIL for run in series.runs if run.side != "a"):
                return "decided"
            enough = sum(row.usable for row in tested) >= asked.first
            if enough and not any(measure.open for measure in series.measures):
                return "decided"
    return "most"


def _pair(job: WeeklyJob, session: PlayedSession, *, session_number: int, offset: int) -> None:
    """One run, or with `--against` one of either side, which begin in turn."""
    sides: list[tuple[str, tuple[str, Loaded] | None]] = [("", None)]
    if job.against is not None:
        sides = [("a", (job.against_name, job.against)), ("b", None)]
        if len(session.rows) // 2 % 2:
            sides.reverse()
    for side, other in sides:
        session.play(session=session_number, offset=offset, side=side, other=other)


def _by_gate_alone(series: SeriesResult) -> bool:
    """FAIL by comparison; a broken limit needs no second session."""
    return any(m.verdict is Verdict.FAIL for m in series.measures) and all(
        run.verdict is not Verdict.FAIL for run in series.runs if run.side != "a"
    )


def _fits(asked: Asked, session: PlayedSession, began: float, runs: int) -> bool:
    """Whether so many more runs would end within the budget."""
    if asked.budget_s is None:
        return True
    return time.monotonic() - began + runs * session.longest_s <= asked.budget_s


def _not_calm(loaded: Loaded) -> str:
    """Why this machine cannot be used now; empty where it can. Waits a while for a calm second.

    Processes of a lower priority (`nice`) make room for a run and do not count; the speed print sees what they cost.
    """
    memory = free_memory(loaded.profile)
    if memory.level != "ok":
        return memory.text
    deadline = time.monotonic() + CALM_S
    while True:
        spent = psutil.cpu_times_percent(interval=LOOK_S)
        busy = 100 - spent.idle - getattr(spent, "iowait", 0.0) - getattr(spent, "nice", 0.0)
        if busy <= BUSY_PERCENT:
            return ""
        if time.monotonic() > deadline:
            return f"CPU {busy:.0f} % busy before the first run, allowed {BUSY_PERCENT:.0f} %, for {CALM_S:.0f} s"


def interleaved(name_a: str, name_b: str, pairs: int) -> tuple[SeriesResult, list[RunRow]]:
    """Play two profiles in turn, so many pairs, on one stack, and compare them; nothing enters a store."""
    a, b = load(name_a), load(name_b)
    series = new_id(f"compare-{b.profile.name}")
    session = PlayedSession(loaded=b, name=name_b, series=series, keep=lambda _rows: None)
    job = WeeklyJob(name=name_b, loaded=b, history=history_of(()), rows=(), told=(), against=a, against_name=name_a)
    with session.stack():
        for offset in range(pairs):
            _pair(job, session, session_number=0, offset=offset)
    asked = Asked(first=LEAST_RUNS, most=pairs, ended="most")
    return series_of(history_of(session.rows), series, asked), session.rows


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
    series: SeriesResult, sides: Sequence[tuple[str, Sequence[RunRow]]], *, html: bool, to: Path | None, json_to: str
) -> int:
    """Show, and write what was asked for."""
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
    give_json(series, json_to)
    for line in [*(TextLine(text=text) for text in _table(series)), *series_lines(series, "")[-1:]]:
        (err if json_to == "-" else out).print(line.text, style=line.style, markup=False)
    return series.verdict.exit_status


def _rows(name: str, store: StoreFiles) -> list[RunRow]:
    for profile in store.profiles():
        read = store.read(profile)
        week = history_of(read.rows, read.torn).week(name)
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
            msgspec.structs.replace(
                row, series=NAME, side=side, run=f"{side} {row.run}", usable=True, session=0, index=index
            )
            for index, row in enumerate(of_it)
        ]
    return history_of(rows)


def _only_told(series: SeriesResult, why: str) -> SeriesResult:
    """Figures side by side, and no judgement."""
    measures = [
        msgspec.structs.replace(m, verdict=Verdict.UNKNOWN, sentence=f"told only: {why}") for m in series.measures
    ]
    return msgspec.structs.replace(
        series, verdict=Verdict.UNKNOWN, measures=measures, compared=0, reasons=[f"nothing was judged: {why}"]
    )


def _table(series: SeriesResult) -> list[str]:
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
                folder = find_run(row.run.rpartition(" ")[2])
                found.append((label, from_json((folder / "results.json").read_bytes())))
                break
            except (BadInput, OSError, msgspec.DecodeError):
                continue
    return found
