"""Planted defect: a switch of the reference gateway, which then loses, repeats or delays on its own account."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Mapping

import msgspec

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError, NoAnswer, NotThere, Refused
from loadtests.inject.kinds.kind import Escalation, Kind, Site, Undo
from loadtests.inject.kinds.on_service import escalations
from loadtests.inject.proofs import Effective, Proof, ms
from loadtests.model.ids import NS_PER_MS
from loadtests.model.injectwire import PlannedFault
from loadtests.model.stackwire import Ask

SWITCH: Mapping[str, str] = {
    "drop": "drop_every",
    "duplicate": "duplicate_every",
    "reorder": "reorder_every",
    "fail": "fail_every",
    "delay": "delay_ms",
    "leak": "leak_bytes_per_message",
}
"""Defect -> the gateway's own switch; 0 is off."""

COUNTER: Mapping[str, str] = {
    "drop": "dropped_by_switch",
    "duplicate": "duplicated_by_switch",
    "reorder": "reordered_by_switch",
    "fail": "failed_by_switch",
    "leak": "leaked_by_switch_bytes",
}
"""Defect -> the gateway's own counter. A delay has none: deliveries pause when it is set."""

SERVICE = "gateway"
_TIMEOUT_S = 3.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A proxy that the shell names for others is not for this."""
_LOOK_S = 0.05
_LEAST_SHARE = 0.5  # of the delay that was asked


class DefectWitness:
    """Reads the gateway's statistics."""

    def __init__(self, site: Site, fault: PlannedFault) -> None:
        self.site, self.fault = site, fault
        self.address = site.the_supervisor().service(SERVICE).address
        self.defect = str(fault.asked["defect"])
        self.counted = 0

    def before(self, _: Watch) -> None:
        """Nothing to measure: a counter is compared with itself."""

    def last_look(self) -> None:
        """The counter as it stands."""
        try:
            self.counted = _number(_get(self.address, "/stats"), COUNTER.get(self.defect, "received"))
        except ControlError:
            self.counted = 0

    def during(self, watch: Watch) -> Proof:
        """Its counter moved, or a message took so much longer, is proof."""
        try:
            return self._delay(watch) if self.defect == "delay" else self._count(watch)
        except ControlError as error:
            return Proof(proved=False, reason=str(error))

    def _count(self, watch: Watch) -> Proof:
        name = COUNTER[self.defect]
        while True:
            stats = _get(self.address, "/stats")
            moved = _number(stats, name) - self.counted
            if moved or not watch.pause(_LOOK_S):
                break
        effective: Effective = {name: moved, "received": _number(stats, "received")}
        reason = "" if moved else f"{name} did not move: no message that it concerns passed"
        return Proof(proved=moved > 0, effective=effective, reason=reason)

    def _delay(self, watch: Watch) -> Proof:
        """When the switch is set, deliveries pause for the delay while messages still come in."""
        asked_ms, first = float(self.fault.asked["amount"]), _get(self.address, "/stats")
        since_ns = paused_ns = 0
        moved = False
        while not moved and watch.pause(0.01):
            now_ns, stats = time.monotonic_ns(), _get(self.address, "/stats")
            if not since_ns and _number(stats, "received") > _number(first, "received"):
                since_ns = now_ns
            moved = _number(stats, "deliveries") > _number(first, "deliveries")
            paused_ns = now_ns - since_ns if since_ns else 0
        effective: Effective = {"delay_ms": ms(paused_ns) if moved else None, "deliveries": "seen" if moved else "none"}
        if moved and paused_ns >= _LEAST_SHARE * asked_ms * NS_PER_MS:
            return Proof(proved=True, effective=effective)
        reason = (
            f"deliveries paused for {ms(paused_ns):g} ms" if moved else "nothing was delivered while it was watched"
        )
        return Proof(proved=False, effective=effective, reason=reason)

    def after(self, _: Watch) -> Effective:
        """Whether it answers."""
        try:
            _get(self.address, "/health")
        except ControlError as error:
            return {"clean": 0, "probe": str(error)}
        return {"clean": 1, "probe": "answer"}

    def close(self) -> None:
        """Nothing stays open."""


def _get(address: str, path: str) -> dict[str, object]:
    try:
        with _DIRECT.open(f"http://{address}{path}", timeout=_TIMEOUT_S) as answer:
            return msgspec.json.decode(answer.read(), type=dict[str, object])
    except urllib.error.HTTPError as error:
        raise Refused(f"the gateway answered {path} with {error.code}") from error
    except OSError as error:
        refused = isinstance(getattr(error, "reason", error), ConnectionRefusedError)
        raise (NotThere if refused else NoAnswer)(f"the gateway does not answer: {error}") from error
    except msgspec.MsgspecError as error:
        raise Refused(f"the gateway's answer to {path} cannot be read: {error}") from error


def _number(stats: Mapping[str, object], name: str) -> int:
    value = stats.get(name)
    if not isinstance(value, int):
        raise Refused(f"the gateway does not tell {name}")
    return value


def _problems(fault: PlannedFault) -> list[str]:
    defect, amount = fault.asked.get("defect"), fault.asked.get("amount")
    found = [] if defect in SWITCH else [f'defect "{defect}": allowed are {", ".join(SWITCH)}']
    if not isinstance(amount, int) or amount < 1:
        found.append(f"amount {amount!r}: a whole number of at least 1 is needed")
    return found


def _switch(site: Site, name: str, value: str) -> None:
    site.the_supervisor().ask(Ask(do="switch", settings={name: value}))


def _undo_of(site: Site, fault: PlannedFault) -> Undo:
    address, name = site.the_supervisor().service(SERVICE).address, SWITCH[str(fault.asked["defect"])]
    return {"service": SERVICE, "address": address, "switch": name, "was": str(_number(_get(address, "/switch"), name))}


def _apply(site: Site, fault: PlannedFault) -> None:
    _switch(site, SWITCH[str(fault.asked["defect"])], str(fault.asked["amount"]))


def _not_in_force(site: Site, fault: PlannedFault) -> list[str]:
    name = SWITCH[str(fault.asked["defect"])]
    now = _number(_get(site.the_supervisor().service(SERVICE).address, "/switch"), name)
    return [] if now == fault.asked["amount"] else [f"{name} is {now}, asked was {fault.asked['amount']}"]


def _undo(site: Site, entry: Undo) -> None:
    _switch(site, str(entry["switch"]), str(entry["was"]))


def _remaining(_: Site, entry: Undo) -> list[str]:
    name = str(entry["switch"])
    now = _number(_get(str(entry["address"]), "/switch"), name)
    return [] if str(now) == entry["was"] else [f"{name} is {now}, it was {entry['was']}"]


def _escalations(site: Site, entry: Undo) -> list[Escalation]:
    """A gateway that is started anew has every switch off."""
    return escalations(site, entry) if entry.get("was") == "0" else []


KIND = Kind(
    name="planted-defect",
    problems=_problems,
    holds=lambda fault: frozenset({f"switch {fault.asked.get('defect')}"}),
    undo_of=_undo_of,
    apply=_apply,
    not_in_force=_not_in_force,
    witness=DefectWitness,
    undo=_undo,
    remaining=_remaining,
    escalations=_escalations,
)
