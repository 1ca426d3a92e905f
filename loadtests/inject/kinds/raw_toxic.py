"""Raw toxic, for experts and tests: asked `toxic_type` and `toxic_attributes` (JSON text) go to Toxiproxy as they are.

Proof is the latency that was asked beside them (`latency_ms`); another effect has no witness and stays unproved.
"""

from __future__ import annotations

import msgspec

from loadtests.inject.errors import Refused
from loadtests.inject.kinds.latency import LatencyWitness
from loadtests.inject.kinds.on_link import one_per_direction, toxic_kind
from loadtests.inject.toxics import Toxic
from loadtests.model.injectwire import PlannedFault


def toxics(fault: PlannedFault) -> list[Toxic]:
    """One per direction. Raises Refused where the attributes are no JSON object of whole numbers."""
    try:
        attributes = msgspec.json.decode(str(fault.asked.get("toxic_attributes", "{}")), type=dict[str, int])
    except msgspec.MsgspecError as error:
        raise Refused(f"toxic_attributes: {error}") from error
    return one_per_direction(fault, str(fault.asked.get("toxic_type", "")), attributes)


KIND = toxic_kind("raw-toxic", toxics=toxics, witness=LatencyWitness)
