"""How is the proof carried out from the command line?  Sections, the catalogue of faults, chaos; each on its own stack.

Exit status: 0 all is as planted, proved and lifted, nothing left behind; 1 anything differs; 2 bad usage; 3 it could
not be carried out.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from rich.table import Table
from rich.text import Text

from loadtests.cli.console import err, out
from loadtests.model.errors import BadInput, HarnessError
from loadtests.model.logins import TOKEN_SECRET
from loadtests.model.stackwire import Ask, Status
from loadtests.stack.errors import StackError
from loadtests.stack.local import LocalStack
from proof.account import prove_account
from proof.bench import Bench
from proof.chaos_lane import Lane, Told, carry_out
from proof.chaos_plan import schedule
from proof.day import prove_day
from proof.faults import PLAYS, CatalogueRow, Shared, groups, play_runs
from proof.gate import Gate, told_lines
from proof.growth import prove_growth
from proof.latency import prove_latency
from proof.recovery import prove_recovery
from proof.sections import Options, Row, SectionResult
from proof.stack_state import World, look
from proof.verdicts import prove_verdicts

Section = Callable[[Bench, Options], SectionResult]
SECTIONS: dict[str, Section] = {
    "account": prove_account,
    "latency": prove_latency,
    "recovery": prove_recovery,
    "growth": prove_growth,
    "verdicts": prove_verdicts,
    "day": prove_day,
}
BY_NAME_ALONE = ("day",)
"""Sections that take minutes, and are carried out only where somebody names them."""
LEAST = 1_000
NOT_NEEDED = ("gateway", "producer")
"""Services of the local stack that the lying gateway replaces: idle, they would only take CPU."""


def prove(only: Sequence[str], *, full: bool, deliveries: int, keep: bool, seed: int) -> int:
    """Carry out the sections and show them; the exit status. Raises BadInput before anything was started."""
    unknown = [name for name in only if name not in SECTIONS]
    if unknown:
        known = ", ".join(SECTIONS)
        raise BadInput([f"--only {name}: there is no such section; known are {known}" for name in unknown])
    if deliveries < LEAST:
        raise BadInput(f"--deliveries {deliveries}: allowed is {LEAST} or more")
    chosen = [name for name in SECTIONS if (name in only if only else name not in BY_NAME_ALONE)]
    options = Options(seed=seed, full=full, deliveries=deliveries, say=_say)
    began, results, failed = time.monotonic(), [], []
    with _ended_in_order(), _folder(keep) as folder, _stack(folder) as (redis, toxiproxy):
        for name in chosen:
            _say(f"section {name} ...")
            with Bench(folder=folder / name, redis=redis, toxiproxy=toxiproxy) as bench:
                try:
                    result = SECTIONS[name](bench, options)
                except HarnessError as error:  # the others can still be carried out
                    failed.append(f"section {name} could not be carried out: {error}")
                    for line in failed[-1].split("\n"):
                        err.print(line, markup=False)
                    continue
            results.append(result)
            _show(result)
        if keep:
            err.print(f"kept in {folder}", markup=False)
    return _verdict(results, failed, time.monotonic() - began)


def _say(text: str) -> None:
    err.print(text, markup=False)


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """A SIGTERM leaves as an exception, so that every child and the stack end."""

    def leave(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _folder(keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tickstorm-prove-"))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _told_folder(keep: bool) -> Iterator[Path]:
    with _folder(keep) as folder:
        if keep:
            _say(f"kept in {folder}")
        yield folder


@contextlib.contextmanager
def _stack(folder: Path) -> Iterator[tuple[str, str]]:
    """Redis and Toxiproxy of the stack that TICKSTORM_STACK names and that is up, else of one that lives as long."""
    named = os.environ.get("TICKSTORM_STACK")
    running = LocalStack.attach(Path(named)) if named else None
    if running is not None:
        yield _addresses(running)
        return
    with LocalStack.up(folder / "stack", progress=_say, mine=True) as own:
        for service in NOT_NEEDED:
            answer = own.ask(Ask(do="stop", service=service))
            if not answer.ok:
                raise HarnessError(f"the {service} of the proof's stack did not stop: {answer.error}")
        yield _addresses(own)


def _addresses(stack: LocalStack) -> tuple[str, str]:
    services = stack.status().services
    return services["redis"].address, services["toxiproxy"].address


# -- what people see of the sections


def _show(result: SectionResult) -> None:
    title = f"{result.name}: {_word(result.equal)} ({result.seconds:.1f} s)"
    if out.is_terminal:
        table = Table("what", "planted", "found", "", title=title, title_justify="left", box=None, pad_edge=False)
        for row in result.rows:
            table.add_row(*(Text(cell) for cell in (row.what, row.planted, row.found)), _styled(row))
        out.print(table)
    else:
        out.print(title, markup=False)
        width = max((len(row.what) for row in result.rows), default=0)
        for row in result.rows:
            out.print(
                f"  {row.what:{width}}  planted {row.planted}, found {row.found}: {_word(row.equal)}", markup=False
            )
    for row in result.rows:
        for difference in row.differences:
            out.print(f"  WRONG {row.what}: {difference}", markup=False)
    for note in result.notes:
        out.print(f"  {note}", markup=False)


def _word(equal: bool) -> str:
    return "ok" if equal else "WRONG"


def _styled(row: Row) -> Text:
    return Text(_word(row.equal), style="pass" if row.equal else "fail")


def _verdict(results: list[SectionResult], failed: list[str], seconds: float) -> int:
    wrong = [row.what for result in results for row in result.rows if not row.equal]
    wrong += [f"{result.name} (nothing was compared)" for result in results if not result.rows]
    if wrong:
        out.print(f"WRONG in {seconds:.0f} s: {', '.join(dict.fromkeys(wrong))}", markup=False)
        return 1
    if failed:
        out.print(f"not carried out, in {seconds:.0f} s: {len(failed)} of {len(failed) + len(results)}", markup=False)
        return 3
    rows = sum(len(result.rows) for result in results)
    out.print(f"everything that was planted was found, and nothing else: {rows} rows, {seconds:.0f} s", markup=False)
    return 0


def prove_gate(gate: Gate, *, seed: int) -> int:
    """Plant histories and ask the weekly gate about each; 1 where it is wrong more often than it may be."""
    fine = True
    for text, holds in told_lines(gate, seed):
        out.print(text, markup=False, soft_wrap=True)
        fine = fine and holds
    return 0 if fine else 1


# -- the catalogue of faults


def prove_catalogue(only: Sequence[str], *, keep: bool, seed: int) -> int:
    """Play every kind of fault once, and see that it acted and was lifted; the exit status.

    Raises BadInput before anything was started.
    """
    unknown = [kind for kind in only if kind not in PLAYS]
    if unknown:
        raise BadInput(
            [f"--only-kinds {kind}: there is no such kind; known are {', '.join(PLAYS)}" for kind in unknown]
        )
    runs = groups(only or list(PLAYS))
    began_s = time.monotonic()
    os.environ[TOKEN_SECRET] = secrets.token_urlsafe(32)
    told: list[Shared | str] = []
    with _ended_in_order(), _told_folder(keep) as folder, LocalStack.up(folder / "stack", progress=_say) as stack:
        services = stack.status().services

        def looked() -> World:
            return look(stack.status())

        with Bench(folder=folder, redis=services["redis"].address, toxiproxy=services["toxiproxy"].address) as bench:
            for name, plays in runs.items():
                _say(f"run {name}: {', '.join(play.kind for play in plays)}")
                told += play_runs(
                    {name: plays}, bench, seed=seed, look=looked, environment={"TICKSTORM_STACK": str(stack.folder)}
                )
                _show_kinds(told[-1])
    return _verdict_on_kinds(told, sum(map(len, runs.values())), time.monotonic() - began_s)


def _show_kinds(told: Shared | str) -> None:
    if isinstance(told, str):
        _line(told)
        return
    for row in told.rows:
        _line(f"{row.kind:21} on {row.where}: {_words_of_kind(row)}")
    _line(f"  run {told.name}: {told.loss}; {told.seconds:.0f} s")
    for text in told.left:
        _line(f"  WRONG still in force after run {told.name}: {text}")


def _words_of_kind(row: CatalogueRow) -> str:
    if row.refused:
        return f"refused here: {row.refused}"
    parts = [
        f"asked {row.asked or 'nothing more'}",
        f"effective {row.effective or '-'}",
        "proved" if row.proved else f"NOT PROVED ({row.detail or 'no reason'})",
        f"lifted by {row.lifted_by}" if row.lifted_by else "NOT LIFTED",
        f"lost {row.loss}",
        f"recovery {row.recovery}",
        *([f"ABSURD: {row.absurd}"] if row.absurd else []),
    ]
    return "; ".join(parts)


def _verdict_on_kinds(told: Sequence[Shared | str], kinds: int, seconds: float) -> int:
    rows = [row for shared in told if isinstance(shared, Shared) for row in shared.rows]
    left = [text for shared in told if isinstance(shared, Shared) for text in shared.left]
    refused = [row for row in rows if row.refused]
    wrong = [row.kind for row in rows if not row.fine]
    good = len(rows) - len(refused) - len(wrong)
    text = f"{good} of {kinds} kinds proved and lifted"
    if refused:
        text += f", {len(refused)} refused here: " + "; ".join(f"{row.kind}: {row.refused}" for row in refused)
    if wrong:
        text += f"; not so: {', '.join(wrong)}"
    if len(rows) < kinds:
        text += f"; {kinds - len(rows)} not carried out"
    if left:
        text += f"; {len(left)} still in force"
    _line(f"{text}; {seconds:.0f} s")
    if wrong or left:
        return 1
    return 3 if len(rows) < kinds or not good else 0


def _line(text: str) -> None:
    out.print(text, markup=False, soft_wrap=True)


# -- chaos on ourselves


MOST = 1_000
LANES = 4
MOST_WORDS = 160  # characters of a reason
CUT_OFF = " ended without a verdict: "
RESTORE_S = 20.0


class KeptStack:
    """A local stack that is mended before every moment."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack

    @property
    def folder(self) -> Path:
        """Where it keeps its things."""
        return self._stack.folder

    def status(self) -> Status:
        """What runs. Raises StackError."""
        return self._stack.status()

    def restore(self) -> None:
        """Start what does not run, until every service is ready. Raises StackError with what the last try said."""
        deadline, said = time.monotonic() + RESTORE_S, ""
        while True:
            states = {name: service.state for name, service in self.status().services.items()}
            lacking = [name for name, state in states.items() if state != "ready"]
            if not lacking:
                return
            if time.monotonic() > deadline:
                raise StackError(f"the stack could not be restored: {', '.join(lacking)}; {said}")
            for name in lacking:
                do = "resume" if states[name] == "paused" else "start"
                said = self._stack.ask(Ask(do=do, service=name)).error or said  # type: ignore[arg-type]
                time.sleep(0.05)


def prove_chaos(moments: int, *, keep: bool, seed: int) -> int:
    """Kill what is ours, and what we work with, and see what is left; the exit status.

    Raises BadInput before anything was started.
    """
    if not 1 <= moments <= MOST:
        raise BadInput(f"--moments {moments}: allowed is 1 to {MOST}")
    began_s = time.monotonic()
    with _ended_in_order(), _told_folder(keep) as folder, contextlib.ExitStack() as stacks:
        lanes = []
        for index in range(min(LANES, moments)):
            stack = LocalStack.up(folder / f"stack-{index}", progress=lambda _text: None, mine=True)
            stacks.callback(stack.down)
            lanes.append(Lane(KeptStack(stack), folder / f"lane-{index}"))
        err.print(f"{moments} moments, {len(lanes)} side by side; an undisturbed run first", markup=False)
        told, failed = carry_out(schedule(moments, seed), lanes, show_moment)
    return _verdict_on_moments(told, failed, moments, time.monotonic() - began_s)


def show_moment(told: Told) -> None:
    """One line."""
    moment, seen = told.moment, told.seen
    head = f"{moment.number:3d} {moment.victim:{19}}"
    if seen is None:
        out.print(f"{head} refused here: {told.refused}", markup=False, soft_wrap=True)
        return
    healed = "a fault is left" if seen.healed_s is None else f"healed after {seen.healed_s:.1f} s"
    facts = "no facts" if seen.facts_s is None else f"facts to {seen.facts_s:.1f} s before"
    cut = [line.partition(CUT_OFF)[2] for line in seen.said.splitlines() if CUT_OFF in line]
    verdict, reasons = (seen.verdict, seen.reasons) if seen.verdict else (seen.again_verdict, seen.again_reasons)
    cause = "; ".join([*cut, *reasons[:1]])[:MOST_WORDS] or "no reason"
    out.print(
        f"{head} at {seen.at_s:4.1f} s, {('in ' + seen.fault) if seen.fault else 'in no fault'}"
        f"{', all at once' if moment.everything else ''}{f', {moment.workers} workers' if moment.workers else ''}:"
        f" {verdict} ({seen.status}): {cause}; {healed}; {facts}; {told.seconds:.0f} s: {_word(told.fine)}",
        markup=False,
        soft_wrap=True,
    )
    for text in told.wrong:
        out.print(f"    WRONG {text}", markup=False, soft_wrap=True)


def _verdict_on_moments(told: Sequence[Told], failed: Sequence[str], moments: int, seconds: float) -> int:
    for text in failed:
        out.print(f"    {text}", markup=False, soft_wrap=True)
    refused = [t for t in told if t.refused]
    lacking = moments - len(told)
    struck = [t for t in told if not t.refused]
    fine = [t for t in struck if t.fine]
    inside = sum(t.inside for t in struck)
    seen = [t.seen for t in struck if t.seen is not None]
    healed = max((s.healed_s for s in seen if s.healed_s is not None), default=0.0)
    facts = max((s.facts_s for s in seen if s.facts_s is not None), default=0.0)
    few = 2 * inside < len(struck)
    wrong = len(fine) < len(struck) or few
    text = "nothing left behind" if not wrong else "something was left behind or told wrongly"
    out.print(
        f"{len(fine)} of {moments} moments: {text}, {inside} inside a fault{' (fewer than half)' if few else ''},"
        f" healed after {healed:.1f} s at most, facts to {facts:.1f} s before the blow, no PASS"
        + (f", {len(refused)} refused here" if refused else "")
        + (f", {lacking} not carried out" if lacking else "")
        + f"; {seconds:.0f} s",
        markup=False,
        soft_wrap=True,
    )
    if wrong:
        return 1
    return 3 if lacking or not struck else 0
