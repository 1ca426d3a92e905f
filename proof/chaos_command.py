"""How is chaos on ourselves carried out from the command line?  Stacks of its own, one line for each moment.

Exit status: 0 nothing was left behind, 1 something was, 2 bad usage, 3 it could not be carried out.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from loadtests.cli.console import err, out
from loadtests.model.errors import BadInput
from loadtests.model.stackwire import Ask, Status
from loadtests.stack.errors import StackError
from loadtests.stack.local import LocalStack
from proof.chaos import Lane, Told, carry_out
from proof.chaos_plan import schedule

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


def chaos(moments: int, *, seed: int, folder: Path) -> int:
    """Carry out so many moments and show them; the exit status. Raises BadInput before anything was started."""
    if not 1 <= moments <= MOST:
        raise BadInput(f"--moments {moments}: allowed is 1 to {MOST}")
    began_s = time.monotonic()
    with contextlib.ExitStack() as stacks:
        lanes = []
        for index in range(min(LANES, moments)):
            stack = LocalStack.up(folder / f"stack-{index}", progress=lambda _text: None, mine=True)
            stacks.callback(stack.down)
            lanes.append(Lane(KeptStack(stack), folder / f"lane-{index}"))
        err.print(f"{moments} moments, {len(lanes)} side by side; an undisturbed run first", markup=False)
        told, failed = carry_out(schedule(moments, seed), lanes, show)
    return _verdict(told, failed, moments, time.monotonic() - began_s)


def show(told: Told) -> None:
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
        f" {verdict} ({seen.status}): {cause}; {healed}; {facts}; {told.seconds:.0f} s: {_word(told)}",
        markup=False,
        soft_wrap=True,
    )
    for text in told.wrong:
        out.print(f"    WRONG {text}", markup=False, soft_wrap=True)


def _word(told: Told) -> str:
    return "ok" if told.fine else "WRONG"


def _verdict(told: Sequence[Told], failed: Sequence[str], moments: int, seconds: float) -> int:
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
