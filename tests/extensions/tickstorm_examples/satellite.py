"""A kind of fault: a link goes over satellites, a quarter of a second for each hop and direction."""

from __future__ import annotations

import msgspec

from loadtests.inject.kinds import latency
from loadtests.inject.kinds.latency import LatencyWitness
from loadtests.inject.kinds.on_link import toxic_kind
from loadtests.inject.link import Link
from loadtests.inject.toxics import Toxic
from loadtests.model.injectwire import PlannedFault

HOP_MS = 250


def as_latency(fault: PlannedFault) -> PlannedFault:
    """The same fault in the words of the kind `latency`, whose toxic and whose proof it shares."""
    return msgspec.structs.replace(fault, asked={"latency_ms": HOP_MS * int(fault.asked.get("hops", 1))})


def toxics(fault: PlannedFault) -> list[Toxic]:
    """One per direction."""
    return latency.toxics(as_latency(fault))


class SatelliteWitness(LatencyWitness):
    """Compares round trips."""

    def __init__(self, link: Link, fault: PlannedFault) -> None:
        super().__init__(link, as_latency(fault))


KIND = toxic_kind("satellite", toxics=toxics, witness=SatelliteWitness)
