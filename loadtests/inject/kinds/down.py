"""Down: the proxy stops listening and closes every connection; what sat in its buffers is lost in the injector."""

from __future__ import annotations

from loadtests.inject.kinds import on_link
from loadtests.inject.kinds.kind import Kind, Site
from loadtests.inject.proofs import LinkWitness, Proof, Witness
from loadtests.inject.watch import Watch
from loadtests.model.injectwire import PlannedFault


class DownWitness(LinkWitness):
    """Tries to connect."""

    def during(self, watch: Watch) -> Proof:
        """Refused is proof; what was connected before is counted."""
        seen = None
        while seen != "refused" and watch.wait(0):
            ping = self.probe.ping(watch.within_s(1.0), fresh=True)
            if ping is None:
                break
            seen = ping.seen
        effective: dict[str, float | int | str | None] = {
            "connect": seen,
            "connections_before": None if self.connections is None else len(self.connections),
            "connections_closed": self.closed_connections(),
        }
        if seen == "refused":
            return Proof(proved=True, effective=effective)
        return Proof(proved=False, effective=effective, reason=f"a new connection saw: {seen or 'nothing in time'}")


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
    resorts=on_link.resorts,
)
