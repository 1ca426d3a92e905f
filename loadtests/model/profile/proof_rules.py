"""Which fault could be played and yet never be proved or judged, whatever else is planned?  Pure; key and problem."""

from __future__ import annotations

from collections.abc import Iterator

from loadtests.model.fault_kinds import KINDS
from loadtests.model.profile.chosen_users import CONSUMERS, PUBLISHERS
from loadtests.model.profile.faults import Fault
from loadtests.model.profile.tables import Profile
from loadtests.model.stackwire import SPARES

Problem = tuple[str, str]
"""A key of the fault, and `found ..., allowed ...`."""

_LOOK_S = 0.1  # for the answer that comes after a delay
_FEWEST_PIECES = 6  # of a slicer's measurement


def least_s(fault: Fault) -> float:
    """How long a fault must at least be so that its proof is possible; a delay must have passed once."""
    asked = fault.asked
    delay_s = max(float(asked.get(key, 0)) for key in ("latency_ms", "close_delay_ms")) / 1000
    pieces_s = _FEWEST_PIECES * float(asked.get("delay_us", 0)) / 1_000_000
    return max(KINDS[fault.kind].least_s, delay_s + _LOOK_S if delay_s else 0.0, pieces_s)


def proof_problems(profile: Profile, fault: Fault) -> Iterator[Problem]:
    """What makes one fault impossible to prove or to judge."""
    if fault.for_s < (least := least_s(fault)):
        yield "for_s", f'found {fault.for_s:g}, allowed from {least:g}: a shorter "{fault.kind}" can never be proved'
    if fault.kind == "slicer" and not fault.asked.get("delay_us") and fault.direction != "downstream":
        yield (
            "delay_us",
            f'found nothing with direction "{fault.direction}", allowed from 1, or direction = "downstream": '
            "how a request was cut shows only by its pauses",
        )
    if fault.kind == "bad-token" and profile.target.auth != "token":
        yield (
            "kind",
            'found "bad-token", allowed only with target.auth = "token": nobody refuses a token that is not asked for',
        )
    yield from _failover(profile, fault)
    yield from _elsewhere(profile, fault)
    yield from _ambiguous(profile, fault)


def _failover(profile: Profile, fault: Fault) -> Iterator[Problem]:
    if fault.asked.get("to") != "spare":
        return
    if profile.target.kind != "local":
        yield "to", 'found "spare", allowed host:port unless target.kind = "local": the local stack starts spares'
    if (fault.link or "").rpartition("-")[2] not in SPARES:
        yield "to", f'found "spare", allowed host:port on a link that does not lead to {" or ".join(SPARES)}'


def _elsewhere(profile: Profile, fault: Fault) -> Iterator[Problem]:
    """A service that nobody here may or can act on."""
    if profile.target.kind == "local" or KINDS[fault.kind].place != "service":
        return
    if KINDS[fault.kind].on_process:
        yield "kind", f'found "{fault.kind}", which acts on a process, allowed only with target.kind = "local"'
    elif getattr(profile.target, fault.where) is None:
        yield "kind", f'found "{fault.kind}", allowed only with target.{fault.where} = "host:port"'


def _ambiguous(profile: Profile, fault: Fault) -> Iterator[Problem]:
    place = KINDS[fault.kind].place
    groups = {
        CONSUMERS: [group.name for group in profile.consumers],
        PUBLISHERS: [group.name for group in profile.publishers],
    }
    names = groups.get(place, [])
    if getattr(fault, place, None) is None and len(names) > 1 and place in names:
        yield place, f'found nothing, allowed the name of a group where one of several is called "{place}"'
