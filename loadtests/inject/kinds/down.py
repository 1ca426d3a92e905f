"""Down: the proxy stops listening and closes every connection; what sat in its buffers is lost in the injector."""

from __future__ import annotations

from loadtests.inject.deadline import Watch
from loadtests.inject.kinds import on_link
from loadtests.inject.kinds.kind import Kind, Site
from loadtests.inject.probe_connection import Seen
from loadtests.inject.proofs import Effective, LinkWitness, Proof, Witness
from loadtests.model.injectwire import PlannedFault


class DownWitness(LinkWitness):
    """Tries to connect, at its turns."""

    def during(self, watch: Watch) -> Proof:
        """Refused to the end is proof; what was connected before is counted."""
        seen: list[Seen] = []
        closed = None
        while (ping := self.probe.ping(watch, fresh=True)) is not None:
            seen.append(ping.seen)
            if closed is None and ping.seen == "refused":
                closed = self.closed_connections()
        refused = seen.count("refused")
        other = next((one for one in reversed(seen) if one != "refused"), None)
        effective: Effective = {
            "connect": "refused" if refused else other,
            "connections_before": None if self.connections is None else len(self.connections),
            "connections_closed": closed,
            "connects": len(seen),
            "refused": refused,
        }
        if not refused:
            return Proof(
                proved=False, effective=effective, reason=f"a new connection saw: {other or 'nothing in time'}"
            )
        if refused < len(seen) - 1:  # the first may have been on its way
            reason = f"{len(seen) - refused} of {len(seen)} connects were not refused; one saw: {other}"
            return Proof(proved=False, effective=effective, reason=reason)
        return Proof(proved=True, effective=effective)


def _problems(fault: PlannedFault) -> list[str]:
    return [] if fault.direction == "both" else [f'direction "{fault.direction}": down cuts both']


def _apply(site: Site, _: PlannedFault) -> None:
    site.the_link().cut()


def _not_in_force(site: Site, _: PlannedFault) -> list[str]:
    link = site.the_link()
    return [f'proxy "{link.proxy}" still listens'] if link.state().enabled else []


def _witness(site: Site, _: PlannedFault) -> Witness:
    return DownWitness(site.the_link())


KIND = Kind(
    name="down",
    problems=_problems,
    holds=lambda fault: frozenset({f"down {fault.link}"}),
    undo_of=lambda site, fault: on_link.undo_of(site, fault, (), cuts=True),
    apply=_apply,
    not_in_force=_not_in_force,
    witness=_witness,
    undo=on_link.undo,
    remaining=on_link.remaining,
    escalations=on_link.escalations,
    meets=on_link.meeting("cuts"),
)
