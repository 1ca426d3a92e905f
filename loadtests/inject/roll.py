"""Who is connected to a server, as it tells itself, and whom did a cut close where no kernel's table is in reach?

Redis by CLIENT LIST, PostgreSQL by pg_stat_activity; sessions of our own are left out by their names. It tells nobody
who came and went by himself in the same instant, so it is called just before the cut and just after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError
from loadtests.inject.kinds.kind import Site
from loadtests.inject.link import Link
from loadtests.inject.touch import Touch
from loadtests.inject.touching import Idle
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


def roll_of(site: Site, speaks: str) -> Roll | None:
    """The roll of Redis or PostgreSQL; None of another server, or where it may not be asked."""
    redis, postgres = site.redis, site.postgres
    if speaks == "redis" and redis is not None:
        return lambda: frozenset(redis.clients())
    if speaks == "postgres" and postgres is not None:
        return lambda: frozenset(postgres.ask(_SESSIONS, admin=False))
    return None


class Company(Idle):
    """Whether somebody of the run or the target was connected when a fault began to hold for all who are.

    Who is there just before it counts, and it holds for all of them.
    """

    def __init__(self, roll: Roll, service: str) -> None:
        self._roll, self._service = roll, service
        self._count: int | None = None
        self._why = ""

    def about_to_act(self) -> None:
        """Who is there."""
        try:
            self._count = len(self._roll())
        except ControlError as error:
            self._why = f"who is connected to {self._service} could not be asked: {error}"

    def touch(self, _: Watch) -> Touch:
        """Somebody, or nobody."""
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
        """Somebody's connection was closed, or nobody's."""
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
