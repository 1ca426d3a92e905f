"""Does every kind of fault act, is that proved, and is it lifted?  Short runs, read by what their results say.

Starts runs as its user would, on a stack that is given; judges nothing itself but the words of the results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.prove.faults_plan import Play, profile
from loadtests.prove.running import Bench, ProofError, RunOutcome

RUN_S = 240.0
"""How long one run may take."""

_SHOWN = 6  # values of an effect that a line shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind, as its run told it."""

    kind: str
    where: str
    asked: str
    effective: str
    proved: bool
    lifted_by: str  # empty: it is not lifted, or was never in force
    loss: str
    recovery: str
    detail: str = ""  # why it is not proved
    refused: str = ""  # why this machine does not allow it

    @property
    def fine(self) -> bool:
        """Proved and lifted; one that was refused here is neither, and no failure."""
        return bool(self.refused) or (self.proved and bool(self.lifted_by))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """One run and its rows."""

    name: str
    rows: tuple[Row, ...]
    loss: str  # of the whole run, by cause
    left: tuple[str, ...]  # what is in force after it
    seconds: float


def carry_out(
    runs: Mapping[str, Sequence[Play]],
    bench: Bench,
    *,
    seed: int,
    left: Callable[[], list[str]],
    environment: Mapping[str, str],
) -> list[Shared | str]:
    """Every run in turn; a sentence instead of those that could not be carried out."""
    found: list[Shared | str] = []
    for name, plays in runs.items():
        began_s = time.monotonic()
        try:
            outcome = bench.run(
                profile(name, plays, seed=seed), name=f"faults-{name}", environment=environment, timeout_s=RUN_S
            )
        except ProofError as error:
            found.append(f"run {name} could not be carried out: {error}")
            continue
        found.append(_told(name, plays, outcome, tuple(left()), time.monotonic() - began_s))
    return found


def _told(name: str, plays: Sequence[Play], outcome: RunOutcome, left: tuple[str, ...], seconds: float) -> Shared:
    results = outcome.results
    rows = tuple(row_of(play, results) for play in plays)
    return Shared(name=name, rows=rows, loss=_losses(results["delivery"]["lost"]), left=left, seconds=seconds)


def row_of(play: Play, results: Mapping[str, Any]) -> Row:
    """What a run's results say of one fault."""
    fault = next((f for f in results["faults"] if f["name"] == play.kind), None)
    where = play.where or "all"
    if fault is None:
        return Row(
            kind=play.kind, where=where, asked="", effective="", proved=False, lifted_by="", loss="-", recovery="-",
            detail=f"the run's results do not name it: {'; '.join(results['reasons'][:2])}",
        )  # fmt: skip
    acted = fault["injected_s"] is not None
    refused = fault["detail"] if play.by_rights and not acted and fault["detail"] else ""
    return Row(
        kind=play.kind,
        where=where,
        asked=_values({k: v for k, v in fault["asked"].items() if (k, v) != ("direction", "both")}),
        effective=_values(fault["effective"]),
        proved=bool(fault["proved"]) and acted,
        lifted_by=(fault["lifted_by"] or "") if fault["healed_s"] is not None else "",
        loss="-" if fault.get("lost_charged") is None else f"{fault['lost_charged']} charged to it",
        recovery=_recovery(play.kind, results["recovery"]),
        detail=fault["detail"],
        refused=refused,
    )


def _recovery(kind: str, recoveries: Sequence[Mapping[str, Any]]) -> str:
    found = next((r for r in recoveries if r["fault"] == kind), None)
    if found is None:
        return "-"
    if found["recovery_s"] is not None:
        return f"{found['recovery_s']:.1f} s"
    return f"none ({found['verdict']})"


def _losses(lost: Mapping[str, Any]) -> str:
    causes = {
        "charged to faults": lost["charged"],
        "of these in the injector at most": lost["injector_at_most"],
        "broker": lost["broker"],
        "disconnected": lost["disconnected"],
        "the target's defect": lost["defect"],
    }
    told = ", ".join(f"{'-' if count is None else count} {cause}" for cause, count in causes.items())
    return f"{'-' if lost['total'] is None else lost['total']} lost: {told}"


def _values(values: Mapping[str, Any]) -> str:
    told = [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
            if value is not None]  # fmt: skip
    return ", ".join(told[:_SHOWN])
