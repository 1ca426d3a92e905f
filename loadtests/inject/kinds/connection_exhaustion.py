"""Connection exhaustion: sessions of ours hold PostgreSQL's connections until hardly one is free.

A session that was closed takes its connection for a moment longer, until its backend has ended: what is full by such
ones of our own is not full.
"""

from __future__ import annotations

from collections.abc import Sequence

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError, Refused
from loadtests.inject.kinds import on_postgres
from loadtests.inject.kinds.kind import Kind, Site
from loadtests.inject.kinds.on_postgres import GONE_S, PostgresWitness, session_name, settled
from loadtests.inject.proofs import Proof
from loadtests.inject.servers import FULL, NAME, Database, Session, SqlRefused
from loadtests.model.injectwire import PlannedFault

MOST = 2_000
"""A server that takes more connections than this is not exhausted by us."""

ENDING = "sessions of ours were still ending"
_OWN = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
_AGAIN_S = 0.02


class ExhaustionWitness(PostgresWitness):
    """Connects as the readers' role, once more than may be free."""

    def during(self, watch: Watch) -> Proof:
        """Refused for want of connections is proof; a target that gives some back makes room, and is waited for.

        So is whatever else a look could not settle.
        """
        free = leave(self.fault)
        while True:
            opened, refused = self._fill(free + 1)
            if FULL in refused or not watch.pause(0.2):
                break
        effective = {**self.site.facts, "free": opened, "new_connection": refused or "accepted"}
        if FULL in refused:
            return Proof(proved=True, effective=effective)
        reason = refused or f"{opened} new connections were accepted"
        return Proof(proved=False, effective=effective, reason=reason)

    def _fill(self, most: int) -> tuple[int, str]:
        """How many more could be opened, and why not another; they are closed again."""
        opened: list[Session] = []
        try:
            while len(opened) < most:
                opened.append(self.database.session())
        except SqlRefused as error:
            if error.code != FULL:
                return len(opened), str(error)
            held = [each for each in self.site.held if isinstance(each, Session)]
            return len(opened), ENDING if _are_ending([*held, *opened], alive=len(opened)) else FULL
        except ControlError as error:
            return len(opened), str(error)
        finally:
            for session in opened:
                session.close()
        return len(opened), ""


def leave(fault: PlannedFault) -> int:
    """How many connections stay free."""
    return int(fault.asked.get("leave", 0))


def _problems(fault: PlannedFault) -> list[str]:
    wanted = fault.asked.get("leave", 0)
    fits = isinstance(wanted, int) and 0 <= wanted <= MOST
    return [] if fits else [f"leave {wanted!r}: a whole number from 0 to {MOST} is needed"]


def _apply(site: Site, fault: PlannedFault) -> None:
    database, name = site.the_postgres(), session_name(fault)
    held = _hold_all(site, database, name)
    for _ in range(min(leave(fault), held)):
        site.held.pop().close()
    site.facts["connections_held"] = len(site.held)
    settled(database, name, len(site.held), Watch.of_s(GONE_S))


def _hold_all(site: Site, database: Database, name: str) -> int:
    sessions, watch = list[Session](), Watch.of_s(GONE_S)
    while len(sessions) < MOST:
        try:
            sessions.append(database.session(name))
            site.held.append(sessions[-1])
        except SqlRefused as error:
            if error.code != FULL:
                raise
            if not _are_ending(sessions, alive=0) or not watch.pause(_AGAIN_S):
                return len(sessions)
    raise Refused(f"PostgreSQL took {MOST} connections and would take more")


def _are_ending(sessions: Sequence[Session], *, alive: int) -> bool:
    """Short sessions of ours, besides so many, take connections; asked on an open one, for another would take one."""
    try:
        return bool(sessions) and int(sessions[-1].ask(_OWN, (NAME,))[0][0]) > alive
    except ControlError:  # PostgreSQL ended it, or its fault is being lifted
        return True


def _not_in_force(site: Site, fault: PlannedFault) -> list[str]:
    held, there = site.facts.get("connections_held"), len(site.the_postgres().backends(session_name(fault)))
    return [] if held == there else [f"{held} connections were opened, and {there} are there"]


KIND = Kind(
    name="connection-exhaustion",
    problems=_problems,
    holds=lambda _: frozenset({"postgres connections"}),
    undo_of=on_postgres.undo_of,
    apply=_apply,
    not_in_force=_not_in_force,
    witness=ExhaustionWitness,
    undo=on_postgres.end_sessions,
    remaining=on_postgres.sessions_left,
    escalations=on_postgres.escalations,
    meets=lambda site, _: on_postgres.Newcomers(site.the_postgres()),
)
