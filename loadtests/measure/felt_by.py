"""How were recovery times distributed over the consumers, and what did each of them feel?"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np

from loadtests.measure.facts import Floats, Ints
from loadtests.measure.felt import NEVER, Felt
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_S
from loadtests.model.results import ConsumerRecovery, ConsumerSpread

_POINTS = 200
_TIMES = ("detected", "byte", "fresh", "steady")
COLUMNS = ("fault", "consumer", "group", "detected_s", "first_byte_s", "first_fresh_s", "steady_s")
"""Seconds after injected (detected) or healed; empty where it did not come, or the data do not say."""

NOBODY = ConsumerSpread(p50=None, p95=None, max=None, not_recovered=None)
NOTHING = ConsumerRecovery(
    detected=NOBODY, first_byte=NOBODY, first_fresh=NOBODY, steady=NOBODY, distribution={}, slowest=[]
)


def recovery_of(contract: Contract, felt: Felt | None) -> ConsumerRecovery:
    """The distributions of one act."""
    if felt is None:
        return NOTHING
    missing = felt.cut_off
    return ConsumerRecovery(
        detected=_spread(felt.detected, felt.injected_ns, missing=None),
        first_byte=_spread(felt.byte, felt.healed_ns, missing=missing),
        first_fresh=_spread(felt.fresh, felt.healed_ns, missing=missing),
        steady=_spread(felt.steady, felt.healed_ns, missing=missing),
        distribution={
            "first_fresh": _thinned(felt.fresh, felt.healed_ns),
            "steady": _thinned(felt.steady, felt.healed_ns),
        },
        slowest=_slowest(contract, felt),
    )


def consumer_table(contract: Contract, every: Sequence[Felt | None]) -> str:
    """CSV of every act and consumer, with a head of COLUMNS."""
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
            rows.writerow([felt.act, consumer, contract.consumer_group(consumer)[1].name, *cells])
    return text.getvalue()


def _values(moments: Ints, from_ns: int) -> Floats:
    values: Floats = np.sort(np.maximum(moments[moments != NEVER] - from_ns, 0)) / NS_PER_S
    return values


def _spread(moments: Ints, from_ns: int, *, missing: bool | None) -> ConsumerSpread:
    """`missing`: None where not to have felt it is no failure; True where the data end before the limit does."""
    values = _values(moments, from_ns)
    absent = int((moments == NEVER).sum())
    not_recovered = 0 if missing is None else None if missing and absent else absent
    if not len(values):
        return ConsumerSpread(p50=None, p95=None, max=None, not_recovered=not_recovered)

    def rank(q: float) -> float:
        return round(float(values[max(int(np.ceil(q * len(values))) - 1, 0)]), 6)

    return ConsumerSpread(p50=rank(0.5), p95=rank(0.95), max=rank(1.0), not_recovered=not_recovered)


def _thinned(moments: Ints, from_ns: int) -> list[float]:
    values = _values(moments, from_ns)
    if len(values) > _POINTS:
        values = values[np.round(np.linspace(0, len(values) - 1, _POINTS)).astype(np.int64)]
    return [round(float(v), 6) for v in values]


def _slowest(contract: Contract, felt: Felt) -> list[str]:
    fresh = felt.fresh
    order = sorted(range(len(fresh)), key=lambda i: (fresh[i] != NEVER, -int(fresh[i]), i))
    lines = []
    for i in order[:5]:
        name = contract.consumer_group(felt.consumers[i])[1].name
        after_s = max(int(fresh[i]) - felt.healed_ns, 0) / NS_PER_S
        when = f"first fresh {after_s:.2f} s" if fresh[i] != NEVER else "never fresh"
        lines.append(f"consumer {felt.consumers[i]} ({name}): {when}")
    return lines
