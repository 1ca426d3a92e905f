"""Client kill: Redis closes the connections of its subscribers, or of everybody; nothing stays in force."""

from __future__ import annotations

from loadtests.inject.errors import ControlError
from loadtests.inject.kinds.kind import Kind, Site, Undo
from loadtests.inject.kinds.on_redis import RedisWitness
from loadtests.inject.kinds.on_service import holds, wait_a_little
from loadtests.inject.proofs import Proof
from loadtests.inject.redis_server import RedisServer
from loadtests.inject.watch import Watch
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
        """All of them gone is proof."""
        back = 0
        while True:
            try:
                now = chosen(self.redis, self.fault)
            except ControlError as error:
                return Proof(proved=False, reason=str(error))
            left, back = len(self.ids & now), max(back, len(now - self.ids))
            if (not left and back >= len(self.ids)) or not wait_a_little(watch, 0.05):
                break
        effective = {**self.site.facts, "clients_before": len(self.ids), "clients_closed": len(self.ids) - left}
        effective["clients_new"] = back
        if self.ids and not left:
            return Proof(proved=True, effective=effective)
        reason = f"{left} of them are still connected" if self.ids else "nobody of that sort was connected"
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
    ids = chosen(redis, fault)
    if ids:
        answers = redis.ask_all([("CLIENT KILL", "ID", number) for number in sorted(ids)])
        site.facts["clients_killed"] = sum(int(answer) for answer in answers)


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
    resorts=lambda _site, _entry: [],
)
