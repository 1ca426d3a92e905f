"""Black hole: connects are accepted, each byte in the asked direction is dropped; lifting closes the connections."""

from __future__ import annotations

from loadtests.inject.deadline import Watch
from loadtests.inject.kinds.on_link import one_per_direction, toxic_kind
from loadtests.inject.link import Link
from loadtests.inject.probe import Ping
from loadtests.inject.proofs import Effective, LinkWitness, Proof, ms
from loadtests.inject.toxics import Toxic
from loadtests.model.ids import NS_PER_MS, NS_PER_S
from loadtests.model.injectwire import PlannedFault

_SILENCE_S = 0.6
_EVERY_S = 2.0  # a long fault is asked so often
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
        silence_s = max(_SILENCE_S, 10 * base / NS_PER_S)
        accepts, seen = self.probe.accepts(watch.within_s(1.0)), list[Ping]()
        while (ping := self.probe.ping(watch.within_s(silence_s))) is not None:
            seen.append(ping)
            watch.within_s(_EVERY_S).wait()
        silent = [one.took_ns for one in seen if one.seen == "silent"]
        other = next((one.seen for one in seen if one.seen != "silent"), None)
        effective: Effective = {
            "connect": "accepted" if accepts == "answer" else accepts,
            "probe": other or ("silent" if silent else None),
            "probes": len(seen),
            "silent": len(silent),
            "silent_ms": ms(max(silent)) if silent else None,
            "calm_rtt_ms": ms(base),
        }
        if not silent or other is not None or accepts != "answer":
            reason = f"connect: {accepts}; the probe saw: {other or 'nothing in time'}"
            return self.with_hit(Proof(proved=False, effective=effective, reason=reason))
        if max(silent) < max(_LEAST_NS, 5 * base):
            return Proof(proved=False, effective=effective, reason="the fault was too short to tell it from a pause")
        return self.with_hit(Proof(proved=True, effective=effective))


KIND = toxic_kind("black-hole", toxics=toxics, witness=BlackHoleWitness, meets="silences")
