"""What do faults on Redis share?  Settings that are kept in the journal, set, read back, restored."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError
from loadtests.inject.kinds.kind import Escalation, Site, Undo
from loadtests.inject.proofs import Effective, ms
from loadtests.inject.servers import RedisServer
from loadtests.model.injectwire import PlannedFault
from loadtests.model.stackwire import Ask

PRIVATE = "tickstorm:probe:"
"""Keys and channels of our own begin so."""


class RedisWitness:
    """Speaks to the server itself. A kind adds `during`."""

    def __init__(self, site: Site, fault: PlannedFault) -> None:
        self.site, self.fault = site, fault
        self.redis: RedisServer = site.the_redis()

    def before(self, watch: Watch) -> None:
        """Nothing; a kind that measures something overrides it."""

    def last_look(self) -> None:
        """Nothing; likewise."""

    def after(self, _: Watch) -> Effective:
        """Whether it answers a PING."""
        began = time.monotonic_ns()
        try:
            self.redis.ask("PING")
        except ControlError as error:
            return {"clean": 0, "probe": str(error)}
        return {"clean": 1, "probe": "answer", "rtt_ms": ms(time.monotonic_ns() - began)}

    def close(self) -> None:
        """Closes its connections."""
        self.redis.close()


def private_name() -> str:
    """A key or channel that nobody else uses."""
    return f"{PRIVATE}{uuid.uuid4().hex[:12]}"


def remember(site: Site, *names: str) -> Undo:
    """The values in force, for the journal."""
    redis = site.the_redis()
    return {"settings": [f"{name}={redis.setting(name)}" for name in names]}


def settings_of(entry: Undo) -> Mapping[str, str]:
    """Name -> value as it was."""
    pairs = (text.partition("=") for text in entry.get("settings", ()))
    return {name: value for name, _, value in pairs}


def restore(site: Site, entry: Undo) -> None:
    """Sets them as they were."""
    redis = site.the_redis()
    for name, value in settings_of(entry).items():
        redis.ask("CONFIG SET", name, value)


def remaining(site: Site, entry: Undo) -> list[str]:
    """What is not as it was."""
    redis = site.the_redis()
    found = ((name, value, redis.setting(name)) for name, value in settings_of(entry).items())
    return [f'{name} is "{now}", it was "{value}"' for name, value, now in found if now != value]


def escalations(site: Site, _: Undo) -> list[Escalation]:
    """A restart of the local stack's Redis; it begins with the settings of its command line."""
    supervisor = site.supervisor
    if supervisor is None:
        return []
    return [
        Escalation(
            name="restarted redis",
            also_ends="every connection to redis",
            act=lambda: (supervisor.ask(Ask(do="restart", service="redis")), None)[1],
            needs_answer=False,
            restarts="redis",
        )
    ]
