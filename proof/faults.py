"""Does every kind of fault act, is that proved, and is it lifted?  A table, short runs, their results.

Starts runs as a user would, on a stack that is given; judges nothing itself but the words of the results.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.model.fault_kinds import KINDS, NOT_ALLOWED_HERE
from proof.bench import Bench, ProofError, RunOutcome
from proof.sections import BUSY_GUARD
from proof.stack_state import World

WARM_UP_S, FIRST_S, LIMIT_S, HOLD_S, DRAIN_S = 1.0, 4.0, 8.0, 1.0, 1.0
"""Warm-up; calm before the first fault; recovery limit; hold time; drain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CataloguePlay:
    """One row of the proof."""

    kind: str
    where: str  # a link, service or group; empty: all of them, or the only one
    keys: str = ""  # its own, as TOML
    run: str  # which run it shares
    for_s: float = 2.5
    rest_s: float = 4.0  # from its end to the next fault
    beside: str = ""  # another fault in its time, without which it would touch no client, as TOML but for its time
    by_rights: bool = False  # this machine may not let us: then the injector's reason counts apart


def _rows(*rows: CataloguePlay) -> Mapping[str, CataloguePlay]:
    return {row.kind: row for row in rows}


CUTS, SERVICES, BUSY, STORES, CREW = "links", "services", "busy", "stores", "users"

_MORE_THAN_CORES = min(80, max(4, 2 * (os.cpu_count() or 1)))
"""So many sessions that compute slow the others down; PostgreSQL takes a hundred."""

_LEAVING = 'name = "leaving"\nkind = "offline-consumers"\nconsumers = "plain"\nshare = 0.5'
"""A close is passed on late only where a client closes."""

PLAYS: Mapping[str, CataloguePlay] = _rows(
    CataloguePlay(kind="latency", where="gateway-redis", keys="latency_ms = 120\njitter_ms = 10", run=CUTS),
    CataloguePlay(kind="bandwidth", where="gateway-postgres", keys="rate_kb_per_s = 20", run=CUTS),
    CataloguePlay(kind="slicer", where="client-gateway", keys="average_size_bytes = 64\ndelay_us = 2000", run=CUTS),
    CataloguePlay(
        kind="limit-data", where="gateway-redis", keys='limit_bytes = 2000\ndirection = "downstream"', run=CUTS
    ),
    CataloguePlay(kind="slow-close", where="client-gateway", keys="close_delay_ms = 150", run=CUTS, beside=_LEAVING),
    CataloguePlay(kind="down", where="gateway-redis", run=CUTS),
    CataloguePlay(kind="flap", where="client-gateway", keys="period_s = 0.8\ndown_share = 0.5", run=CUTS),
    CataloguePlay(kind="reset", where="client-gateway", run=CUTS),
    CataloguePlay(kind="black-hole", where="gateway-redis", keys='direction = "downstream"', run=CUTS),
    CataloguePlay(kind="failover", where="gateway-redis", keys='to = "spare"', run=SERVICES),
    CataloguePlay(kind="kill", where="redis", run=SERVICES, rest_s=6.0),
    CataloguePlay(kind="restart", where="redis", run=SERVICES, for_s=4.0, rest_s=6.0),
    CataloguePlay(kind="pause", where="gateway", run=SERVICES),
    CataloguePlay(
        kind="cpu-limit", where="gateway", keys="cpu_percent = 5", run=BUSY, for_s=4.0, rest_s=6.0, by_rights=True
    ),
    CataloguePlay(
        kind="memory-limit", where="postgres", keys="memory_mb = 400", run=SERVICES, for_s=5.0, by_rights=True
    ),
    CataloguePlay(kind="client-kill", where="redis", keys='clients = "pubsub"', run=STORES),
    CataloguePlay(kind="memory-pressure", where="redis", keys="headroom_kb = 256", run=STORES),
    CataloguePlay(kind="output-buffer", where="redis", keys="limit_kb = 8", run=STORES),
    CataloguePlay(kind="backend-kill", where="postgres", run=STORES),
    CataloguePlay(kind="connection-exhaustion", where="postgres", run=STORES),
    CataloguePlay(
        kind="slow-queries", where="postgres", keys=f"connections = {_MORE_THAN_CORES}", run=STORES, for_s=3.0
    ),
    CataloguePlay(kind="lock", where="postgres", run=STORES),
    CataloguePlay(
        kind="slow-consumers", where="plain", keys="read_bytes_per_s = 200\nshare = 0.5", run=CREW, for_s=3.0
    ),
    CataloguePlay(kind="stalled-consumers", where="plain", keys="share = 0.5", run=CREW),
    CataloguePlay(kind="half-open-consumers", where="plain", keys="share = 0.5", run=CREW),
    CataloguePlay(kind="vanishing-consumers", where="plain", keys="share = 0.5", run=CREW),
    CataloguePlay(kind="offline-consumers", where="plain", keys="share = 0.5", run=CREW),
    CataloguePlay(kind="reconnect-storm", where="", run=CREW),
    CataloguePlay(kind="bad-token", where="plain", keys='token = "expired"\nshare = 0.5', run=CREW),
    CataloguePlay(kind="bad-input", where="detector", keys='form = "malformed"\nshare = 0.5', run=CREW),
    CataloguePlay(kind="planted-defect", where="", keys='defect = "drop"\namount = 3', run=CREW),
)
"""By kind; a test holds it together with the kinds that a profile may name."""


def groups(kinds: Sequence[str]) -> dict[str, list[CataloguePlay]]:
    """The runs and who shares each, in the order of the table."""
    found: dict[str, list[CataloguePlay]] = {}
    for play in PLAYS.values():
        if play.kind in kinds:
            found.setdefault(play.run, []).append(play)
    return found


def profile(name: str, plays: Sequence[CataloguePlay], *, seed: int) -> str:
    """The text of the profile of one run."""
    at_s, faults = FIRST_S, []
    for play in plays:
        place = KINDS[play.kind].place
        where = f'{place} = "{play.where}"\n' if play.where else ""
        faults.append(
            f'\n[[faults]]\nname = "{play.kind}"\nkind = "{play.kind}"\n{where}at_s = {at_s:g}\n'
            f"for_s = {play.for_s:g}\n{play.keys}\n"
        )
        if play.beside:
            faults.append(f"\n[[faults]]\n{play.beside}\nat_s = {at_s + 0.5:g}\nfor_s = {play.for_s - 1.5:g}\n")
        at_s += play.for_s + play.rest_s
    duration_s = at_s - plays[-1].rest_s + LIMIT_S + HOLD_S + 1
    rate = _BUSY_PER_S if plays[0].run == BUSY else _PER_S
    text = _PROFILE.format(name=name, seed=seed, duration_s=duration_s, rate=rate)
    return text + (BULK if plays[0].run == STORES else "") + "".join(faults)


_PER_S, _BUSY_PER_S = 40, 600
"""Messages of each publisher: a limit of the processor takes nothing from a gateway that is idle."""

BULK = """
[[families]]
name = "bulk"
channel = "tickstock.events.market_state"
event = "ranking_change"
symbols = 2

[[publishers]]
name = "bulk"
families = ["bulk"]
shape = { kind = "constant", rate_per_s = 4 }
payload_bytes = 24000
"""
"""Messages larger than what Redis keeps for a client before it counts: they overrun a small limit at once."""

_PROFILE = f"""
name = "prove-{{name}}"
question = "Does every kind of fault act as asked, and is it lifted?"
seed = {{seed}}

[target]
test_system = true
auth = "token"

[run]
warm_up_s = {WARM_UP_S:g}
duration_s = {{duration_s:g}}
drain_s = {DRAIN_S:g}
late_s = 1
connect_s = 30

{BUSY_GUARD}
[steady]
hold_s = {HOLD_S:g}
latency_add_ms = 1000

[recovery]
limit_s = {LIMIT_S:g}

[[thresholds]]
measure = "deliveries"
at_least = 100
phases = ["all"]

[[families]]
name = "patterns"
channel = "tickstock.events.patterns"
event = "pattern_detected"
symbols = 4
keys = {{{{ pattern = ["Doji", "Hammer"] }}}}

[[publishers]]
name = "detector"
count = 2
families = ["patterns"]
shape = {{{{ kind = "constant", rate_per_s = {{rate}} }}}}

[[consumers]]
name = "plain"
count = 8

[[consumers]]
name = "browsers"
count = 4
transport = "socketio"

[[readers]]
name = "dashboard"
count = 1
rate_per_s = 2

[[readers]]
name = "scripts"
count = 1
rate_per_s = 4
connect_each = true
"""


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


def play_runs(
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
