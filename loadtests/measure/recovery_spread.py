"""How were recovery times distributed: over the consumers, and over the repeats of one fault; who did not come back?

A percentile counts every consumer: one that did not come back is slower than all that did.  So is a repeat.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from loadtests.measure.consumer_recovery import NEVER, Felt
from loadtests.measure.fault_windows import FaultWindow, meanwhile, unproved
from loadtests.measure.history_tables import Bools, Floats, Ints
from loadtests.measure.recovery import Outcome
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.results import ConsumerRecovery, ConsumerSpread, RecoveryResult, RepeatedResult, Verdict

_POINTS = 200
_TIMES = ("detected", "byte", "fresh", "steady")
COLUMNS = ("fault", "consumer", "group", "detected_s", "first_byte_s", "first_fresh_s", "steady_s")
"""Seconds after injected (detected) or healed; empty where it did not come, or the data do not say."""

NOBODY = ConsumerSpread(p50=None, p95=None, max=None, not_recovered=None)
NOTHING = ConsumerRecovery(
    detected=NOBODY, first_byte=NOBODY, first_fresh=NOBODY, steady=NOBODY, distribution={}, slowest=[]
)


def recovery_of(contract: Contract, felt: Felt | None) -> ConsumerRecovery:
    """The distributions of one fault."""
    if felt is None:
        return NOTHING
    cut_off = np.full(len(felt.consumers), felt.cut_off)
    return ConsumerRecovery(
        detected=_detected(felt),
        first_byte=_spread(felt, felt.byte, cut_off),
        first_fresh=_spread(felt, felt.fresh, cut_off),
        steady=_spread(felt, felt.steady, felt.open),
        distribution={
            "first_fresh": _thinned(felt.fresh, felt.healed_ns),
            "steady": _thinned(felt.steady, felt.healed_ns),
        },
        slowest=_slowest(contract, felt),
    )


def consumer_table(contract: Contract, every: Sequence[Felt | None]) -> str:
    """CSV of every fault and consumer, with a head of COLUMNS."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for felt in every:
        if felt is None:
            continue
        for index, consumer in enumerate(felt.consumers):
            moments = [int(getattr(felt, name)[index]) for name in _TIMES]
            since = [felt.injected_ns, felt.healed_ns, felt.healed_ns, felt.healed_ns]
            cells = [
                "" if at == NEVER else f"{max(at - from_ns, 0) / NS_PER_S:.6f}"
                for at, from_ns in zip(moments, since, strict=True)
            ]
            rows.writerow([felt.fault, consumer, contract.consumer_group(consumer)[1].name, *cells])
    return text.getvalue()


def _values(moments: Ints, from_ns: int) -> Floats:
    values: Floats = np.sort(np.maximum(moments[moments != NEVER] - from_ns, 0)) / NS_PER_S
    return values


def _detected(felt: Felt) -> ConsumerSpread:
    """Of the consumers that noticed: not to have noticed a fault is no failure."""
    values = _values(felt.detected, felt.injected_ns)
    clients = int(((felt.detected != NEVER) | felt.counts).sum())
    return _ranked(values, felt, of=len(values), gone=0, clients=clients, not_recovered=0)


def _spread(felt: Felt, moments: Ints, undecided: Bools) -> ConsumerSpread:
    """Of all that could come back; `undecided`: the data end before it is known that they did not."""
    values = _values(moments, felt.healed_ns)
    absent = (moments == NEVER) & felt.counts
    clients, gone = len(values) + int(absent.sum()), int((absent & ~undecided).sum())
    decided = len(values) + gone == clients
    return _ranked(values, felt, of=clients, gone=gone, clients=clients, not_recovered=gone if decided else None)


def _ranked(
    values: Floats, felt: Felt, *, of: int, gone: int, clients: int, not_recovered: int | None
) -> ConsumerSpread:
    """The percentiles of so many clients, of whom the last `gone` did not come back within the limit."""
    found: dict[str, float | None] = {"p50": None, "p95": None, "max": None}
    beyond: dict[str, float] = {}
    for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1.0)):
        place = int(np.ceil(q * of)) - 1
        if 0 <= place < len(values):
            found[name] = round(float(values[place]), 6)
        elif of - gone <= place:
            beyond[name] = felt.limit_ns / NS_PER_S
    return ConsumerSpread(
        p50=found["p50"],
        p95=found["p95"],
        max=found["max"],
        not_recovered=not_recovered,
        clients=clients,
        back=len(values),
        beyond_s=beyond,
    )


def _thinned(moments: Ints, from_ns: int) -> list[float]:
    values = _values(moments, from_ns)
    if len(values) > _POINTS:
        values = values[np.round(np.linspace(0, len(values) - 1, _POINTS)).astype(np.int64)]
    return [round(float(v), 6) for v in values]


def _slowest(contract: Contract, felt: Felt) -> list[str]:
    fresh, steady = felt.fresh, felt.steady
    unsteady = (steady == NEVER) & ~felt.open
    told = [i for i in range(len(fresh)) if fresh[i] != NEVER or felt.counts[i]]
    lines = []
    for i in sorted(told, key=lambda i: (fresh[i] != NEVER, not unsteady[i], -int(fresh[i]), i))[:5]:
        name = contract.consumer_group(felt.consumers[i])[1].name
        after_s = max(int(fresh[i]) - felt.healed_ns, 0) / NS_PER_S
        when = f"first fresh {after_s:.2f} s" if fresh[i] != NEVER else "never fresh"
        if fresh[i] != NEVER and unsteady[i]:
            when += ", never steady"
        lines.append(f"consumer {felt.consumers[i]} ({name}): {when}")
    return lines


# -- who did not come back


@dataclass(frozen=True, slots=True, kw_only=True)
class NotBack:
    """Which consumers did not come back from one fault within its recovery limit: to get fresh messages steadily."""

    fault: str
    limit_s: float
    clients: int  # that could come back
    gone: list[int]  # consumers that surely did not
    lines: list[str]  # one for each of them
    doubt: str  # why nothing is known of all, or of more; empty where all is known


def not_back(
    fault: FaultWindow, felt: Felt | None, windows: list[FaultWindow], unjudged: Collection[int], ours: Bools, low: int
) -> NotBack | None:
    """Of one fault; None where it was never in force. `ours`: slices from `low` on with trouble of our own."""
    if fault.began_ns is None:
        return None
    limit_s = fault.limit_ns / NS_PER_S
    if felt is None:
        doubt = f"{fault.name}: what its clients felt is not in the history"
        return NotBack(fault=fault.name, limit_s=limit_s, clients=0, gone=[], lines=[], doubt=doubt)
    absent = (felt.steady == NEVER) & felt.counts
    beside = [a.name for a in meanwhile(windows, fault) if a.healed_ns is None or a.healed_ns > felt.healed_ns]
    span = ours[
        max(felt.healed_ns // SLICE_NS - low, 0) : max((felt.healed_ns + fault.limit_ns) // SLICE_NS + 1 - low, 0)
    ]
    # A stall of ours takes the steadiness of a client; the messages of most of the time it does not take.
    excused = np.full(len(absent), bool(span.any())) & ((felt.fresh != NEVER) | (2 * int(span.sum()) >= len(span)))
    unknown = np.isin(np.array(felt.consumers, dtype=np.int64), sorted(unjudged))
    if not fault.proved:
        why, unsure = unproved(fault), absent
    elif beside:
        why, unsure = " and ".join(f'"{name}"' for name in beside) + " was in force when it was healed", absent
    elif (absent & excused).any():
        why, unsure = "the load generator was in trouble meanwhile", absent & excused
    elif (absent & unknown).any():
        why, unsure = "their account is not known", absent & unknown
    else:
        why, unsure = "the data end before that is decided", absent & felt.open
    sure = np.flatnonzero(absent & ~unsure & ~felt.open & ~unknown)
    n = int((absent & (unsure | felt.open | unknown)).sum())
    return NotBack(
        fault=fault.name,
        limit_s=limit_s,
        clients=int(((felt.steady != NEVER) | felt.counts).sum()),
        gone=[felt.consumers[i] for i in sure],
        lines=[
            f"{fault.name}: consumer {felt.consumers[i]} was not {'steady' if felt.fresh[i] != NEVER else 'fresh'} "
            f"within {limit_s:g} s"
            for i in sure
        ],
        doubt=f"{fault.name}: {n} clients were not back within {limit_s:g} s, but {why}" if n else "",
    )


def with_clients(outcome: Outcome, who: NotBack | None) -> Outcome:
    """The outcome of a fault: where more than 5 % of its clients did not come back, it is not recovered from."""
    if outcome.verdict is not Verdict.PASS or who is None or 20 * len(who.gone) <= who.clients:
        return outcome
    gone = f"{len(who.gone)} of {who.clients} clients were not back within {who.limit_s:g} s"
    return replace(outcome, verdict=Verdict.FAIL, summary=f"{outcome.summary}; but {gone}")


_NUMBER = re.compile(r"(#\d+)?( \(\d+\))?$")


def repeats(recovery: Sequence[RecoveryResult]) -> list[RepeatedResult]:
    """One row for each fault that came more than once.

    One that did not recover outlasts every number: it stands above them in the median, and there is no greatest then.
    """
    by_name: dict[str, list[RecoveryResult]] = {}
    for one in recovery:
        by_name.setdefault(_NUMBER.sub("", one.fault), []).append(one)
    return [_row(name, all_) for name, all_ in by_name.items() if len(all_) > 1]


def _row(name: str, all_: list[RecoveryResult]) -> RepeatedResult:
    values = [one.recovery_s if one.verdict is Verdict.PASS else None for one in all_]
    known = sorted(v for v in values if v is not None)
    unknown = any(one.verdict is not Verdict.PASS and one.verdict is not Verdict.FAIL for one in all_)
    whole = len(known) == len(all_)
    rank = (len(all_) - 1) // 2  # the lower of the two middle ones, so that a median is a value that was measured
    return RepeatedResult(
        fault=name,
        times=len(all_),
        recovered=len(known),
        recovery_s=values,
        median_s=known[rank] if not unknown and rank < len(known) else None,
        max_s=known[-1] if whole else None,
        mean_s=round(sum(known) / len(known), 3) if whole else None,
    )
