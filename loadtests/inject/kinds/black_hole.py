"""Black hole: connects are accepted, each byte in the asked direction is dropped; lifting closes the connections."""

from __future__ import annotations

from loadtests.inject.kinds.on_link import one_per_direction, toxic_kind
from loadtests.inject.link import Link
from loadtests.inject.proofs import LinkWitness, Proof, ms
from loadtests.inject.toxics import Toxic
from loadtests.inject.watch import Watch
from loadtests.model.ids import NS_PER_MS
from loadtests.model.injectwire import PlannedFault

_SILENCE_S = 0.6
_LEAST_NS = 100 * NS_PER_MS


def toxics(fault: PlannedFault) -> list[Toxic]:
    """A timeout that never fires, per direction."""
    return one_per_direction(fault, "timeout", {"timeout": 0})


class BlackHoleWitness(LinkWitness):
    """Waits for an answer that must not come, on a connection that must be accepted."""

    def __init__(self, link: Link, fault: PlannedFault) -> None:
        super().__init__(link)
        self._fault = fault

    def during(self, watch: Watch) -> Proof:
        """Silence much longer than a round trip before, while a connect is accepted, is proof."""
        if not self.probe.asks:
            return Proof(proved=False, reason="no probe speaks the protocol behind this link")
        base = self.calm_median_ns()
        if base is None:
            return Proof(proved=False, reason="nothing answered before the fault, so silence says nothing")
        accepts = self.probe.accepts(watch.within_s(1.0))
        ping = self.probe.ping(watch.within_s(max(_SILENCE_S, 10 * base / 1e9)))
        effective: dict[str, float | int | str | None] = {
            "connect": "accepted" if accepts == "answer" else accepts,
            "probe": ping.seen if ping else None,
            "silent_ms": ms(ping.took_ns) if ping and ping.seen == "silent" else None,
            "calm_rtt_ms": ms(base),
        }
        if ping is None or ping.seen != "silent" or accepts != "answer":
            seen = ping.seen if ping else "nothing in time"
            return Proof(proved=False, effective=effective, reason=f"connect: {accepts}; the probe saw: {seen}")
        if ping.took_ns < max(_LEAST_NS, 5 * base):
            return Proof(proved=False, effective=effective, reason="the fault was too short to tell it from a pause")
        return Proof(proved=True, effective=effective)


KIND = toxic_kind("black-hole", toxics=toxics, witness=BlackHoleWitness)
