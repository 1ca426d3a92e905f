"""Memory pressure: Redis may use hardly more memory than it does; it refuses writes, or throws keys away."""

from __future__ import annotations

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError
from loadtests.inject.kinds import on_redis
from loadtests.inject.kinds.kind import Kind, Site
from loadtests.inject.kinds.on_redis import RedisWitness, private_name
from loadtests.inject.kinds.on_service import company
from loadtests.inject.proofs import Effective, Proof
from loadtests.inject.servers import Full
from loadtests.model.injectwire import PlannedFault

POLICIES = ("noeviction", "allkeys-lru", "allkeys-random", "volatile-lru")
MOST_BYTES = 64 * 2**20
"""No proof writes more than this, with keys that end by themselves."""

_PIECE = 64 * 1024
_KEY_S = 30


class MemoryWitness(RedisWitness):
    """Writes keys of its own until one is refused, or until Redis threw some away."""

    def during(self, watch: Watch) -> Proof:
        """`OOM` under noeviction, evicted keys under the other policies."""
        keys: list[str] = []
        try:
            evicted = self.redis.info("stats", "evicted_keys")
            effective: Effective = {
                "maxmemory_bytes": int(self.redis.setting("maxmemory")),
                "policy": self.redis.setting("maxmemory-policy"),
                "used_bytes": self.redis.info("memory", "used_memory"),
            }
            refused = self._write(keys, watch, evicted)
            effective |= {
                "written_bytes": len(keys) * _PIECE,
                "write": refused or "accepted",
                "evicted_keys": self.redis.info("stats", "evicted_keys") - evicted,
            }
        except ControlError as error:
            return Proof(proved=False, reason=str(error))
        finally:
            self._remove(keys)
        proved = refused == "OOM" if policy_of(self.fault) == "noeviction" else bool(effective["evicted_keys"])
        why = refused or f"{len(keys) * _PIECE} bytes were written, and none was refused or thrown away"
        return Proof(proved=proved, effective=effective, reason="" if proved else why)

    def _write(self, keys: list[str], watch: Watch, evicted: int) -> str:
        """Why a write was refused; empty where none was."""
        value = b"x" * _PIECE
        while len(keys) * _PIECE < MOST_BYTES and not watch.over:
            keys.append(private_name())
            try:
                self.redis.ask("SET", keys[-1], value, "EX", _KEY_S)
            except Full:
                keys.pop()
                return "OOM"
            if self.redis.info("stats", "evicted_keys") > evicted:
                break
        return ""

    def _remove(self, keys: list[str]) -> None:
        try:
            if keys:
                self.redis.ask("DEL", *keys)
        except ControlError:
            return  # they end by themselves


def policy_of(fault: PlannedFault) -> str:
    """What was asked, or the default."""
    return str(fault.asked.get("policy", "noeviction"))


def _problems(fault: PlannedFault) -> list[str]:
    headroom, policy = fault.asked.get("headroom_kb"), policy_of(fault)
    found = [] if policy in POLICIES else [f'policy "{policy}": allowed are {", ".join(POLICIES)}']
    if not isinstance(headroom, int) or headroom < 0:
        found.append(f"headroom_kb {headroom!r}: a whole number of at least 0 is needed")
    return found


def _apply(site: Site, fault: PlannedFault) -> None:
    redis = site.the_redis()
    redis.set(maxmemory_policy=policy_of(fault))
    limit = redis.info("memory", "used_memory") + int(fault.asked["headroom_kb"]) * 1024
    redis.set(maxmemory=str(limit))
    site.facts["maxmemory_bytes"] = limit


def _not_in_force(site: Site, fault: PlannedFault) -> list[str]:
    redis = site.the_redis()
    wanted = {"maxmemory": str(site.facts.get("maxmemory_bytes")), "maxmemory-policy": policy_of(fault)}
    found = ((name, value, redis.setting(name)) for name, value in wanted.items())
    return [f'{name} is "{now}", asked was "{value}"' for name, value, now in found if now != value]


KIND = Kind(
    name="memory-pressure",
    problems=_problems,
    holds=lambda _: frozenset({"redis maxmemory"}),
    undo_of=lambda site, _fault: on_redis.remember(site, "maxmemory", "maxmemory-policy"),
    apply=_apply,
    not_in_force=_not_in_force,
    witness=MemoryWitness,
    undo=on_redis.restore,
    remaining=on_redis.remaining,
    escalations=on_redis.escalations,
    meets=company,
)
