"""Reset: RST to connections opened after it was added, FIN to older ones, each at its first chunk.

An idle connection is not reset: the probe nudges its own; the others are nudged by their own traffic, and counted.
"""

from __future__ import annotations

from loadtests.inject.deadline import Watch
from loadtests.inject.kinds.on_link import one_per_direction, toxic_kind
from loadtests.inject.link import Link
from loadtests.inject.proofs import LinkWitness, Proof
from loadtests.inject.toxics import Toxic
from loadtests.model.injectwire import PlannedFault

_CUT = ("reset", "closed")
_EVERY_S = 2.0  # a long fault is asked so often
_COUNT_S = 1.0  # how long other connections are given to send their first chunk, before they are counted


def toxics(fault: PlannedFault) -> list[Toxic]:
    """One per direction, without a wait: it cannot be interrupted while it waits."""
    return one_per_direction(fault, "reset_peer", {"timeout": 0})


class ResetWitness(LinkWitness):
    """Asks on its old connection and on a new one; each must be cut."""

    def __init__(self, link: Link, fault: PlannedFault) -> None:
        super().__init__(link)
        self._fault = fault

    def during(self, watch: Watch) -> Proof:
        """A cut of both is proof."""
        had_old = self.probe.local_port is not None
        old = self.probe.ping(watch.within_s(1.0)) if had_old else None
        new = self.probe.ping(watch.within_s(1.0), fresh=True)
        watch.within_s(_COUNT_S).wait()
        later = []
        while (ping := self.probe.ping(watch.within_s(1.0), fresh=True)) is not None:
            later.append(ping.seen)
            watch.within_s(_EVERY_S).wait()
        closed = self.closed_connections()
        effective: dict[str, float | int | str | None] = {
            "old_connection": old.seen if old else None,
            "new_connection": new.seen if new else None,
            "connections_before": None if self.connections is None else len(self.connections),
            "connections_closed": closed,
            "probes": len(later) + (old is not None) + (new is not None),
        }
        if not self.probe.asks:
            return Proof(proved=False, effective=effective, reason="no probe speaks the protocol behind this link")
        spared = [] if all(seen in _CUT for seen in later) else ["later"]
        spared += [name for name, ping in (("old", old), ("new", new)) if ping and ping.seen not in _CUT]
        if spared or new is None:
            reason = f"not cut: the probe's {' and '.join(spared)} connection" if spared else "no time to probe"
            return Proof(proved=False, effective=effective, reason=reason)
        return Proof(proved=True, effective=effective)


KIND = toxic_kind("reset", toxics=toxics, witness=ResetWitness, meets="resets")
