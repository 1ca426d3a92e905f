"""Does every consumer's recovery come out as it truly was?  Delivery stops and restarts at known times, each its own.

A fault is in force meanwhile on a link that carries nothing of the run: it only marks the window.  Each consumer's
first fresh message and steadiness must lie within 50 ms of the gateway's own times; who never comes back is not
recovered.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.model import records as r
from loadtests.model.ids import NS_PER_S
from proof.bench import DECOY_LINK, Bench, ProofError, RunOutcome, decoy, decoy_target
from proof.ground_truth_log import LoggedConnection, Send, Sent, read_sends
from proof.history import records_of
from proof.sections import BUSY_GUARD, SHOWN, Options, Row, SectionResult, compared

TOLERANCE_S = 0.05
_WARM_UP_S, _AT_S, _FOR_S, _LIMIT_S, _HOLD_S, _LATE_S = 1.0, 1.2, 1.0, 3.0, 0.8, 1.0
_DURATION_S = _AT_S + _FOR_S + _LIMIT_S + _HOLD_S + 0.5
_STOP_S = _WARM_UP_S + _AT_S + 0.1
"""Delivery stops that long after the first message was due: just after the fault began."""
_HEALED_S = _WARM_UP_S + _AT_S + _FOR_S
_EVERY_S = 0.05
_FAULT = "decoy-cut"
_CALM, _EACH, _GONE = 4, 6, 2
"""Consumers that nothing happens to; of each kind of comeback; of each kind that never comes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRole:
    """What happens to one consumer. `back_s`: after the healing, as planned; None: never, 0: it is left in peace."""

    consumer: int
    kind: str
    back_s: float | None

    def lies(self) -> list[dict[str, Any]]:
        """Its part of the gateway's plan."""
        if self.kind == "untouched":
            return []
        until_s = 1e6 if self.back_s is None else _HEALED_S + self.back_s
        window = {"consumers": [self.consumer], "due_s": [_STOP_S, until_s]}
        match self.kind:
            case "refused":
                drop = {**window, "due_s": [_STOP_S, _STOP_S + 1]}
                return [{"kind": "dropped-connection", **drop, "refuse_s": until_s - _STOP_S}]
            case "lossy":
                return [{"kind": "lost", "every": 2, **window}]
        return [{"kind": self.kind, **window}]


def roles() -> list[RecoveryRole]:
    """Consumers 0 to n, the kinds dealt out in turn so that both transports have all of them."""
    planned: list[tuple[str, float | None]] = [("untouched", 0.0)] * _CALM
    for index in range(_EACH):
        back_s = 0.15 + 1.7 * index / (_EACH - 1)
        planned += [("held", back_s), ("queued", back_s + 0.11), ("refused", back_s + 0.07), ("lossy", back_s + 0.04)]
    planned += [("held", None), ("refused", None)] * _GONE
    return [RecoveryRole(consumer=number, kind=kind, back_s=back_s) for number, (kind, back_s) in enumerate(planned)]


def prove_recovery(bench: Bench, options: Options) -> SectionResult:
    """Planted and found comebacks. Raises ProofError where the run left nothing, or the machine stood still."""
    began = time.monotonic()
    planned = roles()
    options.say(f"recovery: {len(planned)} consumers that come back at times of their own, or never")
    lies = [lie for role in planned for lie in role.lies()]
    gateway = bench.start_gateway({"seed": options.seed, "record_sends": True, "lies": lies}, name="stopping-gateway")
    with decoy(bench.toxiproxy, bench.redis):  # a cut that closes no connection proves nothing
        text = profile(bench.target(gateway), bench.toxiproxy, len(planned))
        outcome = bench.run(text, name="recovery", seed=options.seed)
    sent = read_sends(gateway.close_book(), outcome.folder)
    truth = truths(planned, sent, *window_of(outcome.folder))
    rows = compare(planned, truth, table_of(bench, outcome), outcome.results)
    return SectionResult(
        name="recovery",
        rows=tuple(rows),
        seconds=time.monotonic() - began,
        notes=(f"first fresh and steady count as found within {TOLERANCE_S * 1000:g} ms of the gateway's own times",),
    )


# -- the run


def profile(target: str, toxiproxy: str, consumers: int) -> str:
    """Two messages a slice, so that a pause of the machine is no silence."""
    half = consumers // 2
    reconnect = "reconnect = { first_ms = 30, factor = 1.0, max_ms = 30, jitter = 0.0 }\n"
    return f"""
name = "prove-recovery"
question = "When does each client get messages again, and steadily, after a fault?"
{target}{decoy_target(toxiproxy)}[run]
warm_up_s = {_WARM_UP_S}
duration_s = {_DURATION_S}
drain_s = {_LATE_S}
late_s = {_LATE_S}
settle_ms = 50
[steady]
hold_s = {_HOLD_S}
[recovery]
limit_s = {_LIMIT_S}
{BUSY_GUARD}undecided_share = 1
[[families]]
name = "patterns"
channel = "tickstock.events.patterns"
event = "pattern_detected"
symbols = 2
path = ["{DECOY_LINK}"]
[[publishers]]
name = "detector"
families = ["patterns"]
shape = {{ kind = "constant", rate_per_s = {1 / _EVERY_S:g} }}
[[consumers]]
name = "plain"
count = {consumers - half}
{reconnect}[[consumers]]
name = "browsers"
count = {half}
transport = "socketio"
{reconnect}[[faults]]
name = "{_FAULT}"
kind = "down"
link = "{DECOY_LINK}"
at_s = {_AT_S}
for_s = {_FOR_S}
[[thresholds]]
measure = "not_recovered"
at_most = 0
"""


def window_of(run: Path) -> tuple[int, int]:
    """When the fault was healed, and when the plan ended, in ns of the run clock. Raises ProofError."""
    healed = warm = -1
    for record in records_of(run):
        if isinstance(record, r.FaultStep) and record.step == "lifted":
            healed = record.after_ns
        if isinstance(record, r.PhaseMark) and record.phase == "warm-up":
            warm = record.at_ns
    if healed < 0 or warm < 0:
        raise ProofError("the decoy's fault was not lifted; see injector.log")
    return healed, warm + round((_WARM_UP_S + _DURATION_S) * NS_PER_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidRecovery:
    """What the tool says of one consumer, seconds after healed; None: it never came."""

    fresh_s: float | None
    steady_s: float | None


def table_of(bench: Bench, outcome: RunOutcome) -> dict[int, SaidRecovery]:
    """The table of `tickstorm analyze --consumers`. Raises ProofError where there is none."""
    path = bench.folder / "consumers.csv"
    argv = [sys.executable, "-m", "loadtests.cli", "analyze", str(outcome.folder), "--quiet"]
    child = bench.start([*argv, "--out", str(bench.folder / "again"), "--consumers", str(path)], name="analyze")
    child.wait(60)
    if not path.exists():
        raise ProofError(f"analyze left no table of the consumers; {child.last_words}")
    return read_table(path.read_text(encoding="utf-8"))


def read_table(text: str) -> dict[int, SaidRecovery]:
    """The decoy's rows, by consumer."""
    return {
        int(line["consumer"]): SaidRecovery(
            fresh_s=_seconds(line["first_fresh_s"]), steady_s=_seconds(line["steady_s"])
        )
        for line in csv.DictReader(text.splitlines())
        if line["fault"] == _FAULT
    }


def _seconds(cell: str) -> float | None:
    return float(cell) if cell else None


# -- the truth, and the comparison


def truths(planned: Sequence[RecoveryRole], sent: Sent, healed_ns: int, end_ns: int) -> dict[int, SaidRecovery]:
    """When each consumer came back, in seconds after healed. Raises ProofError where the machine stood still."""
    rules = Rules(
        late_ns=round(_LATE_S * NS_PER_S),
        hold_ns=round(_HOLD_S * NS_PER_S),
        limit_ns=round(_LIMIT_S * NS_PER_S),
        maybe_ns=round(4 * _EVERY_S * NS_PER_S),  # five planned messages make a silence, by whole slices
        silent_ns=round(8 * _EVERY_S * NS_PER_S),
    )
    found, dues = {}, {event.n: event.due_ns for event in sent.book.events}
    for role in planned:
        own = [c for c in sent.book.connections.values() if c.consumer == role.consumer]
        try:
            true = comeback(
                sent.of_consumer(role.consumer), own, dues,
                origin_ns=sent.origin_ns, healed_ns=healed_ns, end_ns=end_ns, rules=rules,
            )  # fmt: skip
        except AmbiguousError as error:
            raise ProofError(f"the machine stood still, so that nothing can be said: {error}; try again") from None
        found[role.consumer] = _after(true, healed_ns)
    return found


def _after(true: Comeback, healed_ns: int) -> SaidRecovery:
    fresh, steady = (None if at is None else (at - healed_ns) / NS_PER_S for at in (true.fresh_ns, true.steady_ns))
    return SaidRecovery(fresh_s=fresh, steady_s=steady)


def compare(
    planned: Sequence[RecoveryRole],
    truth: Mapping[int, SaidRecovery],
    table: Mapping[int, SaidRecovery],
    results: Mapping[str, Any],
) -> list[Row]:
    """A row for each kind and moment, one for who never came back, and what results.json says of them."""
    rows = [compared("consumers with a line of their own", len(planned), len(table))]
    for kind in dict.fromkeys(role.kind for role in planned if role.back_s is not None):
        own = [role.consumer for role in planned if role.kind == kind and role.back_s is not None]
        for moment, attribute in (("first fresh", "fresh_s"), ("steady", "steady_s")):
            rows.append(_moments(f"{kind}: {moment}", own, attribute, truth, table))
    gone = [role.consumer for role in planned if role.back_s is None]
    back = [c for c in gone if truth[c] != SaidRecovery(fresh_s=None, steady_s=None)]
    if back:
        raise ProofError(f"consumers {back} were to stay away, and the gateway sent to them")
    said = [c for c in gone if table.get(c) == SaidRecovery(fresh_s=None, steady_s=None)]
    wrong = [f"consumer {c}: planted never, found {table.get(c)}" for c in gone if c not in said]
    rows.append(compared("never came back", f"{len(gone)} not recovered", f"{len(said)} not recovered", tuple(wrong)))
    check = next((c for c in results["checks"] if c["name"].startswith("clients_not_back")), None)
    not_back = None if check is None else (check["verdict"], check["measured"])
    rows.append(compared("clients_not_back", ("FAIL", float(len(gone))), not_back))
    recovery = next((x["consumers"] for x in results["recovery"] if x["fault"] == _FAULT), None)
    for name in ("first_fresh", "steady"):
        found = None if recovery is None else recovery[name]["not_recovered"]
        rows.append(compared(f"results.json: {name}, not recovered", len(gone), found))
        came = sorted(v for c in truth if (v := getattr(truth[c], _OF[name])) is not None)
        said_s = [] if recovery is None else recovery["distribution"][name]
        rows.append(_close(f"results.json: {name}, slowest that came", *((v or [None])[-1] for v in (came, said_s))))
        limited = None if recovery is None else recovery[name]["beyond_s"].get("max")
        rows.append(compared(f"results.json: {name}, slowest beyond", _LIMIT_S if gone else None, limited))
    return rows


_OF = {"first_fresh": "fresh_s", "steady": "steady_s"}


def _moments(
    what: str,
    consumers: Sequence[int],
    attribute: str,
    truth: Mapping[int, SaidRecovery],
    table: Mapping[int, SaidRecovery],
) -> Row:
    wrong, worst, least, most = [], 0.0, float("inf"), 0.0
    for consumer in consumers:
        true = getattr(truth[consumer], attribute)
        found = getattr(table[consumer], attribute) if consumer in table else None
        if true is None or found is None:
            if true is not None or found is not None:
                wrong.append(f"consumer {consumer}: planted {_shown(true)}, found {_shown(found)}")
            continue
        least, most = min(least, true), max(most, true)
        worst = max(worst, abs(found - true))
        if abs(found - true) > TOLERANCE_S:
            wrong.append(f"consumer {consumer}: planted {_shown(true)}, found {_shown(found)}")
    came = sum(getattr(truth[c], attribute) is not None for c in consumers)
    return Row(
        what=what,
        planted=f"{came} between {least:.3f} s and {most:.3f} s" if came else "none",
        found=f"{len(consumers) - len(wrong)} of {len(consumers)}, worst error {worst * 1000:.1f} ms",
        equal=not wrong,
        differences=tuple(wrong[:SHOWN]),
    )


def _close(what: str, planted: float | None, found: float | None) -> Row:
    near = planted is not None and found is not None and abs(planted - found) <= TOLERANCE_S
    return Row(
        what=what, planted=_shown(planted), found=_shown(found), equal=near or (planted is None and found is None)
    )


def _shown(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.3f} s"


# -- the truth: when one consumer came back, from the sends to it and its connections


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
