"""Is a live figure beyond what an abort guard allows, and for so long that the run shall end?

It only says so; `run` acts. A figure is a function of its row in `model.abort_measures`; None is not known, and what is
not known is not beyond a limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loadtests.harness.fault_chain import BEHIND_S
from loadtests.harness.live import LiveFold
from loadtests.model.abort_measures import ABORTS
from loadtests.model.ids import NS_PER_S
from loadtests.model.kinds import part
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.tables import Abort
from loadtests.model.records import Samples

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
        self.profile, self.fold, self.free_mb, self.emit = profile, fold, free_mb, emit
        self._watched = [_Watched(guard=guard) for guard in profile.aborts]

    def look(self, now_ns: int) -> str | None:
        """Judge all guards now; the first that was beyond its limit for its time, as a sentence."""
        for watched in self._watched:
            value = part(ABORTS[watched.guard.measure].by)(self, watched.guard, now_ns)
            if value is None or not watched.guard.beyond(value):
                watched.since_ns = None  # an unknown value is not beyond the limit
                continue
            if watched.since_ns is None:
                watched.since_ns = now_ns
            held_ns = now_ns - watched.since_ns
            if held_ns >= watched.guard.for_s * NS_PER_S:
                return f"{watched.guard.said}: it was {value:.4g} at the end of {held_ns / NS_PER_S:.1f} s"
        return None


def host_free_memory_mb(guards: AbortGuards, _guard: Abort, now_ns: int) -> float:
    """Free memory of this machine."""
    free = guards.free_mb()
    guards.emit(Samples(source=HOST, at_ns=now_ns, metric=["free_memory_bytes"], value=[free * 1e6]))
    return free


def target_memory_mb(guards: AbortGuards, guard: Abort, now_ns: int) -> float | None:
    """Of one process of the target, or of all."""
    since = now_ns // NS_PER_S - round(3 * guards.profile.sampling.every_s) - BEHIND_S
    held = guards.fold.memory_mb(since)
    return held.get(guard.process) if guard.process else sum(held.values()) if held else None


def error_share(guards: AbortGuards, _guard: Abort, now_ns: int) -> float | None:
    """Of the publishes of one second; what fails late was published in an earlier one."""
    seen = guards.fold.second(now_ns // NS_PER_S - BEHIND_S)
    tried = max(seen.published, seen.failed)
    return seen.failed / tried if tried else None


def lost_share(guards: AbortGuards, _guard: Abort, now_ns: int) -> float | None:
    """Of what was owed in the last second that may be late no more."""
    seen = guards.fold.second(now_ns // NS_PER_S - BEHIND_S - int(-(-guards.profile.run.late_s // 1)))
    return max(0, seen.owed - seen.delivered) / seen.owed if seen.owed else None
