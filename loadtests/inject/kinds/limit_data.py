"""Limit of data: so many bytes pass on each connection, in each direction asked, then it is closed.

A connection that was open before counts from when the fault began; whichever direction is first ends it.
"""

from __future__ import annotations

from loadtests.inject.deadline import Watch
from loadtests.inject.kinds.on_link import one_per_direction, toxic_kind, whole
from loadtests.inject.link import Link
from loadtests.inject.probe import Spent
from loadtests.inject.proofs import Effective, LinkWitness, Proof, directions
from loadtests.inject.toxics import Toxic
from loadtests.model.injectwire import PlannedFault

_STEPS = 8  # requests until the limit
_LEAST_STEP = 40
_LARGEST_STEP = 256_000
_MOST_BYTES = 4_000_000  # that a measurement may send or fetch
_CUT = ("closed", "reset")


def toxics(fault: PlannedFault) -> list[Toxic]:
    """One per direction."""
    return one_per_direction(fault, "limit_data", {"bytes": whole(fault, "limit_bytes", least=1)})


def judge(limit: int, spent: dict[str, Spent | None], calm: dict[str, Spent | None]) -> Proof:
    """What connections carried until they were closed, of each direction that is limited."""
    effective: Effective = {}
    shown, missing = [], []
    for way, now in spent.items():
        before = calm.get(way)
        if now is None:
            missing.append(f"{way}: no connection was measured, or the protocol allows no such load")
            continue
        effective[f"{way}_ended"] = now.ended
        if way == "downstream":
            low = high = now.got_bytes
            effective["downstream_bytes"] = now.got_bytes
        else:
            low, high = now.answered_bytes, now.sent_bytes
            effective |= {"upstream_bytes_at_least": low, "upstream_bytes_at_most": high}
        carried = 0 if before is None else before.got_bytes if way == "downstream" else before.answered_bytes
        if low > limit:
            return Proof(proved=False, effective=effective, reason=f"{way}: {low} bytes passed, {limit} are allowed")
        if now.ended not in _CUT:
            missing.append(f"{way}: a connection was not closed; the probe saw: {now.ended}")
        elif high < limit:
            missing.append(f"{way}: it was closed after {high} bytes, before the limit of {limit}")
        elif carried <= limit:
            missing.append(f"{way}: no connection was seen to carry more than {limit} bytes without the fault")
        else:
            shown.append(way)
    effective["limit_bytes"] = effective.get("downstream_bytes") if "downstream" in shown else None
    if shown and (len(spent) == 2 or not missing):  # with two limits the first one ends the connection
        return Proof(proved=True, effective=effective)
    return Proof(proved=False, effective=effective, reason="; ".join(missing) or "nothing was measured")


class LimitDataWitness(LinkWitness):
    """Spends connections, before and under the fault."""

    def __init__(self, link: Link, fault: PlannedFault) -> None:
        super().__init__(link)
        self._limit = whole(fault, "limit_bytes", least=1)
        self._ways = directions(fault.direction)
        self._calm: dict[str, Spent | None] = {}

    def _spend(self, watch: Watch) -> dict[str, Spent | None]:
        if self._limit > _MOST_BYTES:
            return dict.fromkeys(self._ways)
        found: dict[str, Spent | None] = {}
        for way in self._ways:
            step = min(_LARGEST_STEP, max(_LEAST_STEP, self._limit // _STEPS))
            if not self.probe.keeps:  # one request is all that a connection takes
                step = self._limit + _LEAST_STEP
            down = way == "downstream"
            found[way] = self.probe.spend(step, down=down, most=self._limit + step, watch=watch.within_s(1.5))
        return found

    def before(self, watch: Watch) -> None:
        """The same without the fault: each connection must carry more than the limit."""
        super().before(watch)
        if not self.link.disturbed:
            calm = self._spend(watch)
            if not self.link.disturbed:
                self._calm = calm

    def during(self, watch: Watch) -> Proof:
        """One connection per direction; and how many of those that were open are closed by the end."""
        if not self.probe.asks:
            return Proof(proved=False, reason="no probe speaks the protocol behind this link")
        proof = judge(self._limit, self._spend(watch), self._calm)
        watch.wait()
        return self.with_hit(proof, closed=True)


KIND = toxic_kind("limit-data", toxics=toxics, witness=LimitDataWitness, meets="cuts later")
