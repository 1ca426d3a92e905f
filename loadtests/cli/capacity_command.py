"""What is the highest load at which every limit holds?  Plays the search, keeps what it found, draws it.

Composition root of `tickstorm capacity`.  Along the axis `rate` one run climbs by levels that it chooses itself
(`harness.levels`).  Along `clients` the number of users changes, which ends a run's calm: each level is a run of its
own, of one stage, and the same search chooses the next.  What a level was worth says the stored history alone; so
`--again` judges anew, under other limits, without any load.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import msgspec

from loadtests.cli.analyze_command import analyze_run, profile_of
from loadtests.cli.console import err, out, tell_line
from loadtests.cli.history_command import give_json
from loadtests.cli.run_command import played, results_of
from loadtests.cli.weekly_command import seconds_of
from loadtests.drive.publish.replays import read_bounded
from loadtests.harness.files import ROOT, find_run, new_id, replace_file, reports_folder
from loadtests.harness.profile_loading import load
from loadtests.measure.capacity import conclude
from loadtests.measure.usl import fit, parse_points
from loadtests.model.capacity import Capacity, CapacityAsked, Trial, asked_of
from loadtests.model.errors import BadInput, HarnessError
from loadtests.model.profile.fault_times import named, recovery_limit_s
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.reading import Loaded
from loadtests.model.profile.rules import offered_per_s
from loadtests.model.results import Results, Verdict, from_json
from loadtests.model.series import SCHEMA, RunOfSeries, SeriesInfo, SeriesResult, to_json
from loadtests.model.series import from_json as series_from_json
from loadtests.model.store import digest, lineage_values
from loadtests.plan.search import Search, Step, shortest_s
from loadtests.report.capacity import summary_lines

KIND = "capacity"
MOST_BYTES = 64 << 20
"""Of a series.json."""
MOST_PLANNED = 1_000_000_000
SUSTAINED = "ceiling"
"""The benchmark's row of what one worker receives with nothing lost."""
_PLAN = re.compile(r"(\d+(?:\.\d+)?)\s*(k?)\s*(?:/s)?")
_PRICE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:/h)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityOptions:
    """What the user asked; what is None stays as the profile has it."""

    axis: str = "rate"
    start: float | None = None
    to: float | None = None
    tolerance: float | None = None
    settle: float | None = None
    hold: float | None = None
    long: float | None = None
    under: str = ""
    limits: str = ""
    plan: str = ""
    growth: float | None = None
    price: str = ""
    budget: str = "15m"
    seed: int | None = None
    workers: int = 0
    web_port: int | None = None
    sets: Sequence[str] = ()
    html: bool = True
    out: Path | None = None
    json: str = ""

    def refuse(self) -> float:
        """Raises BadInput with every problem of what no profile checks; the budget in seconds."""
        problems = []
        if self.axis not in AXES:
            problems.append(f'--axis: found "{self.axis}", allowed {" or ".join(AXES)}')
        for option, text, shape, such in (
            ("--plan", self.plan, _PLAN, "25000/s or 25k/s"), ("--price", self.price, _PRICE, "0.12/h"),
        ):  # fmt: skip
            if text and not shape.fullmatch(text.strip()):
                problems.append(f"{option}: found {text!r}, allowed a number such as {such}")
        if not problems and self.planned() is not None and not 0 < (self.planned() or 0.0) <= MOST_PLANNED:
            problems.append(f"--plan: found {self.plan!r}, allowed above 0 to {MOST_PLANNED:,}")
        if self.growth is not None and not 0.001 <= self.growth <= 1000:
            problems.append(f"--growth: found {self.growth:g}, allowed from 0.001 to 1000 (percent a year)")
        budget_s = 0.0
        try:
            budget_s = seconds_of(self.budget, "--budget")
        except BadInput as error:
            problems += error.problems
        if problems:
            raise BadInput(problems)
        return budget_s

    def settings(self) -> list[str]:
        """As settings of a profile. Raises BadInput with every problem."""
        budget_s = self.refuse()
        given: dict[str, object] = {
            "start": self.start, "to": self.to, "tolerance_percent": self.tolerance, "settle_s": self.settle,
            "hold_s": self.hold, "long_s": self.long, "plan": self.planned(), "under": self.under or None,
            "limits": [part.strip() for part in self.limits.split(",") if part.strip()] or None,
        }  # fmt: skip
        found = [f"capacity.{key}={_toml(value)}" for key, value in given.items() if value is not None]
        return [f"run.duration_s={budget_s:g}", "capacity.search=true", *found, *self.sets]

    def planned(self) -> float | None:
        """The load that is planned for, in the axis's unit."""
        found = _PLAN.fullmatch(self.plan.strip())
        return float(found[1]) * (1000 if found[2] else 1) if found else None

    def told(self, asked: CapacityAsked) -> CapacityAsked:
        """What a profile asks, and what only the command knows."""
        price = _PRICE.fullmatch(self.price.strip())
        return msgspec.structs.replace(
            asked,
            axis=self.axis,
            axis_unit=AXES[self.axis],
            growth=self.growth,
            price=float(price[1]) if price else None,
        )


AXES = {"rate": "deliveries/s", "clients": "clients"}
"""What can be raised, and in which unit the answer is."""


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else f"{value}"


def _table(profile: Profile, **changes: object) -> str:
    """The whole table of the search as one setting; None leaves a key out."""
    assert profile.capacity is not None
    values = profile.capacity.model_dump() | changes
    return f"capacity={{{', '.join(f'{key} = {_toml(v)}' for key, v in values.items() if v is not None)}}}"


def capacity(name: str, options: CapacityOptions) -> int:
    """Search and tell; the exit status. Raises BadInput before anything was started."""
    settings = options.settings()
    loaded = load(name, settings, options.seed)
    table, budget_s = loaded.profile.capacity, loaded.profile.run.duration_s
    if table is None or not table.search:
        raise BadInput("capacity.search: found false, allowed true: `tickstorm run` plays a profile as it is")
    if table.under is not None and options.axis != "rate":
        raise BadInput(f'--under: found "{table.under}" with --axis {options.axis}, allowed with --axis rate')
    least_s = shortest_s(asked_of(loaded.profile))
    if budget_s < least_s:
        raise BadInput(f"--budget: found {budget_s:g}s, allowed from {least_s:g}s: a level, its hold and the control")
    if why := _beyond_us(loaded.profile, max(options.workers, 1)):
        tell_line(why)
    series = new_id(f"{KIND}-{loaded.profile.name}")
    asked = options.told(msgspec.structs.replace(asked_of(loaded.profile), settle_s=table.settle_s, under=""))
    began = time.monotonic()
    faulted: Capacity | None = None
    if options.axis == "rate":
        run, found = _searched(name, [*settings, _table(loaded.profile, under=None)], options)
        runs, trials, ended = [run], found.trials if found else [], found.ended if found else "aborted"
        held = max((one.factor for one in trials if one.verdict == "GOOD"), default=None)
        if table.under is not None and held is not None and ended != "aborted":
            left_s = budget_s - (time.monotonic() - began)
            needed_s = shortest_s(asked_of(loaded.profile))
            if left_s < needed_s:
                faulted = _not_searched(loaded.profile, max(left_s, 0.0), needed_s)
                tell_line(f"under {table.under}: {faulted.found.reasons[0]}")
            else:
                tell_line(f"under {table.under}: the same search again, {left_s / 60:.0f} min of the budget are left")
                start = max(table.start, held / 4)
                table_ = _table(loaded.profile, start=start, to=held * 1.1)
                run, faulted = _searched(name, [*settings, table_, f"run.duration_s={left_s:.0f}"], options)
                runs.append(run)
                ended = ended if faulted is not None and faulted.ended != "aborted" else "aborted"
    else:
        runs, trials, ended = _by_clients(name, loaded, asked, options)
    spent_s = round(time.monotonic() - began, 1)
    told = conclude(trials, asked, ended=ended, spent_s=spent_s, faulted=faulted, **_outage(loaded.profile))
    folder = options.out or reports_folder() / series
    return _tell(_series(series, loaded, runs, told), told, folder, options)


def _beyond_us(profile: Profile, workers: int) -> str:
    """What to expect where the highest level lies beyond what a worker took in the benchmark; empty elsewhere."""
    table = profile.capacity
    assert table is not None
    try:
        rows = json.loads((ROOT / "docs" / "performance.json").read_bytes())["outcomes"]
        worker = next(float(row["value"]) for row in rows if row["key"] == SUSTAINED)
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return ""
    most = offered_per_s(profile) * table.to
    if most <= worker * workers:
        return ""
    return (
        f"--to {table.to:g} is {most:,.0f} deliveries/s: {workers} worker{'s' * (workers > 1)} took about "
        f"{worker * workers:,.0f} where that was measured (docs/performance.md), so our own end may come first"
    )


def _outage(profile: Profile) -> dict[str, float]:
    """How long the fault lasts that levels carry, and within what time the target must be back."""
    fault = named(profile, profile.capacity.under) if profile.capacity is not None else None
    return {} if fault is None else {"outage_s": fault.for_s, "recovery_s": recovery_limit_s(profile, fault)}


def _not_searched(profile: Profile, left_s: float, needed_s: float) -> Capacity:
    """What is known under a fault where the budget has no room for a search."""
    found = conclude([], asked_of(profile), ended="budget")
    why = f"not searched: {left_s:.0f} s of the budget were left, a search takes {needed_s:.0f} s at least; --budget"
    return msgspec.structs.replace(found, found=msgspec.structs.replace(found.found, reasons=[why]))


def _searched(
    name: str, settings: Sequence[str], options: CapacityOptions
) -> tuple[tuple[str, Results | None], Capacity | None]:
    run, results = _run(name, settings, options)
    return (run, results), results.capacity if results is not None else None


def _run(name: str, settings: Sequence[str], options: CapacityOptions) -> tuple[str, Results | None]:
    run, ended = played(
        name, settings, workers=options.workers, web_port=options.web_port, seed=options.seed, html=options.html
    )
    if ended.failed:
        raise BadInput(ended.failed.split("\n")) if ended.status == 2 else HarnessError(ended.failed)
    return run, results_of(run, ended)


def _by_clients(
    name: str, loaded: Loaded, asked: CapacityAsked, options: CapacityOptions
) -> tuple[list[tuple[str, Results | None]], list[Trial], str]:
    """A run for each level: of one stage, with so many clients."""
    search, began = Search(asked), time.monotonic()
    beside_s = 0.0  # of a run, beside its level: start, connecting, drain, judging; the most it took
    runs: list[tuple[str, Results | None]] = []
    trials: list[Trial] = []
    while (step := search.next(time.monotonic() - began + beside_s)) is not None:
        begun = time.monotonic()
        settings = _stage(loaded.profile, step, options)
        low, high = (f"{factor:.4g} x" if factor is not None else "none" for factor in search.bracket)
        tell_line(f"level {len(runs) + 1}: {step.factor:.4g} x the clients, {step.kind}; held {low}, not {high}")
        try:
            run, results = _run(name, settings, options)
        except BadInput as error:
            if not runs:
                raise
            for problem in error.problems:  # more clients than this machine's limits allow: our end, not the target's
                tell_line(problem)
            search.add("UNUSABLE", error.problems[0])
            continue
        beside_s = max(beside_s, time.monotonic() - begun - step.lasts_s)
        runs.append((run, results))
        mine = results.capacity.trials if results is not None and results.capacity is not None else []
        if not mine:
            return runs, trials, "aborted"
        factor = _clients_at(loaded.profile, step.factor) / _clients_at(
            loaded.profile, 1.0
        )  # there is no half a client
        trial = msgspec.structs.replace(mine[0], kind=step.kind, factor=factor, index=len(trials))
        trials.append(trial)
        tell_line(f"  {trial.verdict}{f': {trial.broke[0]}' if trial.broke else ''}")
        search.add(trial.verdict, trial.broke[0] if trial.broke else "")
    return runs, trials, search.ended


def _clients_at(profile: Profile, factor: float) -> int:
    return sum(ceil(group.count * factor) for group in profile.consumers)


def _stage(profile: Profile, step: Step, options: CapacityOptions) -> list[str]:
    counts = [f"consumers.{group.name}.count={ceil(group.count * step.factor)}" for group in profile.consumers]
    stage = f"levels=[{{factor=1.0, settle_s={step.settle_s:g}, hold_s={step.hold_s:g}}}]"
    table = _table(profile, search=False, one_level=True)
    return [*options.sets, *counts, table, stage, f"run.duration_s={step.settle_s + step.hold_s + 1:g}"]


# -- what is told


def _series(
    series: str,
    loaded: Loaded,
    runs: Sequence[tuple[str, Results | None]],
    told: Capacity,
) -> SeriesResult:
    first = next((results for _, results in runs if results is not None), None)
    verdict = Verdict(told.verdict)
    return SeriesResult(
        schema=SCHEMA,
        series=SeriesInfo(
            id=series,
            kind=KIND,
            profile=loaded.profile.name,
            lineage=digest(lineage_values(loaded.profile)),
            started_at=(first.run.started_at if first is not None else None) or "",
            machine={"print": first.run.machine} if first is not None else {},
            target_version=first.run.versions.get("gateway", "") if first is not None else "",
            seeds=[loaded.profile.seed],
            budget_s=told.asked.budget_s,
            spent_s=told.spent_s,
            ended=told.ended,
        ),
        verdict=verdict,
        reasons=[told.sentence, *told.found.reasons],
        compared=0,
        runs=[
            RunOfSeries(
                run=run, session=0, side="", seed=loaded.profile.seed,
                verdict=results.verdict if results is not None else Verdict.UNKNOWN,
                usable=results is not None and results.capacity is not None,
                why_not=[] if results is not None else ["it has no results"], checks=[], cpu_ms=None,
                report=f"{run}/report.html",
            )
            for run, results in runs
        ],
        measures=[],
        capacity=told,
    )  # fmt: skip


def _tell(series: SeriesResult, told: Capacity, folder: Path, options: CapacityOptions) -> int:
    page = folder / ("index.html" if options.html else "series.json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / "series.json", to_json(series))
        if options.html:
            from loadtests.report.capacity import capacity_page

            replace_file(
                folder / "index.html",
                capacity_page(
                    told, title=f"Capacity of {series.series.profile}, {told.asked.axis}", sub=[series.series.id]
                ).encode(),
            )
    except OSError as error:
        raise BadInput(f"{error.filename or folder}: cannot be written: {error.strerror}") from None
    give_json(series, options.json)
    show = err if options.json == "-" else out
    for line in summary_lines(told):
        show.print(line, markup=False)
    show.print(f"page: {page}", markup=False)
    return Verdict(told.verdict).exit_status


# -- without load


def again(name: str, options: CapacityOptions) -> int:
    """A stored session under other limits; the exit status. Raises BadInput."""
    options.refuse()
    source = _folder(name)
    stored = _stored(source)
    if stored.capacity is None:
        raise BadInput(f"{name}: found a series of kind {stored.series.kind}, allowed one of `tickstorm capacity`")
    if not stored.runs:
        raise BadInput(f"{name}: found a series without a run, allowed one whose history can be judged")
    folder = options.out or reports_folder() / new_id(f"{KIND}-{stored.series.profile}")
    found: list[Capacity] = []
    for one in stored.runs:
        analyze_run(one.run, list(options.sets), out=folder / one.run, quiet=True, html=False)
        results = from_json((folder / one.run / "results.json").read_bytes())
        found += [results.capacity] if results.capacity is not None else []
    if len(found) < len(stored.runs):
        raise BadInput(f"{name}: {len(stored.runs) - len(found)} of its runs have no level that ended")
    asked = stored.capacity.asked
    if asked.axis != "rate" and len(found) != len(stored.capacity.trials):
        raise BadInput(f"{name}: found {len(stored.capacity.trials)} trials, allowed {len(found)}, one for each run")
    if asked.axis == "rate":
        trials = found[0].trials
    else:  # a run for each level
        trials = [
            msgspec.structs.replace(one.trials[0], kind=was.kind, factor=was.factor, index=was.index)
            for one, was in zip(found, stored.capacity.trials, strict=True)
        ]
    profile = profile_of(find_run(stored.runs[-1].run), options.sets)
    now, told_now = asked_of(profile), options.told(asked)  # the limits that judge it now, and what it is held against
    told = conclude(
        trials,
        msgspec.structs.replace(
            asked,
            limits=now.limits,
            latency_share=now.latency_share,
            plan=options.planned() or asked.plan,
            growth=told_now.growth or asked.growth,
            price=asked.price if told_now.price is None else told_now.price,
        ),
        ended=stored.capacity.ended,
        spent_s=stored.capacity.spent_s,
        faulted=found[1] if asked.axis == "rate" and len(found) > 1 else None,
        **_outage(profile),
    )
    judged = msgspec.structs.replace(
        stored,
        series=msgspec.structs.replace(stored.series, id=folder.name),
        verdict=Verdict(told.verdict),
        reasons=[f"{source.name}, judged again", told.sentence, *told.found.reasons],
        capacity=told,
    )
    return _tell(judged, told, folder, options)


def _folder(name: str) -> Path:
    """The folder of a series: its name in reports/, the beginning of it, or a path."""
    if (place := _of_series(name)) is not None:
        return place
    found = find_run(name)
    if not (found / "series.json").is_file():
        raise BadInput(f"{name}: found no series.json in {found}, allowed a series of `tickstorm capacity`")
    return found


def found_in(name: str) -> Capacity | None:
    """What a stored session found; None where a name is none of a session. Raises BadInput where it cannot be read."""
    place = _of_series(name)
    return None if place is None else _stored(place).capacity


def _of_series(name: str) -> Path | None:
    """The folder with a series.json that a path or a name in reports/ means."""
    places = (Path(name), reports_folder() / name)
    return next((place for place in places if (place / "series.json").is_file()), None)


def _stored(folder: Path) -> SeriesResult:
    try:
        return series_from_json(read_bounded(folder / "series.json", MOST_BYTES, links=False))
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(f"{folder / 'series.json'}: cannot be read: {error}") from None


def compared(a: Capacity, b: Capacity) -> int:
    """Two sessions: the ratio of what they found, with its interval; 1 where the second surely carries less.

    Raises BadInput where they are of different axes.
    """
    if a.axis_unit != b.axis_unit:
        raise BadInput(f"found {a.axis_unit} and {b.axis_unit}, allowed two sessions of one axis")
    for one in (a, b):
        out.print(f"  {one.sentence}", markup=False)
    if "unknown" in (a.confidence, b.confidence) or a.low is None or b.low is None:
        out.print("UNKNOWN: one of the two found no limit", style="unknown", markup=False)
        return 3
    if a.high is None or b.high is None:
        least = f"at least {b.low / a.high:.2f}" if a.high is not None else "between no bounds"
        out.print(f"UNKNOWN: one of the two is a bound from below: the ratio is {least}", style="unknown", markup=False)
        return 0 if a.high is not None and b.low >= a.high else 3
    low, high = b.low / a.high, b.high / a.low
    middle = (b.low + b.high) / (a.low + a.high)
    told = f"the second carries {middle:.2f} times the first, between {low:.2f} and {high:.2f}"
    word = "FAIL: less" if high < 1 else "PASS: more" if low > 1 else "PASS: no less as far as the brackets tell"
    out.print(f"{word}; {told}", style="fail" if high < 1 else "pass", markup=False)
    return int(high < 1)


def fitted(points: str) -> int:
    """The scaling law through points of the user's own; the exit status. Raises BadInput."""
    try:
        scaling = fit(parse_points(points))
    except ValueError as error:
        raise BadInput(str(error).split("\n")) from None
    from loadtests.report.capacity import scaling_lines

    for line in scaling_lines(scaling):
        out.print(line, markup=False)
    return 0 if scaling.told else 3
