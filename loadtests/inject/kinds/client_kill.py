"""Client kill: Redis closes the connections of its subscribers, or of everybody; nothing stays in force."""

from __future__ import annotations

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError
from loadtests.inject.kinds.kind import Kind, Site, Undo
from loadtests.inject.kinds.on_redis import RedisWitness
from loadtests.inject.kinds.on_service import holds
from loadtests.inject.proofs import Proof
from loadtests.inject.servers import RedisServer
from loadtests.model.injectwire import PlannedFault

WHOM = ("pubsub", "all")


class ClientKillWitness(RedisWitness):
    """Counts by CLIENT LIST: ids are never given again, so one that is not there any more was closed."""

    def __init__(self, site: Site, fault: PlannedFault) -> None:
        super().__init__(site, fault)
        self.ids: frozenset[int] = frozenset()

    def last_look(self) -> None:
        """Who is connected."""
        try:
            self.ids = chosen(self.redis, self.fault)
        except ControlError:
            self.ids = frozenset()

    def during(self, watch: Watch) -> Proof:
        """All of them gone is proof, where the fault closed at least one: the others may have gone by themselves."""
        back, ended = 0, {number for number, _ in self.site.ended}
        while True:
            try:
                now = chosen(self.redis, self.fault)
            except ControlError as error:  # one look that is not answered says nothing
                if not watch.pause(0.05):
                    return Proof(proved=False, reason=str(error))
                continue
            left, back = len((self.ids | ended) & now), max(back, len(now - self.ids))
            if (not left and back >= len(self.ids)) or not watch.pause(0.05):
                break
        effective = {**self.site.facts, "clients_before": len(self.ids), "clients_closed": len(self.ids - now)}
        effective["clients_new"] = back
        if ended and not left:
            return Proof(proved=True, effective=effective)
        reason = "nobody of that sort was connected"
        if left:
            reason = f"{left} of them are still connected"
        elif self.ids:
            reason = "the fault closed none of them; those that are gone went by themselves"
        return Proof(proved=False, effective=effective, reason=reason)


def chosen(redis: RedisServer, fault: PlannedFault) -> frozenset[int]:
    """Ids of those whom the fault means: subscribers carry the flag P."""
    everybody = fault.asked.get("clients", "pubsub") == "all"
    return frozenset(number for number, who in redis.clients().items() if everybody or "P" in who.get("flags", ""))


def _problems(fault: PlannedFault) -> list[str]:
    whom = fault.asked.get("clients", "pubsub")
    return [] if whom in WHOM else [f'clients "{whom}": allowed are {", ".join(WHOM)}']


def _apply(site: Site, fault: PlannedFault) -> None:
    redis = site.the_redis()
    ids = sorted(chosen(redis, fault))
    answers = redis.ask_all([("CLIENT KILL", "ID", number) for number in ids]) if ids else []
    site.ended.update((number, "") for number, answer in zip(ids, answers, strict=True) if int(answer))
    site.facts["clients_killed"] = len(site.ended)


def _nothing(_: Site, __: Undo) -> None:
    """Nothing stays in force."""


KIND = Kind(
    name="client-kill",
    problems=_problems,
    holds=lambda fault: holds(fault) | {"client-kill"},
    undo_of=lambda _site, _fault: {},
    apply=_apply,
    not_in_force=lambda _site, _fault: [],
    witness=ClientKillWitness,
    undo=_nothing,
    remaining=lambda _site, _entry: [],
    escalations=lambda _site, _entry: [],
)
