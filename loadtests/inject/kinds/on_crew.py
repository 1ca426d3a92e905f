"""What do all kinds share that the run's own users play?  One order, their counts read back, a judge of these counts.

The users stop by themselves when their time is over, so there is little to undo: an order to stop, for the case that
the fault ends early.  Another process, that has no such users, has nothing to undo.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import Refused
from loadtests.inject.gateway_counts import GatewayCounts, total
from loadtests.inject.kinds.kind import Kind, Resort, Site, Undo
from loadtests.inject.proofs import Effective, Proof
from loadtests.inject.user_faults import Counts, CrewControl
from loadtests.model.fault_kinds import KINDS as NAMED
from loadtests.model.ids import NS_PER_MS
from loadtests.model.injectwire import PlannedFault

FORCE_S = 2.0
"""How long all may take to play it; who is just connecting may be later, and is not waited for."""
ENOUGH = 0.9  # share of the chosen that must play it
STOP_S = 3.0
_LOOK_NS = 50 * NS_PER_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenOfUsers:
    """What is known at one moment of a fault."""

    crew: Counts
    calm: dict[str, float] | None  # the gateway's counts before the fault
    gateway: dict[str, float] | None  # and now
    asked: dict[str, int | float | str]

    def of(self, name: str) -> int:
        """A count of the users, 0 where there is none."""
        return self.crew.get(name, 0)

    def grown(self, name: str) -> float | None:
        """By how much a count of the gateway has grown since the calm; None where it does not say."""
        now = total(self.gateway, name)
        return None if self.calm is None or now is None else now - (total(self.calm, name) or 0)


Judge = Callable[[SeenOfUsers], tuple[str, Effective]]
"""Why it is not proved yet (empty: it is), and what was measured."""


class CrewWitness:
    """Looks at the users' counts and the gateway's until the kind's judge is content."""

    def __init__(self, site: Site, fault: PlannedFault, judge: Judge) -> None:
        self._crew, self._fault, self._judge = _crew(site), fault, judge
        self._gateway = GatewayCounts(site.gateway_http)
        self._calm: dict[str, float] | None = None

    def before(self, watch: Watch) -> None:
        """The gateway's counts without the fault."""
        self.last_look()

    def last_look(self) -> None:
        """The same once more, as late as possible."""
        self._calm = self._gateway.read() or self._calm

    def during(self, watch: Watch) -> Proof:
        """Looks until it is proved, or to the end of the watch."""
        effective: Effective = {}
        while True:
            counts = self._crew.counts(self._fault.name)
            if counts is None:
                reason = "the run's users did not answer"
            else:
                now = self._gateway.read()
                reason, effective = self._judge(
                    SeenOfUsers(crew=counts, calm=self._calm, gateway=now, asked=dict(self._fault.asked))
                )
                effective = {"chosen": counts.get("chosen", 0), "in_force": counts.get("in_force", 0)} | effective
            if not reason:
                return Proof(proved=True, effective=effective)
            if watch.over or not watch.wait(time.monotonic_ns() + _LOOK_NS):
                return Proof(proved=False, effective=effective, reason=reason)

    def after(self, watch: Watch) -> Effective:
        """Nobody plays it any more."""
        counts = self._crew.counts(self._fault.name)
        return {"clean": int(counts is not None and counts.get("in_force", 0) == 0)}

    def close(self) -> None:
        """Nothing stays open."""


def crew_kind(name: str, judge: Judge) -> Kind:
    """A kind that is played by the run's own users."""

    def problems(fault: PlannedFault) -> list[str]:
        missing = sorted(NAMED[name].needs.keys() - fault.asked.keys())
        return [f"{key} is missing" for key in missing]

    return Kind(
        name=name,
        problems=problems,
        holds=lambda fault: frozenset({f"{name} of {fault.link}"}),
        undo_of=lambda _site, fault: {"fault": fault.name, "kind": fault.kind, "where": fault.link},
        apply=_apply,
        not_in_force=_not_in_force,
        witness=lambda site, fault: CrewWitness(site, fault, judge),
        undo=_stop,
        remaining=_remaining,
        resorts=_resorts,
        looks="never",  # what the users told is late, and they stop by themselves at the planned end
    )


def _crew(site: Site) -> CrewControl:
    if site.crew is None:
        raise Refused("this run has no users that could play it")
    return site.crew


def _apply(site: Site, fault: PlannedFault) -> None:
    crew = _crew(site)
    crew.begin(fault)
    counts = crew.wait(fault.name, _all_play, Watch.of_s(FORCE_S))
    if not counts.get("chosen", 0):
        raise Refused(f'the run has nobody in "{fault.link}" who could play it')


def _all_play(counts: Counts) -> bool:
    return counts.get("in_force", 0) >= counts.get("chosen", 0)


def _not_in_force(site: Site, fault: PlannedFault) -> list[str]:
    counts = _crew(site).counts(fault.name) or {}
    chosen, playing = counts.get("chosen", 0), counts.get("in_force", 0)
    return [] if playing and playing >= ENOUGH * chosen else [f"{playing} of {chosen} chosen users play it"]


def _stop(site: Site, undo: Undo) -> None:
    if site.crew is not None:
        site.crew.stop(str(undo["fault"]), str(undo["kind"]), str(undo["where"]))


def _remaining(site: Site, undo: Undo) -> list[str]:
    crew, fault = site.crew, str(undo["fault"])
    if crew is None or crew.deaf or crew.counts(fault) is None:
        return []  # those who played it, if anybody did, stop by themselves or are gone with their process
    counts = crew.wait(fault, lambda now: not now.get("in_force", 0), Watch.of_s(STOP_S))
    playing = counts.get("in_force", 0)
    return [f"{playing} users still play it"] if playing and not crew.deaf else []


def _resorts(site: Site, undo: Undo) -> list[Resort]:
    return [Resort(name="told to stop once more", also_ends="nothing", act=lambda: _stop(site, undo))]
