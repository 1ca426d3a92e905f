"""Slow close: a close is passed on later, in each direction asked; data is not delayed.

A client's close goes up, and the server's end of the connection then comes back down: under `both` it waits twice.
"""

from __future__ import annotations

from statistics import median

from loadtests.inject.deadline import Watch
from loadtests.inject.kinds.on_link import one_per_direction, toxic_kind, whole
from loadtests.inject.link import Link
from loadtests.inject.proofs import Effective, LinkWitness, Proof, directions, ms, spread
from loadtests.inject.toxics import Toxic
from loadtests.model.ids import NS_PER_MS
from loadtests.model.injectwire import PlannedFault

_CALM_CLOSES = 3
_NOISE_NS = 5 * NS_PER_MS  # a close is not told from a hiccup of this machine by less


def toxics(fault: PlannedFault) -> list[Toxic]:
    """One per direction."""
    return one_per_direction(fault, "slow_close", {"delay": whole(fault, "close_delay_ms", least=1)})


def judge(fault: PlannedFault, *, calm_ns: list[int], took_ns: list[int], open_ns: int | None) -> Proof:
    """What closes say: how long each took before and under the fault, and how long one was still open at the end."""
    ways = len(directions(fault.direction))
    asked_ns = ways * whole(fault, "close_delay_ms", least=1) * NS_PER_MS
    if not calm_ns:
        return Proof(proved=False, reason="no close was measured before the fault")
    calm = median(calm_ns)
    effective: Effective = {
        "directions": "+".join(directions(fault.direction)),
        "calm_close_ms": ms(calm),
        "closes": len(took_ns),
    }
    if took_ns:
        added = median(took_ns) - calm
        effective |= {"close_delay_ms": ms(added / ways), "added_close_ms": ms(added)} | spread(took_ns)
    elif open_ns is not None:
        added = open_ns - calm
        effective |= {"close_delay_ms": None, "added_close_ms": None, "added_close_ms_at_least": ms(added)}
    else:
        return Proof(proved=False, effective=effective, reason="no close was waited for under the fault")
    if added < max(asked_ns / 2, _NOISE_NS):
        reason = f"a close was passed on {ms(added)} ms later, {ms(asked_ns)} ms expected"
        return Proof(proved=False, effective=effective, reason=reason)
    if max(calm_ns) >= asked_ns / 2:
        reason = f"a close took {ms(max(calm_ns))} ms before the fault, which is no less than what it adds"
        return Proof(proved=False, effective=effective, reason=reason)
    return Proof(proved=True, effective=effective)


class SlowCloseWitness(LinkWitness):
    """Opens connections, closes its half, and waits until the link closes the other."""

    def __init__(self, link: Link, fault: PlannedFault) -> None:
        super().__init__(link)
        self._fault = fault
        self._calm_closes_ns: list[int] = []

    def before(self, watch: Watch) -> None:
        """The same closes without the fault."""
        super().before(watch)
        for _ in range(_CALM_CLOSES):
            if self.link.disturbed or watch.over:
                break
            seen, took_ns = self.probe.close_takes_ns(watch.within_s(1.0))
            if seen == "closed" and not self.link.disturbed:
                self._calm_closes_ns.append(took_ns)
        self.link.calm_closes_ns.extend(self._calm_closes_ns)
        self._calm_closes_ns = self._calm_closes_ns or list(self.link.calm_closes_ns)

    def during(self, watch: Watch) -> Proof:
        """One close after the other, at the probe's turns; one that is not passed on by the end is a lower bound."""
        took_ns: list[int] = []
        open_ns, seen = None, ""
        while self.probe.turn(watch):
            seen, each_ns = self.probe.close_takes_ns(watch)
            if seen == "closed":
                took_ns.append(each_ns)
            elif seen == "silent":
                open_ns = each_ns
        if not took_ns and open_ns is None:
            return Proof(proved=False, effective={"probe": seen}, reason=f"the probe saw: {seen or 'nothing in time'}")
        return self.with_hit(judge(self._fault, calm_ns=self._calm_closes_ns, took_ns=took_ns, open_ns=open_ns))


KIND = toxic_kind("slow-close", toxics=toxics, witness=SlowCloseWitness, meets="closes late")
