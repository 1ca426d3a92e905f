"""What do the faults share that the run's own users play, and when is each of them proved?  The table is at the end.

One order goes to the users, their counts come back, and a judge looks at these counts and at the gateway's own. The
users stop by themselves when their time is over, so there is little to undo: an order to stop, for a fault that ends
early. Another process, which has no such users, has nothing to undo.

To add such a kind: a judge and a row in `KINDS` here, and its row in `model.fault_kinds`, whose `plays` names the class
of what a user does (`drive.user_faults.UserFault`). From outside: `KIND = played_by_users(name, judge)` in a module.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError, Refused
from loadtests.inject.kinds.kind import Escalation, Kind, Site, Undo
from loadtests.inject.parent import Counts, UserFaultControl
from loadtests.inject.probe_connection import ask
from loadtests.inject.proofs import Effective, Proof
from loadtests.model.fault_kinds import KINDS as NAMED
from loadtests.model.ids import NS_PER_MS
from loadtests.model.injectwire import PlannedFault

FORCE_S = 2.0
"""How long all may take to play it; a user that is just connecting may be later, and is not waited for."""
ENOUGH = 0.9  # share of the chosen that must play it
STOP_S = 3.0
TIMEOUT_S = 1.0
"""For one reading of the gateway's statistics."""
NOT_FASTER = 1.5
"""What slow consumers read may exceed the rate asked by so much: a read is one piece."""
SETTLED_MS = 500
_LARGEST = 1e300
"""A larger number of the gateway counts nothing."""
_LOOK_NS = 50 * NS_PER_MS


class GatewayCounts:
    """The statistics of one gateway over HTTP, read past every proxy: numbers by dotted name."""

    def __init__(self, address: str) -> None:
        self._address = address

    def read(self) -> dict[str, float] | None:
        """All its numbers now; None where it does not answer with a table of numbers, or has no known address."""
        if not self._address:
            return None
        try:
            answer = ask("the gateway", self._address, "GET", "/stats", timeout_s=TIMEOUT_S)
            counts = dict(_numbers("", msgspec.json.decode(answer.content)))
        except (ControlError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return counts if answer.status_code == 200 else None


def total(counts: dict[str, float] | None, name: str) -> float | None:
    """The sum of a number and of all below it; None where there is none of that name."""
    if counts is None:
        return None
    found = [value for key, value in counts.items() if key == name or key.startswith(f"{name}.")]
    return sum(found) if found else None


def _numbers(prefix: str, body: object) -> Iterator[tuple[str, float]]:
    if isinstance(body, dict):
        if not body:  # a table of counts before the first of them
            yield prefix, 0.0
        for key, value in body.items():
            yield from _numbers(f"{prefix}.{key}" if prefix else str(key), value)
    elif isinstance(body, int | float) and not isinstance(body, bool) and abs(body) < _LARGEST:
        yield prefix, float(body)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenOfUsers:
    """What is known at one moment of a fault."""

    counts: Counts
    calm: dict[str, float] | None  # the gateway's counts before the fault
    gateway: dict[str, float] | None  # and now
    asked: dict[str, int | float | str]

    def of(self, name: str) -> int:
        """A count of the users, 0 where there is none."""
        return self.counts.get(name, 0)

    def grown(self, name: str) -> float | None:
        """By how much a count of the gateway has grown since the calm; None where it does not say."""
        now = total(self.gateway, name)
        return None if self.calm is None or now is None else now - (total(self.calm, name) or 0)


Judge = Callable[[SeenOfUsers], tuple[str, Effective]]
"""Why it is not proved yet (empty: it is), and what was measured."""


class UsersWitness:
    """Looks at the users' counts and the gateway's until the kind's judge is content."""

    def __init__(self, site: Site, fault: PlannedFault, judge: Judge) -> None:
        self._users, self._fault, self._judge = _users(site), fault, judge
        self._gateway = GatewayCounts(site.gateway_http)
        self._calm: dict[str, float] | None = None

    def before(self, watch: Watch) -> None:
        """The gateway's counts without the fault."""
        self.last_look()

    def last_look(self) -> None:
        """The same once more, as late as possible."""
        self._calm = self._gateway.read() or self._calm

    def during(self, watch: Watch) -> Proof:
        """Looks until it is proved, or to the end of the watch."""
        effective: Effective = {}
        while True:
            counts = self._users.counts(self._fault.name)
            if counts is None:
                reason = "the run's users did not answer"
            else:
                now = self._gateway.read()
                reason, effective = self._judge(
                    SeenOfUsers(counts=counts, calm=self._calm, gateway=now, asked=dict(self._fault.asked))
                )
                effective = {"chosen": counts.get("chosen", 0), "in_force": counts.get("in_force", 0)} | effective
            if not reason:
                return Proof(proved=True, effective=effective)
            if watch.over or not watch.wait(time.monotonic_ns() + _LOOK_NS):
                return Proof(proved=False, effective=effective, reason=reason)

    def after(self, watch: Watch) -> Effective:
        """Nobody plays it any more."""
        counts = self._users.counts(self._fault.name)
        return {"clean": int(counts is not None and counts.get("in_force", 0) == 0)}

    def close(self) -> None:
        """Nothing stays open."""


def played_by_users(name: str, judge: Judge) -> Kind:
    """A kind that is played by the run's own users, proved once the judge is content."""

    def problems(fault: PlannedFault) -> list[str]:
        missing = sorted(NAMED[name].needs.keys() - fault.asked.keys())
        return [f"{key} is missing" for key in missing]

    return Kind(
        name=name,
        problems=problems,
        holds=lambda fault: frozenset({f"{name} of {fault.link}"}),
        undo_of=lambda _site, fault: {"fault": fault.name, "kind": fault.kind, "where": fault.link},
        apply=_apply,
        not_in_force=_not_in_force,
        witness=lambda site, fault: UsersWitness(site, fault, judge),
        undo=_stop,
        remaining=_remaining,
        escalations=_escalations,
        looks="never",  # what the users told is late, and they stop by themselves at the planned end
    )


def _users(site: Site) -> UserFaultControl:
    if site.users is None:
        raise Refused("this run has no users that could play it")
    return site.users


def _apply(site: Site, fault: PlannedFault) -> None:
    users = _users(site)
    users.begin(fault)
    counts = users.wait(fault.name, _all_play, Watch.of_s(FORCE_S))
    if not counts.get("chosen", 0):
        raise Refused(f'the run has nobody in "{fault.link}" who could play it')


def _all_play(counts: Counts) -> bool:
    return counts.get("in_force", 0) >= counts.get("chosen", 0)


def _not_in_force(site: Site, fault: PlannedFault) -> list[str]:
    counts = _users(site).counts(fault.name) or {}
    chosen, playing = counts.get("chosen", 0), counts.get("in_force", 0)
    return [] if playing and playing >= ENOUGH * chosen else [f"{playing} of {chosen} chosen users play it"]


def _stop(site: Site, undo: Undo) -> None:
    if site.users is not None:
        site.users.stop(str(undo["fault"]), str(undo["kind"]), str(undo["where"]))


def _remaining(site: Site, undo: Undo) -> list[str]:
    users, fault = site.users, str(undo["fault"])
    if users is None or users.deaf or users.counts(fault) is None:
        return []  # users that played it stop by themselves or are gone with their process
    counts = users.wait(fault, lambda now: not now.get("in_force", 0), Watch.of_s(STOP_S))
    playing = counts.get("in_force", 0)
    return [f"{playing} users still play it"] if playing and not users.deaf else []


def _escalations(site: Site, undo: Undo) -> list[Escalation]:
    return [Escalation(name="told to stop once more", also_ends="nothing", act=lambda: _stop(site, undo))]


def slow(seen: SeenOfUsers) -> tuple[str, Effective]:
    """The kernel holds bytes that nobody reads, and what is read is no more than asked."""
    measured, unread, asked = seen.of("measured"), seen.of("unread_bytes"), int(seen.asked["read_bytes_per_s"])
    found: Effective = {"read_bytes_per_s": None, "unread_bytes": unread, "measured": measured}
    if not measured:
        return "nobody of them could be measured", found
    found["read_bytes_per_s"] = rate = seen.of("rates") // measured
    if seen.of("for_ms") < SETTLED_MS * measured:
        return "it ended before a rate could be measured", found
    if rate > NOT_FASTER * asked:
        return f"each read {rate} bytes/s, {asked} asked", found
    if not unread:
        return "nothing waited to be read: they were sent no more than they may read", found
    return "", found


def stalled(seen: SeenOfUsers) -> tuple[str, Effective]:
    """Bytes wait unread with every one that was measured, and nobody consumed a byte."""
    measured, waiting, read = seen.of("measured"), seen.of("with_unread"), seen.of("read_bytes")
    found: Effective = {"unread_bytes": seen.of("unread_bytes"), "read_bytes": read, "measured": measured}
    if not measured:
        return "nobody of them could be measured", found
    if read:
        return f"{read} bytes were read all the same", found
    if waiting < measured:
        return f"bytes wait unread with {waiting} of {measured}: the others were sent nothing", found
    return "", found


def closings(seen: SeenOfUsers, *, back: bool) -> tuple[str, Effective]:
    """Everybody was closed at least once, and (where asked) as many are back; the gateway saw new connections."""
    closed, returned, chosen = seen.of("closed_once"), seen.of("back_once"), seen.of("chosen")
    connects = seen.grown("connects")
    found: Effective = {"closed": seen.of("closed"), "back": seen.of("back"), "gateway_connects": connects}
    if closed < chosen:
        return f"{closed} of {chosen} closed their connection", found
    if back and returned < chosen:
        return f"{returned} of {chosen} came back", found
    if back and connects is not None and connects < chosen:
        return f"the gateway counted {connects:g} new connections, {chosen} should have come", found
    return "", found


def offline(seen: SeenOfUsers) -> tuple[str, Effective]:
    """All of them are away, and the gateway has so many clients less."""
    away, chosen = seen.of("in_force"), seen.of("chosen")
    grown = seen.grown("clients")
    less = None if grown is None else 0 - grown
    found: Effective = {"offline": away, "gateway_clients_less": less}
    if away < chosen:
        return f"{away} of {chosen} are away", found
    if less is not None and less < chosen:
        return f"the gateway counts {less:g} clients less, {chosen} left", found
    return "", found


def bad_token(seen: SeenOfUsers) -> tuple[str, Effective]:
    """Everybody was refused at least once and nobody was let in; the gateway, where it counts, says the same."""
    refused, once, accepted = seen.of("refused"), seen.of("refused_once"), seen.of("accepted")
    counted = seen.grown(f"refused.{seen.asked['token']}")
    found: Effective = {"refused": refused, "accepted": accepted, "gateway_refused": counted}
    if accepted:
        return f"{accepted} connections with a {seen.asked['token']} token were accepted", found
    if once < seen.of("chosen"):
        return f"{once} of {seen.of('chosen')} were refused", found
    if counted is not None and counted < once:
        return f"the gateway counted {counted:g} refusals, {once} were seen", found
    return "", found


def bad_input(seen: SeenOfUsers) -> tuple[str, Effective]:
    """Redis acknowledged them, and the gateway, where it counts bad messages, has rejected some."""
    sent, acknowledged, rejected = seen.of("sent"), seen.of("acknowledged"), seen.grown("bad")
    found: Effective = {"sent": sent, "acknowledged": acknowledged, "gateway_rejected": rejected}
    if not acknowledged:
        return f"Redis acknowledged none of {sent}", found
    if rejected is not None and rejected < 1:
        return f"the gateway rejected none of {acknowledged} that Redis took", found
    return "", found


_JUDGES: Mapping[str, Judge] = {
    "slow-consumers": slow,  # each reads so many bytes per second, while the target goes on sending
    "stalled-consumers": stalled,  # stop reading; what comes waits in the kernel and then at the target
    "half-open-consumers": stalled,  # answer nothing and do not close; from outside that looks like a stall
    "vanishing-consumers": lambda seen: closings(seen, back=False),  # reset, again after each second of being back
    "offline-consumers": offline,  # leave in good order, and come back at the end
    "reconnect-storm": lambda seen: closings(seen, back=True),  # all close at once and come back without waiting
    "bad-token": bad_token,  # come back with a token that must be refused, at the end with a good one
    "bad-input": bad_input,  # publishers send, beside their plan, messages on which no subscriber should choke
}

KINDS: Final[Mapping[str, Kind]] = {name: played_by_users(name, judge) for name, judge in _JUDGES.items()}
