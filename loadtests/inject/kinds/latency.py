"""Latency: each chunk waits, in each direction asked.  `both` delays each stream, so a round trip waits twice.

Raw toxic, for experts and tests, has the same proof: asked `toxic_type` and `toxic_attributes` (JSON text) go to
Toxiproxy as they are; what was asked beside them as `latency_ms` is measured, and another effect stays unproved.
"""

from __future__ import annotations

from statistics import median

import msgspec

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import Refused
from loadtests.inject.kinds.on_link import one_per_direction, toxic_kind, whole
from loadtests.inject.link import Link
from loadtests.inject.proofs import Effective, LinkWitness, Proof, directions, ms, spread
from loadtests.inject.toxics import Toxic
from loadtests.model.ids import NS_PER_MS
from loadtests.model.injectwire import PlannedFault

_LET_GO = 0.02
"""So large a share of round trips may be too short: what is held is let go at once when something else changes."""

_ENOUGH = 5
"""Round trips whose shortest says something."""


def toxics(fault: PlannedFault) -> list[Toxic]:
    """One per direction, each with the whole latency that was asked."""
    attributes = {"latency": whole(fault, "latency_ms"), "jitter": whole(fault, "jitter_ms")}
    return one_per_direction(fault, "latency", attributes)


def judge(fault: PlannedFault, *, calm_ns: list[int], took_ns: list[int], silent_ns: int | None) -> Proof:
    """What pings say: round trips before, round trips under the fault, and how long an unanswered one waited."""
    ways = len(directions(fault.direction))
    asked_ns = whole(fault, "latency_ms") * NS_PER_MS
    least_ns = ways * max(asked_ns - whole(fault, "jitter_ms") * NS_PER_MS, asked_ns // 5) / 2
    if not calm_ns:
        return Proof(proved=False, reason="no round trip was measured before the fault")
    calm = median(calm_ns)
    noise_ns = 3 * 1.4826 * median(abs(took - calm) for took in calm_ns)
    effective: Effective = {
        "directions": "+".join(directions(fault.direction)),
        "calm_rtt_ms": ms(calm),
        "probes": len(took_ns),
    }
    if took_ns:
        added = median(took_ns) - calm
        effective |= {
            "latency_ms": ms(added / ways),
            "added_rtt_ms": ms(added),
        } | spread([max(0, round(took - calm)) for took in took_ns])
    elif silent_ns is not None:
        added = silent_ns - calm
        effective |= {"latency_ms": None, "added_rtt_ms": None, "added_rtt_ms_at_least": ms(added)}
    else:
        return Proof(proved=False, effective=effective, reason="no probe was answered or waited under the fault")
    if asked_ns == 0:
        return Proof(proved=False, effective=effective, reason="no latency was asked, so none can be shown")
    floor_ns = 0.9 * ways * (asked_ns - whole(fault, "jitter_ms") * NS_PER_MS)
    undelayed = sum(took < floor_ns for took in took_ns)
    # A busy machine lengthens round trips and shortens none: one that was short before, and none that is short now.
    told_apart = len(took_ns) >= _ENOUGH and undelayed <= _LET_GO * len(took_ns) and floor_ns - min(calm_ns) >= least_ns
    if added < least_ns and not told_apart:
        reason = f"{ms(added)} ms added to a round trip, at least {ms(least_ns)} ms expected"
        return Proof(proved=False, effective=effective, reason=reason)
    if added <= noise_ns and not told_apart:
        reason = f"{ms(added)} ms added to a round trip, which varied by {ms(noise_ns)} ms before the fault"
        return Proof(proved=False, effective=effective, reason=reason)
    if undelayed > max(1, _LET_GO * len(took_ns)):
        reason = f"{undelayed} of {len(took_ns)} round trips took less than {ms(floor_ns)} ms, which none can"
        return Proof(proved=False, effective=effective, reason=reason)
    return Proof(proved=True, effective=effective)


class LatencyWitness(LinkWitness):
    """Compares round trips."""

    def __init__(self, link: Link, fault: PlannedFault) -> None:
        super().__init__(link)
        self._fault = fault

    def during(self, watch: Watch) -> Proof:
        """Round trips through the whole fault, each at its turn; one that waits when it ends gives a lower bound."""
        if not self.probe.asks:
            return Proof(proved=False, reason="no probe speaks the protocol behind this link")
        took_ns: list[int] = []
        silent_ns, cut = None, ""
        while (ping := self.probe.ping(watch)) is not None:
            if ping.seen == "answer":
                took_ns.append(ping.took_ns)
            elif ping.seen == "silent":
                silent_ns = ping.took_ns
            else:
                cut = ping.seen
        if cut and not took_ns and silent_ns is None:
            return Proof(proved=False, effective={"probe": cut}, reason=f"the probe saw: {cut}")
        return self.with_hit(judge(self._fault, calm_ns=self.calm_ns, took_ns=took_ns, silent_ns=silent_ns))


KIND = toxic_kind("latency", toxics=toxics, witness=LatencyWitness)


def raw_toxics(fault: PlannedFault) -> list[Toxic]:
    """One per direction. Raises Refused where the attributes are no JSON object of whole numbers."""
    try:
        attributes = msgspec.json.decode(str(fault.asked.get("toxic_attributes", "{}")), type=dict[str, int])
    except msgspec.MsgspecError as error:
        raise Refused(f"toxic_attributes: {error}") from error
    return one_per_direction(fault, str(fault.asked.get("toxic_type", "")), attributes)


RAW_TOXIC = toxic_kind("raw-toxic", toxics=raw_toxics, witness=LatencyWitness)
