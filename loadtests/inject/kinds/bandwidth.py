"""Bandwidth: so many kB per second (1 kB = 1,000 B) for each connection, in each direction asked."""

from __future__ import annotations

import time

from loadtests.inject.deadline import Watch
from loadtests.inject.kinds.on_link import one_per_direction, toxic_kind, whole
from loadtests.inject.link import Link
from loadtests.inject.probe import Carried
from loadtests.inject.proofs import Effective, LinkWitness, Proof, directions, ms
from loadtests.inject.toxics import Toxic
from loadtests.model.ids import NS_PER_S
from loadtests.model.injectwire import PlannedFault

_LOAD_S = 0.4  # a measurement takes about so long at the asked rate
_PAUSES = 9  # times as long as a measurement, until the next one
_SMALLEST, _LARGEST = 1_500, 128_000  # bytes of it


def toxics(fault: PlannedFault) -> list[Toxic]:
    """One per direction."""
    return one_per_direction(fault, "bandwidth", {"rate": whole(fault, "rate_kb_per_s", least=1)})


def rates(up: Carried | None, down: Carried | None, ways: tuple[str, ...]) -> dict[str, float | None]:
    """kB/s of each way that is limited, from a load that goes up and one that goes up and comes down.

    Two equations: a load's time is the sum of its bytes over the rate of each limited way.
    """
    found: dict[str, float | None] = dict.fromkeys(ways)
    if ways == ("upstream",) and up is not None:
        found["upstream"] = up.up_bytes / up.took_ns
    elif ways == ("downstream",) and down is not None:
        found["downstream"] = down.down_bytes / down.took_ns
    elif len(ways) == 2 and up is not None and down is not None:
        whole_ = up.up_bytes * down.down_bytes - up.down_bytes * down.up_bytes
        up_cost = up.took_ns * down.down_bytes - down.took_ns * up.down_bytes
        down_cost = up.up_bytes * down.took_ns - down.up_bytes * up.took_ns
        found["upstream"] = whole_ / up_cost if up_cost > 0 and whole_ > 0 else None
        found["downstream"] = whole_ / down_cost if down_cost > 0 and whole_ > 0 else None
    return {way: None if rate is None else round(rate * NS_PER_S / 1000, 1) for way, rate in found.items()}


def slower(calm: Carried | None, now: Carried | None) -> bool:
    """The same load took clearly longer than without the fault."""
    return calm is not None and now is not None and now.took_ns >= 1.5 * calm.took_ns


def reached(way: str, calm: Carried | None, asked_kb_per_s: int) -> bool:
    """Without the fault the load passed faster than was asked, so that the fault can be what holds it back."""
    if calm is None:
        return False
    bytes_ = calm.down_bytes if way == "downstream" else calm.up_bytes
    return bytes_ * NS_PER_S > asked_kb_per_s * 1000 * calm.took_ns


class BandwidthWitness(LinkWitness):
    """Sends and fetches some kB before and under the fault."""

    def __init__(self, link: Link, fault: PlannedFault) -> None:
        super().__init__(link)
        self._asked = whole(fault, "rate_kb_per_s", least=1)
        self._ways = tuple(directions(fault.direction))
        self._size = min(_LARGEST, max(_SMALLEST, int(self._asked * 1000 * _LOAD_S)))
        self._calm: dict[str, Carried | None] = {}

    def _carry(self, watch: Watch) -> dict[str, Carried | None]:
        found: dict[str, Carried | None] = {}
        if "upstream" in self._ways:
            found["upstream"] = self.probe.carry(self._size, down=False, watch=watch)
        if "downstream" in self._ways:
            found["downstream"] = self.probe.carry(self._size, down=True, watch=watch)
        return found

    def before(self, watch: Watch) -> None:
        """The same loads without the fault."""
        super().before(watch)
        if not self.link.disturbed:
            for way, carried in self._carry(watch.within_s(1.0)).items():
                if carried is not None and not self.link.disturbed:
                    self.link.calm_loads[way, self._size] = carried
        self._calm = {way: self.link.calm_loads.get((way, self._size)) for way in self._ways}

    def during(self, watch: Watch) -> Proof:
        """Loads through the whole fault, with long pauses between them; the median one of each direction speaks."""
        seen: dict[str, list[Carried]] = {way: [] for way in self._ways}
        while not watch.over:
            began_ns = time.monotonic_ns()
            for way, carried in self._carry(watch).items():
                if carried is not None:
                    seen[way].append(carried)
            watch.wait(time.monotonic_ns() + _PAUSES * (time.monotonic_ns() - began_ns))
        now = {way: sorted(all_, key=_took)[len(all_) // 2] if all_ else None for way, all_ in seen.items()}
        return self.with_hit(self._judge(now, loads=min(map(len, seen.values()))))

    def _judge(self, now: dict[str, Carried | None], *, loads: int) -> Proof:
        measured = rates(now.get("upstream"), now.get("downstream"), self._ways)
        effective: Effective = {f"{way}_kb_per_s": rate for way, rate in measured.items()}
        known = [rate for rate in measured.values() if rate is not None]
        effective |= {"rate_kb_per_s": max(known) if len(known) == len(self._ways) else None, "loads": loads}
        for way, carried in now.items():
            calm = self._calm.get(way)
            effective[f"{way}_took_ms"] = ms(carried.took_ns) if carried else None
            effective[f"{way}_calm_ms"] = ms(calm.took_ns) if calm else None
        for way, rate in measured.items():
            if rate is None:
                reason = f"{way}: no load was carried in time, or the protocol allows none"
                return Proof(proved=False, effective=effective, reason=reason)
            if rate > 1.5 * self._asked:
                reason = f"{way}: {rate:g} kB/s passed, {self._asked} asked"
                return Proof(proved=False, effective=effective, reason=reason)
            if not reached(way, self._calm.get(way), self._asked):
                reason = f"{way}: the link did not reach {self._asked} kB/s without the fault either"
                return Proof(proved=False, effective=effective, reason=reason)
            if not slower(self._calm.get(way), now.get(way)):
                reason = f"{way}: the load was not clearly slower than without the fault"
                return Proof(proved=False, effective=effective, reason=reason)
        return Proof(proved=True, effective=effective)


def _took(carried: Carried) -> int:
    return carried.took_ns


KIND = toxic_kind("bandwidth", toxics=toxics, witness=BandwidthWitness)
