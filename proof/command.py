"""How is the proof carried out from the command line?  A stack of its own, the sections in turn, what each one found.

Exit status: 0 everything equal, 1 anything differs, 2 bad usage, 3 it could not be carried out.
"""

from __future__ import annotations

import contextlib
import os
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
from loadtests.model.stackwire import Ask
from loadtests.stack.local import LocalStack
from proof.account import prove_account
from proof.growth import prove_growth
from proof.latency import prove_latency
from proof.recovery import prove_recovery
from proof.running import Bench
from proof.sections import Options, Row, SectionResult
from proof.verdicts import prove_verdicts

Section = Callable[[Bench, Options], SectionResult]
SECTIONS: dict[str, Section] = {
    "account": prove_account,
    "latency": prove_latency,
    "recovery": prove_recovery,
    "growth": prove_growth,
    "verdicts": prove_verdicts,
}
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
    chosen = [name for name in SECTIONS if not only or name in only]
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


def prove_chaos(moments: int, *, keep: bool, seed: int) -> int:
    """Kill what is ours, and what we work with, and see what is left; the exit status."""
    from proof.chaos_command import chaos

    with _ended_in_order(), _folder(keep) as folder:
        if keep:
            _say(f"kept in {folder}")
        return chaos(moments, seed=seed, folder=folder)


def prove_catalogue(only_kinds: Sequence[str], *, keep: bool, seed: int) -> int:
    """Play every kind of fault once, and see that it acted and was lifted; the exit status."""
    from proof.catalogue_command import prove_faults

    with _ended_in_order(), _folder(keep) as folder:
        if keep:
            _say(f"kept in {folder}")
        return prove_faults(only_kinds, seed=seed, folder=folder)


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


# -- what people see


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
