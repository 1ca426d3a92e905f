"""Must the run end itself?  The profile's abort guards over what is known live; ends nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loadtests.harness.live_fold import LiveFold
from loadtests.model.ids import NS_PER_S
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.tables import Abort
from loadtests.model.records import Samples

BEHIND_S = 2
"""Every process has told of a second so long after its end."""
HOST = "host"


@dataclass(slots=True, kw_only=True)
class _Watched:
    guard: Abort
    since_ns: int | None = None  # beyond its limit without a break since


class AbortGuards:
    """The guards of one run. `free_mb` reads this machine's free memory."""

    def __init__(
        self, profile: Profile, fold: LiveFold, *, free_mb: Callable[[], float], emit: Callable[[Samples], None]
    ) -> None:
        self._profile, self._fold, self._free_mb, self._emit = profile, fold, free_mb, emit
        self._watched = [_Watched(guard=guard) for guard in profile.aborts]

    def look(self, now_ns: int) -> str | None:
        """Judge all guards now; the first that was beyond its limit for its time, as a sentence."""
        for watched in self._watched:
            value = self._value(watched.guard, now_ns)
            if value is None or not watched.guard.beyond(value):
                watched.since_ns = None  # what nobody knows holds nothing
                continue
            if watched.since_ns is None:
                watched.since_ns = now_ns
            held_ns = now_ns - watched.since_ns
            if held_ns >= watched.guard.for_s * NS_PER_S:
                return f"{watched.guard.said}: it was {value:.4g} at the end of {held_ns / NS_PER_S:.1f} s"
        return None

    def _value(self, guard: Abort, now_ns: int) -> float | None:
        second = now_ns // NS_PER_S
        match guard.measure:
            case "host_free_memory_mb":
                free = self._free_mb()
                self._emit(Samples(source=HOST, at_ns=now_ns, metric=["free_memory_bytes"], value=[free * 1e6]))
                return free
            case "target_memory_mb":
                held = self._fold.memory_mb(second - round(3 * self._profile.sampling.every_s) - BEHIND_S)
                return held.get(guard.process) if guard.process else sum(held.values()) if held else None
            case "error_share":
                seen = self._fold.second(second - BEHIND_S)
                tried = max(seen.published, seen.failed)  # what fails late was published in an earlier second
                return seen.failed / tried if tried else None
            case "lost_share":
                seen = self._fold.second(second - BEHIND_S - int(-(-self._profile.run.late_s // 1)))
                return max(0, seen.owed - seen.delivered) / seen.owed if seen.owed else None
