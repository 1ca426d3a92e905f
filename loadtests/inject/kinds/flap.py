"""Flap: down and up again, period after period; each cut closes every connection and is read back, as is each mend."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError
from loadtests.inject.kinds import on_link
from loadtests.inject.kinds.kind import Kind, Site
from loadtests.inject.link import Link
from loadtests.inject.proofs import Effective, LinkWitness, Proof, Witness, ms
from loadtests.model.ids import NS_PER_S
from loadtests.model.injectwire import PlannedFault

SHARE = 0.5
"""How much of a period the link is cut where the fault does not say."""

_JOIN_S = 6.0  # a call's own timeout and a little
_LEAST_PERIOD_S = 0.2


def period_s(fault: PlannedFault) -> float:
    """Length of one period, cut and mend."""
    return float(fault.asked.get("period_s", 0.0))


def down_share(fault: PlannedFault) -> float:
    """The share of a period that it is cut."""
    return float(fault.asked.get("down_share", SHARE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """The link was cut or mended, and that was read back."""

    down: bool
    before_ns: int  # monotonic, when it was asked for
    since_ns: int  # when it had been read back
    trouble: str = ""  # why it is not as asked


class Flapper:
    """Cuts and mends a link in its own thread until it is closed, or the fault's time is over."""

    def __init__(self, link: Link, fault: PlannedFault) -> None:
        self._link = link
        self._period_ns = int(period_s(fault) * NS_PER_S)
        self._down_ns = int(self._period_ns * down_share(fault))
        self._for_ns = fault.until_ns - fault.at_ns
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._phases: list[Phase] = []
        self._thread = threading.Thread(target=self._run, name=f"flap {fault.name}", daemon=True)

    def start(self) -> None:
        """Cuts for the first time, here; goes on in its thread. Raises ControlError where the first cut fails."""
        self._begin_ns = time.monotonic_ns()
        self._link.cut()
        self._note(True, self._begin_ns)
        self._thread.start()

    @property
    def phases(self) -> list[Phase]:
        """What it did so far."""
        with self._changed:
            return list(self._phases)

    def wait_beyond(self, count: int, watch: Watch) -> bool:
        """Waits until there are more phases than so many; False when the watch ended before."""
        while not watch.over:
            with self._changed:
                if self._changed.wait_for(lambda: len(self._phases) > count, min(watch.left_s, 0.05)):
                    return True
        return False

    def close(self) -> None:
        """Stops it, in whichever phase it is; safe to repeat."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        number = 0
        while True:
            number += 1
            down = number % 2 == 0
            at_ns = self._begin_ns + (number // 2) * self._period_ns + (0 if down else self._down_ns)
            if at_ns >= self._begin_ns + self._for_ns or not Watch(at_ns, self._stop).wait():
                return
            self._look_at_the_last()
            before_ns, trouble = time.monotonic_ns(), ""
            try:
                if down:
                    self._link.cut()
                else:
                    self._link.mend()
            except ControlError as error:
                trouble = str(error)
            if self._stop.is_set():
                return  # the thread that stopped it reads back what is
            self._note(down, before_ns, trouble)

    def _look_at_the_last(self) -> None:
        """Whether the link still is at the end of a phase what it was made at its beginning."""
        last = self._phases[-1]
        try:
            trouble = self._wrong(last.down)
        except ControlError:
            return  # the change that comes now says so itself
        if trouble and not last.trouble:
            with self._changed:
                self._phases[-1] = replace(last, trouble=f"{trouble}: somebody else changed it")

    def _wrong(self, down: bool) -> str:
        if self._link.state().enabled != down:
            return ""
        return "it still listens" if down else "it does not listen"

    def _note(self, down: bool, before_ns: int, trouble: str = "") -> None:
        try:
            trouble = trouble or self._wrong(down)
        except ControlError as error:
            trouble = str(error)
        phase = Phase(down=down, before_ns=before_ns, since_ns=time.monotonic_ns(), trouble=trouble)
        with self._changed:
            self._phases.append(phase)
            self._changed.notify_all()


@dataclass(frozen=True, slots=True, kw_only=True)
class FlapLook:
    """One attempt to connect."""

    from_ns: int
    to_ns: int
    seen: str


def judge(phases: list[Phase], looks: list[FlapLook], *, until_ns: int) -> Proof:
    """Whether every cut and mend that a look fell into was seen as such, and at least half of the cuts were."""
    ends = [*(phase.before_ns for phase in phases[1:]), until_ns]
    counts = {"cuts": 0, "cuts_seen": 0, "mends": 0, "mends_seen": 0}
    wrong, troubles = [], [phase.trouble for phase in phases if phase.trouble]
    for phase, end_ns in zip(phases, ends, strict=True):
        inside = [look.seen for look in looks if phase.since_ns <= look.from_ns and look.to_ns <= end_ns]
        what = "cuts" if phase.down else "mends"
        counts[what] += 1
        expected = "refused" if phase.down else "answer"
        counts[f"{what}_seen"] += expected in inside
        wrong += [f"while {'cut' if phase.down else 'mended'}: {seen}" for seen in inside if seen != expected]
    cut_ns = [end - phase.since_ns for phase, end in zip(phases, ends, strict=True) if phase.down]
    starts = [phase.before_ns for phase in phases if phase.down]
    periods = [b - a for a, b in pairwise(starts)]
    effective: Effective = {
        **counts,
        "period_s": round(median(periods) / NS_PER_S, 3) if periods else None,
        "down_share": round(sum(cut_ns) / max(1, until_ns - phases[0].before_ns), 3) if phases else None,
        "cut_ms": ms(median(cut_ns)) if cut_ns else None,
    }
    reason = ""
    if troubles:
        reason = f"{len(troubles)} of {len(phases)} changes failed: {troubles[0]}"
    elif len(wrong) > 1:  # one may have been overtaken by the next change
        reason = f"{len(wrong)} connects saw what they should not, such as {wrong[0]}"
    elif not counts["cuts_seen"] or 2 * counts["cuts_seen"] < counts["cuts"]:
        reason = f"{counts['cuts_seen']} of {counts['cuts']} cuts were seen"
    elif counts["mends"] > 1 and not counts["mends_seen"]:
        reason = "no new connection was accepted between the cuts"
    return Proof(proved=not reason, effective=effective, reason=reason)


class FlapWitness(LinkWitness):
    """Tries to connect once in every phase: no more often than the link changes."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.the_link())
        self._site = site

    def during(self, watch: Watch) -> Proof:
        """Refused in the cuts and accepted between them is proof; who was connected before the first is counted."""
        flapper = next((held for held in self._site.held if isinstance(held, Flapper)), None)
        if flapper is None:
            return Proof(proved=False, reason="it was lifted before its effect was measured")
        looks: list[FlapLook] = []
        closed = None
        seen = 0
        while flapper.wait_beyond(seen, watch):
            seen = len(flapper.phases)
            from_ns = time.monotonic_ns()
            if closed is None:
                closed = self.closed_connections()
            what = self.probe.accepts(watch.within_s(1.0))
            looks.append(FlapLook(from_ns=from_ns, to_ns=time.monotonic_ns(), seen=what))
        until_ns = min(watch.until_ns, time.monotonic_ns())
        proof = judge(flapper.phases, looks, until_ns=until_ns)
        proof.effective["connections_closed"] = closed
        return self.with_hit(proof)


def _problems(fault: PlannedFault) -> list[str]:
    found = [] if fault.direction == "both" else [f'direction "{fault.direction}": flap cuts both']
    if period_s(fault) < _LEAST_PERIOD_S:
        found.append(f"period_s {period_s(fault):g}: allowed from {_LEAST_PERIOD_S:g}")
    if not 0 < down_share(fault) < 1:
        found.append(f"down_share {down_share(fault):g}: allowed above 0 and below 1")
    return found


def _apply(site: Site, fault: PlannedFault) -> None:
    flapper = Flapper(site.the_link(), fault)
    site.held.append(flapper)
    flapper.start()


def _not_in_force(site: Site, _: PlannedFault) -> list[str]:
    return [
        f'proxy "{site.the_link().proxy}": {phase.trouble}'
        for held in site.held
        if isinstance(held, Flapper)
        for phase in held.phases[:1]
        if phase.trouble
    ]


def _undo(site: Site, entry: dict[str, str | list[str]]) -> None:
    site.let_go()
    on_link.undo(site, entry)


def _witness(site: Site, _: PlannedFault) -> Witness:
    return FlapWitness(site)


KIND = Kind(
    name="flap",
    problems=_problems,
    holds=lambda fault: frozenset({f"down {fault.link}"}),
    undo_of=lambda site, fault: on_link.undo_of(site, fault, (), cuts=True),
    apply=_apply,
    not_in_force=_not_in_force,
    witness=_witness,
    undo=_undo,
    remaining=on_link.remaining,
    escalations=on_link.escalations,
    meets=on_link.meeting("cuts"),
    looks="never",  # to be off and on in turns is what it is; its own phases tell what went wrong
)
