"""Slicer: data goes on in small pieces, in each direction asked, with a pause after each where one is asked."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from loadtests.inject.deadline import Watch
from loadtests.inject.kinds.on_link import one_per_direction, toxic_kind, whole
from loadtests.inject.link import Link
from loadtests.inject.probe import Carried
from loadtests.inject.proofs import Effective, LinkWitness, Proof, directions, ms
from loadtests.inject.toxics import Toxic
from loadtests.model.ids import NS_PER_S
from loadtests.model.injectwire import PlannedFault

_LOAD_S = 0.4  # a measurement pauses so long in all
_FEWEST, _MOST = 6, 64  # pieces of it
_LARGEST = 128_000  # bytes of it
_EVERY_S = 2.0  # a long fault is measured so often


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How it was asked to be cut."""

    size_bytes: int
    variation_bytes: int
    pause_ns: int

    def least_ns(self, bytes_: int) -> float:
        """How long so many bytes wait at least: no piece is larger than size and variation."""
        return 0.8 * self.pause_ns * max(0, bytes_ // (self.size_bytes + self.variation_bytes) - 1)


def toxics(fault: PlannedFault) -> list[Toxic]:
    """One per direction."""
    attributes = {
        "average_size": whole(fault, "average_size_bytes", least=1),
        "size_variation": whole(fault, "size_variation_bytes"),
        "delay": whole(fault, "delay_us"),
    }
    return one_per_direction(fault, "slicer", attributes)


def why_not_down(cut: Cut, calm: Carried | None, now: Carried | None) -> str:
    """Why the answer's pieces do not show it; empty where they do."""
    if calm is None or now is None:
        return "no load was carried in time, or the protocol allows none"
    if now.down_bytes <= cut.size_bytes + cut.variation_bytes:
        return f"an answer of {now.down_bytes} bytes is no larger than a piece may be: its cuts are not this fault's"
    # A reader that comes late takes several pieces at once: the smaller ones say how it was cut.
    size = sorted(piece.size_bytes for piece in now.pieces)[len(now.pieces) // 4]
    if size > cut.size_bytes + cut.variation_bytes:
        return f"pieces of {size} bytes came, at most {cut.size_bytes + cut.variation_bytes} expected"
    if len(now.pieces) * max(1, calm.down_bytes) < 2 * len(calm.pieces) * max(1, now.down_bytes):
        return f"{len(now.pieces)} pieces came, {len(calm.pieces)} without the fault"
    return ""


def why_not_up(cut: Cut, calm: Carried | None, now: Carried | None) -> str:
    """Why the time of a request does not show it; empty where it does. What the server reads is not seen here."""
    if calm is None or now is None:
        return "no load was carried in time, or the protocol allows none"
    if not cut.pause_ns:
        return "without delay_us nothing shows on this side how a request was cut"
    least_ns = cut.least_ns(now.up_bytes)
    added_ns = now.took_ns - calm.took_ns
    if added_ns < least_ns or least_ns <= calm.took_ns / 10:
        return f"a request of {now.up_bytes} bytes took {ms(added_ns)} ms longer, at least {ms(least_ns)} ms expected"
    return ""


class SlicerWitness(LinkWitness):
    """Sends and fetches some bytes before and under the fault, and looks at pieces and times."""

    def __init__(self, link: Link, fault: PlannedFault) -> None:
        super().__init__(link)
        self._ways = directions(fault.direction)
        self._cut = Cut(
            size_bytes=whole(fault, "average_size_bytes", least=1),
            variation_bytes=whole(fault, "size_variation_bytes"),
            pause_ns=whole(fault, "delay_us") * 1000,
        )
        pause_s = self._cut.pause_ns / NS_PER_S
        pieces = _MOST if not pause_s else max(_FEWEST, min(_MOST, int(_LOAD_S / pause_s)))
        self._size = min(_LARGEST, pieces * self._cut.size_bytes)
        self._calm: dict[str, Carried | None] = {}

    def _carry(self, watch: Watch) -> dict[str, Carried | None]:
        return {way: self.probe.carry(self._size, down=way == "downstream", watch=watch) for way in self._ways}

    def before(self, watch: Watch) -> None:
        """The same loads without the fault."""
        super().before(watch)
        if not self.link.disturbed:
            for way, carried in self._carry(watch.within_s(1.0)).items():
                if carried is not None and not self.link.disturbed:
                    self.link.calm_loads[way, self._size] = carried
        self._calm = {way: self.link.calm_loads.get((way, self._size)) for way in self._ways}

    def during(self, watch: Watch) -> Proof:
        """Loads through the whole fault; the median one of each direction speaks."""
        seen: dict[str, list[Carried]] = {way: [] for way in self._ways}
        while not watch.over:
            for way, carried in self._carry(watch).items():
                if carried is not None:
                    seen[way].append(carried)
            watch.within_s(_EVERY_S).wait()
        now = {way: sorted(all_, key=_took)[len(all_) // 2] if all_ else None for way, all_ in seen.items()}
        effective: Effective = {"loads": sum(len(all_) for all_ in seen.values())}
        for way, carried in now.items():
            effective |= _told(way, self._cut, self._calm.get(way), carried)
        effective["average_size_bytes"] = effective.get("downstream_piece_bytes")
        found = {
            way: (why_not_down if way == "downstream" else why_not_up)(self._cut, self._calm.get(way), carried)
            for way, carried in now.items()
        }
        reason = "; ".join(f"{way}: {text}" for way, text in found.items() if text)
        return self.with_hit(Proof(proved=not reason, effective=effective, reason=reason))


def _took(carried: Carried) -> int:
    return carried.took_ns


def _told(way: str, cut: Cut, calm: Carried | None, now: Carried | None) -> Effective:
    if now is None:
        return {f"{way}_took_ms": None}
    found: Effective = {f"{way}_took_ms": ms(now.took_ns), f"{way}_calm_ms": ms(calm.took_ns) if calm else None}
    if way == "downstream":
        gaps = [b.at_ns - a.at_ns for a, b in pairwise(now.pieces)]
        found |= {
            "downstream_pieces": len(now.pieces),
            "downstream_calm_pieces": len(calm.pieces) if calm else None,
            "downstream_piece_bytes": median(piece.size_bytes for piece in now.pieces),
            "downstream_spacing_us": round(median(gaps) / 1000, 1) if gaps else None,
        }
    elif calm is not None:
        pieces = max(1, now.up_bytes // cut.size_bytes)
        found["upstream_spacing_us"] = round(max(0, now.took_ns - calm.took_ns) / pieces / 1000, 1)
    return found


KIND = toxic_kind("slicer", toxics=toxics, witness=SlicerWitness)
