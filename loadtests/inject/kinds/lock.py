"""Lock: a transaction of ours holds a table exclusively, so that every reader and writer of it waits."""

from __future__ import annotations

import re

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError
from loadtests.inject.kinds import on_postgres
from loadtests.inject.kinds.kind import Kind, Site
from loadtests.inject.kinds.on_postgres import PostgresWitness, longest_ms, session_name
from loadtests.inject.passage import Touch
from loadtests.inject.proofs import Effective, Proof
from loadtests.inject.servers import LOCKED, SqlRefused
from loadtests.model.injectwire import PlannedFault
from loadtests.model.records import ACTED, NOT_OBSERVABLE, NOTHING

TABLE = "events"
PROBE_WAIT_MS = 250
"""So long a probe waits for the table before it counts as locked."""

_GET_LOCK_MS = 4_000
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_HOLDERS = """
    SELECT held.pid FROM pg_locks held JOIN pg_stat_activity who ON who.pid = held.pid
    WHERE held.relation = to_regclass(%s) AND held.mode = 'AccessExclusiveLock' AND held.granted
      AND who.application_name = %s
"""
_WAITING = "SELECT count(*) FROM pg_locks WHERE relation = to_regclass(%s) AND NOT granted"


class LockWitness(PostgresWitness):
    """Reads the table as the readers do, with little patience."""

    def __init__(self, site: Site, fault: PlannedFault) -> None:
        super().__init__(site, fault)
        self.calm = ""

    def before(self, watch: Watch) -> None:
        """A table that cannot be read anyway shows no lock."""
        while (calm := self._read()) != "read" and watch.pause(0.1):
            pass
        self.calm = calm

    def during(self, watch: Watch) -> Proof:
        """A read that gave up waiting for the lock is proof. It has met traffic where another session waits for it."""
        while True:
            seen = self._read()
            if seen == "locked" or not watch.pause(0.1):
                break
        effective: Effective = {"table": table_of(self.fault), "read": seen, "waited_ms": PROBE_WAIT_MS}
        if seen == "locked":
            touch = self._waiting(watch)
            effective |= touch.effective() | {"waiting": touch.connections}
        effective |= self.site.facts
        if self.calm != "read":
            reason = f"the table could not be read before the fault either: {self.calm}"
            return Proof(proved=False, effective=effective, reason=reason)
        if seen == "locked":
            reason = "" if touch.touched == ACTED else touch.why
            return Proof(proved=True, effective=effective, reason=reason)
        return Proof(proved=False, effective=effective, reason=f"a probe saw: {seen}")

    def _waiting(self, watch: Watch) -> Touch:
        """Who waits for the table, once our own probe does not any more."""
        table = table_of(self.fault)
        while True:
            try:
                count = int(self.database.ask(_WAITING, (table,))[0][0])
            except ControlError as error:
                return Touch(touched=NOT_OBSERVABLE, why=str(error))
            if count or not watch.pause(0.1):
                break
        why = f"nobody waited for {table}: no query of the run or the target met the lock"
        return Touch(touched=ACTED if count else NOTHING, why=why, connections=count)

    def _read(self) -> str:
        try:
            session = self.database.session(settings={"lock_timeout": PROBE_WAIT_MS})
        except ControlError as error:
            return str(error)
        try:
            session.ask(f'SELECT 1 FROM "{table_of(self.fault)}" LIMIT 1')
        except SqlRefused as error:
            return "locked" if error.code == LOCKED else str(error)
        except ControlError as error:
            return str(error)
        finally:
            session.close()
        return "read"


def table_of(fault: PlannedFault) -> str:
    """The table that was asked, or the default."""
    return str(fault.asked.get("table", TABLE))


def _problems(fault: PlannedFault) -> list[str]:
    table = table_of(fault)
    return [] if _NAME.fullmatch(table) else [f'table "{table}": lower-case letters, digits and "_" are needed']


def _apply(site: Site, fault: PlannedFault) -> None:
    settings = {
        "lock_timeout": _GET_LOCK_MS,
        "idle_in_transaction_session_timeout": longest_ms(fault),
    }
    session = site.the_postgres().session(session_name(fault), admin=True, settings=settings)
    site.held.append(session)
    session.ask("BEGIN")
    session.ask(f'LOCK TABLE "{table_of(fault)}" IN ACCESS EXCLUSIVE MODE')
    site.facts["holder_pid"] = session.pid


def _not_in_force(site: Site, fault: PlannedFault) -> list[str]:
    rows = site.the_postgres().ask(_HOLDERS, (table_of(fault), session_name(fault)))
    return [] if rows else [f"no session of the fault holds {table_of(fault)}"]


KIND = Kind(
    name="lock",
    problems=_problems,
    holds=lambda fault: frozenset({f"postgres table {table_of(fault)}"}),
    undo_of=on_postgres.undo_of,
    apply=_apply,
    not_in_force=_not_in_force,
    witness=LockWitness,
    undo=on_postgres.end_sessions,
    remaining=on_postgres.sessions_left,
    escalations=on_postgres.escalations,
)
