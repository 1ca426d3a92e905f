"""Which recovery belongs to which fault?  The n-th recovery of a name belongs to its n-th fault."""

from __future__ import annotations

from collections import defaultdict, deque

from loadtests.model.results import FaultResult, RecoveryResult, Results

Pair = tuple[FaultResult | None, RecoveryResult | None, int]


def pair(results: Results) -> list[Pair]:
    """Each fault with its recovery, in the faults' order; the n-th recovery of a name belongs to its n-th fault."""
    left: defaultdict[str, deque[RecoveryResult]] = defaultdict(deque)
    for back in results.recovery:
        left[back.fault].append(back)
    found: list[Pair] = []
    for fault in results.faults:
        back_or_none = left[fault.name].popleft() if left[fault.name] else None
        found.append((fault, back_or_none, len(found)))
    for alone in (back for rest in left.values() for back in rest):
        found.append((None, alone, len(found)))
    return found
