"""Was a disturbed run survived in order?  Five questions to what was seen from outside; pure, so that each goes red."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from proof.chaos_plan import DISKS, SERVICES, ChaosMoment

FACTS_S = 2.0
"""How long before the blow the last stored fact may lie: processes flush each second, and write at once."""
HANG_S = 15.0
STATUS = {"FAIL": 1, "UNKNOWN": 3, "ABORTED": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFromOutside:
    """What was seen of one moment."""

    at_s: float  # when the blow fell, from T0
    fault: str  # the fault in force just then, as the servers showed it; "" for none
    status: int  # exit status of the command; negative: the signal that ended it
    verdict: str  # of the run itself; "" where it left none
    reasons: Sequence[str]
    said: str  # what the command printed
    again_status: int  # of `tickstorm analyze` on what was stored
    again_verdict: str
    again_reasons: Sequence[str]
    facts_s: float | None  # from the oldest of the files' last records to the blow; None: a file has no record
    torn: Sequence[str]  # files with a hole before their end
    over_s: float  # how much later the run was over than an undisturbed one; negative: earlier
    healed_s: float | None  # from the blow to the last sight of a fault; None: one is in force still
    left: Sequence[str]  # what was not as before when all was over, with every server that is not the victim
    left_at_last: Sequence[str]  # the same after the next start
    changed: Sequence[str]  # what is not as before when every server runs again
    stopped: Sequence[str]  # processes of the run that stand still
    processes: Sequence[str]  # of the run, still there


def problems(moment: ChaosMoment, seen: SeenFromOutside) -> list[str]:
    """What is wrong, in sentences; empty where all was survived in order."""
    return [*_faults(moment, seen), *_facts(seen), *_verdict(moment, seen), *_end(seen)]


def _faults(moment: ChaosMoment, seen: SeenFromOutside) -> list[str]:
    wrong = [f"after the next start it is not as before: {text}" for text in seen.left_at_last]
    if seen.left and not moment.everything:  # somebody of ours lived, whose duty it was
        wrong += [f"it was left: {text}" for text in seen.left]
    wrong += [f"every server runs, and it is not as before: {text}" for text in seen.changed]
    wrong += [f"stands still: {text}" for text in seen.stopped]
    return wrong


def _facts(seen: SeenFromOutside) -> list[str]:
    wrong = [f"the history has a hole: {text}" for text in seen.torn]
    if seen.facts_s is None:
        wrong.append("a file of the history holds no fact")
    elif seen.facts_s > FACTS_S:
        wrong.append(f"facts end {seen.facts_s:.1f} s before the blow")
    return wrong


def _verdict(moment: ChaosMoment, seen: SeenFromOutside) -> list[str]:
    wrong = []
    told = "\n".join([*seen.reasons, *seen.again_reasons, seen.said])
    for word in causes(moment):
        if not re.search(word, told):
            wrong.append(f"no reason says /{word}/: {'; '.join(seen.reasons or seen.again_reasons)[:300]}")
    if seen.verdict and seen.verdict not in STATUS:
        wrong.append(f"the verdict is {seen.verdict}")
    if seen.verdict and STATUS.get(seen.verdict) != seen.status and not moment.everything:
        wrong.append(f"the verdict is {seen.verdict}, the exit status {seen.status}")
    if seen.status == 0 or (seen.status < 0 and not moment.everything):
        wrong.append(f"the exit status is {seen.status}")
    if STATUS.get(seen.again_verdict) != seen.again_status:
        wrong.append(f'analyze says "{seen.again_verdict}" with status {seen.again_status}')
    return wrong


def causes(moment: ChaosMoment) -> tuple[str, ...]:
    """Patterns that the reasons must match."""
    if moment.victim in SERVICES:
        return (rf"\b{moment.victim} ended by SIGKILL at \d",)
    if moment.victim in DISKS:
        return (r"history (could not|cannot) be written: (No space left|File too large|Read-only|Operation not)",)
    return {
        "worker": (r"worker-\d.*\bgone\b",),
        "injector": (r"[Ii]njector (had )?(died|ended)",),
        "master": (r"leading process .*(killed|crashed)",),
        "injector and master": (r"leading process .*(killed|crashed)",),
    }[moment.victim]


def _end(seen: SeenFromOutside) -> list[str]:
    wrong = [f"still there: {text}" for text in seen.processes]
    if seen.over_s > HANG_S:
        wrong.append(f"it was over {seen.over_s:.0f} s after its expected end")
    return wrong
