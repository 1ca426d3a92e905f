"""Which profiles are shipped, and how are several played one after another?  The commands `profiles` and `suite`.

Each profile is a `tickstorm run` of its own in a child process, on one local stack that the suite brings up and lends
them. One that hangs is ended at its deadline, and what it left in force is lifted; neither that nor an error stops the
others. Where the resilience stage is asked for, the weekly comparison (`tickstorm weekly`) comes last, on a stack that
it starts itself.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec

from loadtests.capture.store import VARIABLE, StoreFiles
from loadtests.cli.console import err, out, tell_line
from loadtests.cli.run_command import RUN_ID, end_family, start_child
from loadtests.harness.files import journals, new_id, replace_file, report_of, reports_folder, shipped_profiles
from loadtests.harness.profile_loading import load
from loadtests.harness.stack_lock import StackHold
from loadtests.inject.startup_sweep import heal
from loadtests.model.errors import BadInput, HarnessError
from loadtests.model.labels import KNOWN, PENDING, STAGES, category_of
from loadtests.model.profile.profile import Profile
from loadtests.model.results import Check, Results, Verdict, from_json, worst
from loadtests.model.words import nearest
from loadtests.report.junit import condition
from loadtests.report.suite import (
    Played,
    Suite,
    pending_line,
    render_index,
    render_junit,
    slow_line,
    slowest,
    summary_markdown,
    to_json,
)
from loadtests.stack.folder import stack_folder
from loadtests.stack.local import LocalStack

RESILIENCE = "resilience"
"""The stage that ends with the weekly comparison."""
GATED = "weekly"
"""The profile that the weekly comparison plays, and the command that plays it."""
GATE_RUNS = 10
"""So many runs may a weekly comparison take: up to seven, and three to confirm a FAIL."""
MARGIN, MARGIN_S = 1.25, 60.0
"""A profile hangs where it takes longer than its planned length times the one and the other beside it."""
STOP_S = 60.0
"""So long may a profile take to lift its faults and to be judged after Ctrl-C."""
_VERDICTS = {verdict.exit_status: verdict for verdict in Verdict}


# -- what is played


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One profile to play, or the weekly comparison."""

    name: str
    question: str
    category: str
    planned_s: float
    deadline_s: float  # after so long it hangs
    local: bool
    gate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a command line asks for."""

    asked: str
    steps: Sequence[Step]
    pending: Mapping[str, str] = field(default_factory=dict)


def choose(stages: Sequence[str], words: Sequence[str], *, everything: bool, profiles: Mapping[str, Profile]) -> Chosen:
    """The profiles of any of these stages and of any of these categories, short ones first. Raises BadInput."""
    problems = [
        f'--stage {stage}: found "{stage}", allowed one of {", ".join(STAGES)}{nearest(stage, STAGES)}'
        for stage in stages
        if stage not in STAGES
    ]
    problems += [
        f'--category {word}: found "{word}", allowed one of {", ".join(KNOWN)}{nearest(word, KNOWN)}'
        for word in words
        if word not in KNOWN
    ]
    if not everything and not stages and not words:
        problems.append(f"suite: found nothing to play, allowed --stage {'|'.join(STAGES)}, --category WORD or --all")
    if everything and (stages or words):
        problems.append("--all: found beside --stage or --category, allowed alone")
    if problems:
        raise BadInput(problems)
    pending = {word: PENDING[word] for word in words if word in PENDING}
    wanted = [category for word in words if (category := category_of(word)) is not None]
    stages = list(STAGES) if everything else stages
    steps = []
    for name, profile in profiles.items():
        labels = profile.labels
        if (stages and not set(stages) & set(labels.stages)) or (words and not set(wanted) & set(labels.categories)):
            continue
        category = next((own for own in labels.categories if not wanted or own in wanted), "none")
        gate = name == GATED and RESILIENCE in stages
        steps.append(_step(profile, category, gate=gate))
    steps.sort(key=lambda step: (step.gate, step.planned_s))
    asked = [*(f"--stage {stage}" for stage in stages if not everything), *(f"--category {word}" for word in words)]
    return Chosen(asked=" ".join(asked) or "--all", steps=steps, pending=pending)


def planned_s(profile: Profile) -> float:
    """From connecting to the end of the drain, at most."""
    return profile.run.connect_s + profile.run.length_s


def deadline_s(profile: Profile) -> float:
    """So long may a run take, with starting and judging, until it counts as one that hangs."""
    return planned_s(profile) * MARGIN + MARGIN_S


def _step(profile: Profile, category: str, *, gate: bool) -> Step:
    return Step(
        name=profile.name,
        question=profile.question,
        category=category,
        planned_s=planned_s(profile),
        deadline_s=deadline_s(profile) * (GATE_RUNS if gate else 1),
        local=profile.target.kind == "local",
        gate=gate,
    )


def _show(chosen: Chosen, profiles: Mapping[str, Profile]) -> int:
    """What would be played, one line each, which begins with the profile's name."""
    for step in chosen.steps:
        labels = profiles[step.name].labels
        stages = ", ".join(labels.stages) or "no stage"
        last = " (last, by `tickstorm weekly`, three runs and more)" if step.gate else ""
        about = ", ".join(labels.categories) or "no category"
        out.print(f"{step.name}  up to {step.planned_s:.0f} s{last}; {stages}; {about}", markup=False)
    for word, what in chosen.pending.items():
        out.print(pending_line(word, what), markup=False)
    if not chosen.steps and not chosen.pending:
        out.print("no shipped profile is in these stages and of these categories", markup=False)
    return 0


# -- playing them


class Stopped(Exception):  # noqa: N818 - it names what happened
    """Ctrl-C, or a request to end."""


@contextmanager
def _stoppable() -> Iterator[None]:
    """Within, SIGINT and SIGTERM raise Stopped."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Stopped

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


def play_suite(
    stages: Sequence[str],
    words: Sequence[str],
    *,
    everything: bool,
    fail_fast: bool,
    listed: bool,
    verbose: bool,
    html: bool,
    folder: Path | None,
    summary: Path | None,
    as_json: bool,
    command: Sequence[str] = (sys.executable, "-m", "loadtests.cli"),
) -> int:
    """Play what is asked for; the exit status of the worst verdict. `command` is `tickstorm`. Raises BadInput."""
    profiles = {name: load(name).profile for name in shipped_profiles()}
    chosen = choose(stages, words, everything=everything, profiles=profiles)
    if listed:
        return _show(chosen, profiles)
    started = datetime.now(UTC)
    name = f"suite-{started:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder = (folder or reports_folder() / name).absolute()
    hold = StackHold(stack_folder(), name) if any(step.local for step in chosen.steps) else None
    playing = Playing(name=name, folder=folder, hold=hold, command=command, verbose=verbose, html=html)
    stopped = False
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"--out {folder}: {error.strerror}") from None
        with _stoppable():
            try:
                playing.all(chosen.steps, fail_fast=fail_fast)
            except Stopped:
                stopped = True
    finally:
        playing.close()
    left = [_skipped(step, playing.why_left or "stopped by Ctrl-C") for step in chosen.steps[len(playing.played) :]]
    suite = Suite(
        id=name,
        started_at=started.isoformat(timespec="milliseconds"),
        asked=chosen.asked,
        stopped=stopped,
        pending=dict(chosen.pending),
        played=[*playing.played, *left],
    )
    _write(suite, folder, html=html, summary=summary)
    if as_json:
        out.out(to_json(suite).decode(), end="", highlight=False)
    else:
        _tell(suite, folder, html=html)
    return 130 if stopped and not any(one.run for one in playing.played) else suite.verdict.exit_status


def _skipped(step: Step, why: str) -> Played:
    return Played(profile=step.name, question=step.question, category=step.category, planned_s=step.planned_s, why=why)


@dataclass(kw_only=True)
class Playing:
    """The profiles of a suite as they are played, and the stack that they share."""

    name: str
    folder: Path
    hold: StackHold | None
    command: Sequence[str]
    verbose: bool
    html: bool
    played: list[Played] = field(default_factory=list)
    why_left: str = ""  # why those that come after were not played
    stack: LocalStack | None = None

    def all(self, steps: Sequence[Step], *, fail_fast: bool) -> None:
        """In turn. Raises Stopped, when the one that was being played has ended."""
        for number, step in enumerate(steps, 1):
            place = f"[{number}/{len(steps)}] {step.name}"
            err.print(f"{place}: up to {step.planned_s:.0f} s planned", markup=False)
            if step.gate:
                self.close()  # the weekly comparison starts a stack for each session
            elif step.local and self.stack is None:
                self.stack = LocalStack.up(stack_folder(), progress=tell_line, mine=True)
            one = self._one(step)
            self.played.append(one)
            checks = f", {one.passed} of {len(one.checks)} checks" if one.checks else ""
            why = f": {one.why}" if one.why else ""
            err.print(f"{place}: {one.verdict.value}{checks}, {one.took_s or 0:.1f} s{why}", markup=False)
            if one.why == _STOPPED:
                raise Stopped
            if fail_fast and one.verdict is not Verdict.PASS:
                self.why_left = f"--fail-fast: {step.name} is {one.verdict.value}"
                return

    def close(self) -> None:
        """Bring down the stack that was brought up here, and give its lock back; safe to repeat."""
        try:
            if self.stack is not None and self.stack.started:
                self.stack.down()
        finally:
            self.stack = None
            if self.hold is not None:
                self.hold.release()
                self.hold = None

    def _one(self, step: Step) -> Played:
        run = new_id(step.name)
        argv = [*self.command, GATED if step.gate else "run", step.name, *([] if self.html else ["--no-html"])]
        log = self.folder / f"{step.name}.log"
        began = time.monotonic()
        status, why = self._child(argv, log, "" if step.gate else run, step.deadline_s)
        took_s = time.monotonic() - began
        results = None if step.gate else _results(run)
        last = _last_words(log)
        if why or (results is None and not step.gate):
            self._mend()
        verdict = _VERDICTS.get(status, Verdict.UNKNOWN)
        reasons: list[str] = [last] if last else []
        checks: list[Check] = []
        if results is not None:
            verdict, reasons, checks = results.verdict, results.reasons, results.checks
        elif step.gate and status in _VERDICTS:
            checks = [condition("no worse than the weeks before", verdict, last or f"exit status {status}")]
        elif not why:
            why = f"ended without a verdict, exit status {status}: {last or 'it said nothing'}"
        if why:
            verdict = worst([verdict if results is not None else Verdict.UNKNOWN, Verdict.UNKNOWN])
        return Played(
            profile=step.name,
            question=step.question,
            category=step.category,
            planned_s=step.planned_s,
            took_s=round(took_s, 3),
            verdict=verdict,
            why=why,
            run=run if (reports_folder() / run / "history").is_dir() else "",
            report=os.path.relpath(report_of(reports_folder().absolute() / run), self.folder) if results else log.name,
            reasons=[] if verdict is Verdict.PASS else reasons,
            checks=checks,
        )

    def _child(self, argv: Sequence[str], log: Path, run: str, deadline_s: float) -> tuple[int, str]:
        """Its exit status, and why it did not come to its end by itself."""
        environment = os.environ | {
            RUN_ID: run,  # empty: it draws one for each of its runs
            "TICKSTORM_STACK": str(stack_folder().absolute()),  # as they are here: the child works in another folder
            "TICKSTORM_REPORTS": str(reports_folder().absolute()),
            VARIABLE: str(StoreFiles.named(None).place.absolute()),
        }
        with log.open("wb") as said:
            child = start_child(argv, environment, self.hold, None if self.verbose else said)
            why = ""
            try:
                child.wait(deadline_s)
            except subprocess.TimeoutExpired:
                why = f"hung: not over after {deadline_s:.0f} s, and ended"
            except Stopped:
                why = _STOPPED
                child.send_signal(signal.SIGINT)
                try:
                    child.wait(STOP_S)
                except (subprocess.TimeoutExpired, Stopped):
                    pass  # it does not end, or the user will not wait: `end_family` does it
            finally:
                end_family(child)
        return child.returncode, why

    def _mend(self) -> None:
        """Lift what a run left that could not lift it itself; a stack that is not ready after that begins anew."""
        if self.stack is None:
            return
        try:
            services = self.stack.status().services
            for sentence in heal(services["toxiproxy"].address, journals(), self.stack.folder):
                tell_line(sentence)
            if all(service.state == "ready" for service in self.stack.status().services.values()):
                return
        except (HarnessError, OSError) as error:
            tell_line(f"the stack cannot be mended: {error}")
        tell_line("the stack is started anew")
        self.stack.down()
        self.stack = LocalStack.up(stack_folder(), progress=tell_line, mine=True)


_STOPPED = "stopped by Ctrl-C"


def _results(run: str) -> Results | None:
    path = reports_folder() / run / "results.json"
    try:
        return from_json(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None


def _last_words(log: Path) -> str:
    """The last line that a child said."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else ""


# -- what is left behind


def _write(suite: Suite, folder: Path, *, html: bool, summary: Path | None) -> None:
    replace_file(folder / "suite.json", to_json(suite))
    replace_file(folder / "junit.xml", render_junit(suite).encode())
    if html:
        replace_file(folder / "index.html", render_index(suite).encode())
    if summary is not None:
        try:
            with summary.open("a", encoding="utf-8") as page:
                page.write(summary_markdown(suite))
        except OSError as error:
            err.print(f"--summary {summary}: {error.strerror}", markup=False)


def _tell(suite: Suite, folder: Path, *, html: bool) -> None:
    if slow := slowest(suite.played):
        out.print("Slowest checks", style="title")
        for it in slow:
            out.print(slow_line(it), style="dim", markup=False)
    for one in suite.played:
        style = "dim" if one.took_s is None else one.verdict.value.lower()
        verdict = "not played" if one.took_s is None else one.verdict.value
        why = one.why or "; ".join(one.reasons[:3])
        out.print(f"{verdict}  {one.profile}{f': {why}' if why else ''}", style=style, markup=False)
    for word, what in suite.pending.items():
        out.print(pending_line(word, what), style="unknown", markup=False)
    checks = sum(len(one.checks) for one in suite.played)
    passed = sum(one.passed for one in suite.played)
    number = sum(one.took_s is not None for one in suite.played)
    out.print(f"report: {folder / ('index.html' if html else 'junit.xml')}", markup=False)
    out.print(
        f"{suite.verdict.value}  suite {suite.asked}: {number} of {len(suite.played)} profiles played, "
        f"{passed} of {checks} checks passed, {suite.took_s:.0f} s",
        style=suite.verdict.value.lower(),
        markup=False,
    )
