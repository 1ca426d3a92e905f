"""When did one consumer truly come back?  Pure: sends to it and its connections in, two moments out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proof.ground_truth_log import LoggedConnection
from proof.sends import Send


class AmbiguousError(ValueError):
    """A pause so long that it may count as a silence or not: the machine stood still, nothing can be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the definitions take from the profile; `silent` and `maybe` bound what a silence is, in ns."""

    late_ns: int
    hold_ns: int
    limit_ns: int
    maybe_ns: int
    silent_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comeback:
    """Moments of the run clock; None: it never came."""

    fresh_ns: int | None
    steady_ns: int | None


def comeback(
    sends: Sequence[Send],
    connections: Sequence[LoggedConnection],
    dues: Mapping[int, int],
    *,
    origin_ns: int,
    healed_ns: int,
    end_ns: int,
    rules: Rules,
) -> Comeback:
    """First message due after the healing; start of the first stretch of the hold time with nothing wrong in it.

    `dues`: when each message was due, by its number; `end_ns`: until when is looked. Raises AmbiguousError.
    """
    until = healed_ns + rules.limit_ns
    fresh = next((s.after_ns for s in sends if s.event.due_ns >= healed_ns and s.before_ns >= healed_ns), None)
    if fresh is None or fresh > until:
        return Comeback(fresh_ns=None, steady_ns=None)
    wrong = sorted(
        [
            *_late(sends, rules.late_ns),
            *_silences(sends, healed_ns, end_ns, rules),
            *_gaps(connections, dues),
            *_away(connections, origin_ns, end_ns),
        ]
    )
    for at in sorted({fresh, *(b for _, b in wrong if b > fresh)}):
        if at > until or at + rules.hold_ns > end_ns:
            break
        if not any(a < at + rules.hold_ns and b > at for a, b in wrong):
            return Comeback(fresh_ns=fresh, steady_ns=at)
    return Comeback(fresh_ns=fresh, steady_ns=None)


def _late(sends: Sequence[Send], late_ns: int) -> list[tuple[int, int]]:
    return [(s.before_ns, s.after_ns) for s in sends if s.after_ns - s.event.due_ns > late_ns]


def _silences(sends: Sequence[Send], healed_ns: int, end_ns: int, rules: Rules) -> list[tuple[int, int]]:
    found = []
    at = [s.after_ns for s in sends]
    for before, after in zip([0, *at], [*at, end_ns], strict=True):
        if after - before >= rules.silent_ns:
            found.append((before, after))
        elif after - before > rules.maybe_ns and after > healed_ns:
            raise AmbiguousError(f"{(after - before) / 1e6:.0f} ms without a message, at {before / 1e9:.2f} s")
    return found


def _gaps(connections: Sequence[LoggedConnection], dues: Mapping[int, int]) -> list[tuple[int, int]]:
    """When each message was due that was kept back for good."""
    kept = (lie for c in connections for lie in c.lies if lie.kind in ("lost", "held"))
    return [(dues[lie.n], dues[lie.n]) for lie in kept]


def _away(connections: Sequence[LoggedConnection], origin_ns: int, end_ns: int) -> list[tuple[int, int]]:
    """Between two of its connections, and after the last."""
    own = sorted((c for c in connections if c.subscribed_ns >= 0), key=lambda c: c.subscribed_ns)
    found = []
    for index, connection in enumerate(own):
        if connection.closed_ns < 0:
            continue
        back = own[index + 1].subscribed_ns - origin_ns if index + 1 < len(own) else end_ns
        found.append((connection.closed_ns - origin_ns, back))
    return [(a, b) for a, b in found if a < end_ns]
