"""Did a fault meet traffic of the run or the target?  Asked beside its witness, which measures the fault itself.

A fault that acts as asked on no traffic proves nothing about the target. Three answers: it acted, it touched nothing,
or that cannot be observed from here. A link's connections are told by the kernel (`passage`). Where its table is not in
reach, the server tells its own: Redis by CLIENT LIST, PostgreSQL by pg_stat_activity, without sessions of our name. A
server does not tell who came and went in the same instant, so it is asked just before a cut and just after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Protocol

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError
from loadtests.inject.link import Link
from loadtests.inject.passage import Touch
from loadtests.inject.proofs import Effective, Proof, Witness
from loadtests.inject.servers import Database, RedisServer
from loadtests.model.ids import NS_PER_MS
from loadtests.model.records import ACTED, NOT_OBSERVABLE, NOTHING

Roll = Callable[[], frozenset[Hashable]]
"""Who is connected. Raises ControlError."""

_GONE_S = 1.0  # so soon a server knows that a connection was closed, also on a busy machine
_LOOK_NS = 50 * NS_PER_MS
OTHERS = """
    FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
      AND (application_name NOT LIKE 'tickstorm%%' OR application_name = 'tickstorm-reader')
"""
"""PostgreSQL's sessions of the run and the target: those of our own tools bear our name."""
_SESSIONS = f"SELECT pid, backend_start::text {OTHERS}"


class Encounter(Protocol):
    """Watches whom a fault meets. None of its methods raises because of what the target does."""

    def start(self) -> None:
        """The calm before it begins."""
        ...

    def about_to_act(self) -> None:
        """It acts in a moment."""
        ...

    def has_acted(self) -> None:
        """It is in force."""
        ...

    def touch(self, watch: Watch) -> Touch:
        """What is known by now; may look on until the watch ends, where nobody was met yet."""
        ...

    def close(self) -> None:
        """Looks no more; safe to repeat."""
        ...


class Idle:
    """Does nothing at the moments that say nothing of whom it meets; keeps nothing open."""

    def start(self) -> None:
        """Nothing."""

    def about_to_act(self) -> None:
        """Nothing."""

    def has_acted(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Unseen(Idle):
    """Whom it meets cannot be observed."""

    def __init__(self, why: str) -> None:
        self._why = why

    def touch(self, _: Watch) -> Touch:
        """That it cannot."""
        return Touch(touched=NOT_OBSERVABLE, why=self._why)


class Beside:
    """A witness and an encounter as one witness."""

    def __init__(self, witness: Witness, encounter: Encounter) -> None:
        self._witness, self._encounter = witness, encounter

    def before(self, watch: Watch) -> None:
        """Both look at the calm."""
        self._encounter.start()
        self._witness.before(watch)

    def last_look(self) -> None:
        """Both look a last time."""
        self._witness.last_look()
        self._encounter.about_to_act()

    def during(self, watch: Watch) -> Proof:
        """The proof, and beside it whether traffic was met."""
        self._encounter.has_acted()
        proof = self._witness.during(watch)
        touch = self._encounter.touch(watch)
        said = [text for text in (proof.reason, touch.why if touch.touched != ACTED else "") if text]
        return replace(proof, effective={**proof.effective, **touch.effective()}, reason="; ".join(said))

    def after(self, watch: Watch) -> Effective:
        """Whether the fault is gone."""
        self._encounter.close()
        return self._witness.after(watch)

    def close(self) -> None:
        """Lets go of both."""
        self._encounter.close()
        self._witness.close()


def roll_of(speaks: str, redis: RedisServer | None, postgres: Database | None) -> Roll | None:
    """The roll of Redis or PostgreSQL; None of another server, or where it may not be asked."""
    if speaks == "redis" and redis is not None:
        return lambda: frozenset(redis.clients())
    if speaks == "postgres" and postgres is not None:
        return lambda: frozenset(postgres.ask(_SESSIONS, admin=False))
    return None


class Company(Idle):
    """Whether clients of the run or the target were connected when a fault began to hold for all connections.

    Connections just before it count.
    """

    def __init__(self, roll: Roll, service: str) -> None:
        self._roll, self._service = roll, service
        self._count: int | None = None
        self._why = ""

    def about_to_act(self) -> None:
        """Counts them."""
        try:
            self._count = len(self._roll())
        except ControlError as error:
            self._why = f"who is connected to {self._service} could not be asked: {error}"

    def touch(self, _: Watch) -> Touch:
        """Whether there was any."""
        if self._count is None:
            return Touch(touched=NOT_OBSERVABLE, why=self._why)
        why = f"nobody of the run or the target was connected to {self._service}"
        return Touch(touched=ACTED if self._count else NOTHING, why=why, connections=self._count)


class ServerEncounter(Idle):
    """Compares the rolls just before and after a cut."""

    def __init__(self, roll: Roll, link: Link, unseen: str) -> None:
        """`unseen` says why the kernel's table does not tell it."""
        self._roll, self._link, self._unseen = roll, link, unseen
        self._before: frozenset[Hashable] | None = None
        self._gone = self._ours = 0

    def about_to_act(self) -> None:
        """Who is there; a probe of ours bears no name, but it is known how many are open."""
        self._ours = self._link.own.open_now
        self._before = self._called()

    def has_acted(self) -> None:
        """Who is not there any more."""
        watch = Watch.of_s(_GONE_S)
        while self._before and not self._gone and not watch.over:
            now = self._called()
            if now is None:
                self._before = None
            else:
                self._gone = max(0, len(self._before - now) - self._ours)
            watch.wait(time.monotonic_ns() + _LOOK_NS)

    def touch(self, _: Watch) -> Touch:
        """Whether a connection was closed."""
        if self._before is None:
            return Touch(touched=NOT_OBSERVABLE, why=self._unseen)
        why = f"the server behind {self._link.name} lost none of its {len(self._before)} connections"
        return Touch(
            touched=ACTED if self._gone else NOTHING, why=why, connections=len(self._before), closed=self._gone
        )

    def _called(self) -> frozenset[Hashable] | None:
        try:
            return self._roll()
        except ControlError:
            return None
