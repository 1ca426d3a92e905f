"""What do faults on PostgreSQL share?  Sessions that carry the fault's own name, ended by that name; a calm witness."""

from __future__ import annotations

import os
import time
import zlib

from loadtests.inject.deadline import Watch
from loadtests.inject.encounter import OTHERS, Idle
from loadtests.inject.errors import ControlError, NotThere
from loadtests.inject.kinds.kind import Escalation, Site, Undo
from loadtests.inject.passage import Touch
from loadtests.inject.proofs import Effective, ms
from loadtests.inject.servers import Database, SqlRefused
from loadtests.model.ids import NS_PER_MS
from loadtests.model.injectwire import PlannedFault
from loadtests.model.records import ACTED, NOT_OBSERVABLE, NOTHING
from loadtests.model.stackwire import Ask

GONE_S = 5.0
"""How long ended sessions may take to be gone."""

MARGIN_MS = 10_000
"""So much after its fault a session ends by itself, should every process have died that could end it."""


class PostgresWitness:
    """Speaks to the server itself. A kind adds `during`."""

    def __init__(self, site: Site, fault: PlannedFault) -> None:
        self.site, self.fault = site, fault
        self.database: Database = site.the_postgres()

    def before(self, watch: Watch) -> None:
        """Nothing; a kind that measures something overrides it."""

    def last_look(self) -> None:
        """Nothing; likewise."""

    def after(self, _: Watch) -> Effective:
        """Whether a new connection of the readers' role is answered."""
        began = time.monotonic_ns()
        try:
            self.database.ask("SELECT 1", admin=False)
        except ControlError as error:
            return {"clean": 0, "probe": str(error)}
        return {"clean": 1, "probe": "answer", "rtt_ms": ms(time.monotonic_ns() - began)}

    def close(self) -> None:
        """Nothing stays open."""


_QUERIES = f"SELECT pid, query_start::text {OTHERS} AND query_start IS NOT NULL"
_SESSIONS = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
_EVERY_S = 0.05


class Queries(Idle):
    """Whether others than we query while a fault is in force: by the sessions that begin another query meanwhile.

    A query before it is not met.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def has_acted(self) -> None:
        """What is known so far is from before it."""
        self._seen = self._asked()

    def touch(self, watch: Watch) -> Touch:
        """Looks on until another session queries."""
        while True:
            now = self._asked()
            if now is None or self._seen is None:
                return Touch(touched=NOT_OBSERVABLE, why="PostgreSQL does not tell who queries it")
            if more := now - self._seen:
                return Touch(touched=ACTED, connections=len(more))
            if not watch.pause(_EVERY_S):
                return Touch(
                    touched=NOTHING, why="nobody of the run or the target queried PostgreSQL while it was in force"
                )

    def _asked(self) -> frozenset[tuple[int, str]] | None:
        try:
            return frozenset((int(pid), str(since)) for pid, since in self._database.ask(_QUERIES))
        except ControlError:
            return None


class Newcomers(Idle):
    """Whether others than we open sessions: by PostgreSQL's own count of them in the calm before a fault.

    Whom it keeps out leaves no trace at the server.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._first = self._last = self._ours = 0
        self._why = ""

    def start(self) -> None:
        """The count as it stands."""
        self._first, self._ours = self._counted(), self._database.opened

    def about_to_act(self) -> None:
        """The count now."""
        self._last, self._ours = self._counted(), self._database.opened - self._ours

    def touch(self, _: Watch) -> Touch:
        """Who came in the calm would have come under it."""
        if self._why:
            return Touch(touched=NOT_OBSERVABLE, why=f"PostgreSQL does not tell who connects: {self._why}")
        came = max(0, self._last - self._first - self._ours)
        why = "nobody of the run or the target opened a database connection in the 2 s before"
        return Touch(touched=ACTED if came else NOTHING, why=why, connections=came)

    def _counted(self) -> int:
        try:
            return int(self._database.ask(_SESSIONS)[0][0])
        except ControlError as error:
            self._why = str(error)
            return 0


def session_name(fault: PlannedFault) -> str:
    """What the fault's sessions call themselves: no other fault of this or another process does."""
    return f"tickstorm-fault-{os.getpid()}-{zlib.crc32(f'{fault.name} {fault.at_ns}'.encode()):08x}"


def longest_ms(fault: PlannedFault) -> int:
    """How long a session of the fault may live at most."""
    return (fault.until_ns - fault.at_ns) // NS_PER_MS + MARGIN_MS


def undo_of(site: Site, fault: PlannedFault) -> Undo:
    """The name of its sessions."""
    site.the_postgres()
    return {"sessions": session_name(fault)}


def end_sessions(site: Site, entry: Undo) -> None:
    """Closes those of this process, and ends at the server whatever still has the name."""
    site.let_go()
    database, name = site.the_postgres(), str(entry["sessions"])
    try:
        if database.backends(name):
            database.end_backends(name)
    except NotThere:
        return  # a server that is gone has no sessions


def settled(database: Database, name: str, count: int, watch: Watch) -> int:
    """How many sessions have this name, as soon as there are so many: one that was closed takes a moment to go."""
    while (there := len(database.backends(name))) != count and watch.pause(_EVERY_S):
        pass
    return there


def sessions_left(site: Site, entry: Undo) -> list[str]:
    """Sessions that are still there after a moment."""
    database, name = site.the_postgres(), str(entry["sessions"])
    watch = Watch.of_s(GONE_S)
    while True:
        try:
            pids = database.backends(name)
        except NotThere:
            return []
        except SqlRefused as error:  # it may be starting
            left = [str(error)]
        else:
            left = [f"backend {pid} is still there" for pid in pids]
        if not left or not watch.pause(_EVERY_S):
            return left


def escalations(site: Site, _: Undo) -> list[Escalation]:
    """A restart of the local stack's PostgreSQL."""
    supervisor = site.supervisor
    if supervisor is None:
        return []

    def restart() -> None:
        supervisor.ask(Ask(do="restart", service="postgres"))

    return [
        Escalation(
            name="restarted postgres",
            also_ends="every connection to postgres",
            act=restart,
            needs_answer=False,
            restarts="postgres",
        )
    ]
