"""What do the live figures set off?  The next fault of a chain (`FaultChain`), and the end of a run (`AbortGuards`).

Both only say so; `run` acts. A chain is "until recovered, then the next": whether a fault was recovered from is judged
from the stored history, and may differ. A guard's figure is a function of its row in `model.measures`; None is not
known, and what is not known is not beyond a limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from loadtests.harness.live import LiveFold, LiveSecond
from loadtests.model.ids import NS_PER_S
from loadtests.model.injectwire import PlannedFault
from loadtests.model.kinds import part
from loadtests.model.measures import ABORTS
from loadtests.model.profile.fault_times import named, occurrences, over_s
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.tables import Abort
from loadtests.model.records import Samples
from loadtests.plan.schedule import followers

BEHIND_S = 2
"""Every process has told of a second so long after its end."""
HOST = "host"
_CALM_S = 10
"""The calm before a fault that says what steady is, at most."""


@dataclass(slots=True, kw_only=True)
class _Awaited:
    """A fault that others wait for."""

    name: str
    planned: list[PlannedFault]
    healed_ns: dict[str, int] = field(default_factory=dict)

    @property
    def ends_ns(self) -> int:
        return max(fault.until_ns for fault in self.planned)


class FaultChain:
    """Which faults are due to be planned because another one is over."""

    def __init__(self, profile: Profile, fold: LiveFold, planned: list[PlannedFault], consumers: int) -> None:
        self._profile, self._fold, self._consumers = profile, fold, consumers
        self._wanted = {fault.after for fault in profile.faults if fault.after is not None}
        self._awaited: dict[str, _Awaited] = {}
        self._await(planned)

    def lifted(self, fault: str, healed_ns: int) -> None:
        """One occurrence of some fault was lifted."""
        for awaited in self._awaited.values():
            if any(planned.name == fault for planned in awaited.planned):
                awaited.healed_ns[fault] = healed_ns

    def look(self, now_ns: int) -> list[tuple[str, list[PlannedFault]]]:
        """Of each fault that is over by now: a sentence for the log, and what it lets begin."""
        found = []
        for awaited in list(self._awaited.values()):
            why = self._over(awaited, now_ns)
            if why is None:
                continue
            del self._awaited[awaited.name]
            next_ = followers(self._profile, awaited.name, now_ns, now_ns)
            self._await(next_)
            names = ", ".join(f'"{fault.name}"' for fault in next_)
            found.append((f'fault "{awaited.name}" {why}; now planned: {names}', next_))
        return found

    def _await(self, planned: list[PlannedFault]) -> None:
        for index, fault in enumerate(self._profile.faults):
            own = {o.name for o in occurrences(self._profile, index)}
            mine = [each for each in planned if each.name in own]
            if fault.name in self._wanted and mine:
                self._awaited[fault.name] = _Awaited(name=fault.name, planned=mine)

    def _over(self, awaited: _Awaited, now_ns: int) -> str | None:
        whole = len(awaited.healed_ns) == len(awaited.planned)
        ended_ns = max(awaited.healed_ns.values()) if whole else awaited.ends_ns
        fault = named(self._profile, awaited.name)
        assert fault is not None
        if now_ns >= ended_ns + round(over_s(self._profile, fault) * NS_PER_S):
            return "was given up" if whole else "was given up, and nothing says that it was lifted"
        if whole and self._steady(min(each.at_ns for each in awaited.planned), ended_ns, now_ns):
            return f"was recovered from within {(now_ns - ended_ns) / NS_PER_S:.1f} s, as the live figures show it"
        return None

    def _steady(self, began_ns: int, healed_ns: int, now_ns: int) -> bool:
        """Whether all are fresh, and the last whole seconds of the hold time were in band."""
        steady = self._profile.steady
        enough = steady.connected_min * self._consumers
        if self._fold.fresh(healed_ns) < enough:
            return False
        before = [self._fold.second(s) for s in range(began_ns // NS_PER_S - _CALM_S, began_ns // NS_PER_S)]
        owed = sum(second.owed for second in before)
        if not owed:
            return False
        ratio = min(1.0, sum(second.delivered for second in before) / owed)
        calm = sorted(second.high_ms for second in before if second.high_ms is not None)
        base_ms = calm[len(calm) // 2] if calm else 0.0
        limit_ms = max(base_ms * steady.latency_factor, base_ms + steady.latency_add_ms)
        hold = max(1, int(-(-steady.hold_s // 1)))
        last = now_ns // NS_PER_S - BEHIND_S
        first = last - hold + 1
        if first * NS_PER_S < healed_ns:
            return False
        held = [self._fold.second(second) for second in range(first, last + 1)]
        return all(_in_band(second, steady.delivery_min * ratio, enough, limit_ms) for second in held)


def _in_band(second: LiveSecond, ratio: float, connected: float, limit_ms: float) -> bool:
    if not second.owed or second.connected is None:
        return False
    fast = second.high_ms is None or second.high_ms <= limit_ms
    return second.delivered >= ratio * second.owed and second.connected >= connected and fast


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
