"""Does every kind of fault act, is that proved, and is it lifted?  Short runs, read by what their results say.

Starts runs as its user would, on a stack that is given; judges nothing itself but the words of the results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.model.fault_kinds import NOT_ALLOWED_HERE
from proof.faults_left import World
from proof.faults_plan import LIMIT_S, CataloguePlay, profile
from proof.running import Bench, ProofError, RunOutcome

RUN_S = 240.0
"""How long one run may take."""

_SHOWN = 6  # values of an effect that a line shows
_SLACK_S = 1.0  # a slice and the rounding of four times


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueRow:
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
    absurd: str = ""  # what of its loss and recovery cannot be

    @property
    def fine(self) -> bool:
        """Proved and lifted, with an end that can be; one that was refused here is neither, and no failure."""
        return bool(self.refused) or (self.proved and bool(self.lifted_by) and not self.absurd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """One run and its rows."""

    name: str
    rows: tuple[CatalogueRow, ...]
    loss: str  # of the whole run, by cause
    left: tuple[str, ...]  # what is in force after it
    seconds: float


def carry_out(
    runs: Mapping[str, Sequence[CataloguePlay]],
    bench: Bench,
    *,
    seed: int,
    look: Callable[[], World],
    environment: Mapping[str, str],
) -> list[Shared | str]:
    """Every run in turn, with a look at the servers before and after; a sentence where one could not be carried out."""
    found: list[Shared | str] = []
    for name, plays in runs.items():
        began_s, before = time.monotonic(), look()
        try:
            outcome = bench.run(
                profile(name, plays, seed=seed), name=f"faults-{name}", environment=environment, timeout_s=RUN_S
            )
        except ProofError as error:
            left = "".join(f"; still in force: {text}" for text in before.left(look()))
            found.append(f"run {name} could not be carried out: {error}{left}")
            continue
        found.append(_told(name, plays, outcome, tuple(before.left(look())), time.monotonic() - began_s))
    return found


def _told(
    name: str, plays: Sequence[CataloguePlay], outcome: RunOutcome, left: tuple[str, ...], seconds: float
) -> Shared:
    results = outcome.results
    rows = tuple(row_of(play, results) for play in plays)
    return Shared(name=name, rows=rows, loss=_losses(results["delivery"]["lost"]), left=left, seconds=seconds)


def row_of(play: CataloguePlay, results: Mapping[str, Any]) -> CatalogueRow:
    """What a run's results say of one fault."""
    fault = next((f for f in results["faults"] if f["name"] == play.kind), None)
    where = play.where or "all"
    if fault is None:
        return CatalogueRow(
            kind=play.kind, where=where, asked="", effective="", proved=False, lifted_by="", loss="-", recovery="-",
            detail=f"the run's results do not name it: {'; '.join(results['reasons'][:2])}",
        )  # fmt: skip
    acted = fault["injected_s"] is not None
    refused = play.by_rights and not acted and fault["detail"].startswith(NOT_ALLOWED_HERE)
    recovery = next((r for r in results["recovery"] if r["fault"] == play.kind), None)
    return CatalogueRow(
        kind=play.kind,
        where=where,
        asked=_values({k: v for k, v in fault["asked"].items() if (k, v) != ("direction", "both")}),
        effective=_values(fault["effective"]),
        proved=bool(fault["proved"]) and acted,
        lifted_by=(fault["lifted_by"] or "") if fault["healed_s"] is not None else "",
        loss="-" if fault.get("lost_charged") is None else f"{fault['lost_charged']} charged to it",
        recovery="-" if recovery is None else _recovery(recovery),
        detail=fault["detail"],
        refused=fault["detail"].removeprefix(NOT_ALLOWED_HERE) if refused else "",
        absurd="" if refused else "; ".join(_absurd(fault, recovery, results["delivery"]["lost"])),
    )


def _recovery(found: Mapping[str, Any]) -> str:
    """A number, no visible impact, or unknown with its reason."""
    if found["verdict"] == "UNKNOWN":
        return f"unknown ({found['summary']})"
    if found["recovery_s"] is None or found["outage_s"] is None:
        return f"none ({found['verdict']}: {found['summary']})"
    if found["outage_s"] == 0:
        return f"no visible impact, steady after {found['recovery_s']:.1f} s"
    return f"{found['recovery_s']:.1f} s, out of limits for {found['outage_s']:.1f} s"


def _absurd(fault: Mapping[str, Any], found: Mapping[str, Any] | None, lost: Mapping[str, Any]) -> list[str]:
    """What cannot be: no word of a recovery, one before its healing or past its limit, a loss beyond all that is."""
    wrong = []
    charged, total = fault.get("lost_charged"), lost["total"]
    if charged is not None and not 0 <= charged <= (charged if total is None else total):
        wrong.append(f"{charged} lost are charged to it, {total} were lost in all")
    if found is None:
        return [*wrong, "nothing is said of its recovery"]
    recovery, outage = found["recovery_s"], found["outage_s"]
    if found["verdict"] == "UNKNOWN":
        return wrong if found["summary"].strip() else [*wrong, "its recovery is unknown for no reason"]
    if found["verdict"] != "PASS" or recovery is None or outage is None:
        return [*wrong, f"it did not recover: {found['summary']}"]
    if not 0 <= recovery <= LIMIT_S + _SLACK_S:
        wrong.append(f"a recovery of {recovery:g} s cannot be, {LIMIT_S:g} s is the limit")
    if fault["injected_s"] is not None and fault["healed_s"] is not None:
        most = fault["healed_s"] - fault["injected_s"] + recovery + _SLACK_S
        if not 0 <= outage <= most:
            wrong.append(f"it was out of its limits for {outage:g} s, {most:g} s is the most that can be")
    return wrong


def _losses(lost: Mapping[str, Any]) -> str:
    causes = {
        "charged to faults": lost["charged"],
        "of these in the injector at most": lost["injector_at_most"],
        "broker": lost["broker"],
        "unattributed": lost["unattributed"],
        "not replayed": lost["not_replayed"],
        "the target's defect": lost["defect"],
    }
    told = ", ".join(f"{'-' if count is None else count} {cause}" for cause, count in causes.items())
    return f"{'-' if lost['total'] is None else lost['total']} lost: {told}"


def _values(values: Mapping[str, Any]) -> str:
    told = [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
            if value is not None]  # fmt: skip
    return ", ".join(told[:_SHOWN])
