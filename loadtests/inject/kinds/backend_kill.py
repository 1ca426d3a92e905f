"""Backend kill: PostgreSQL ends the sessions of its clients; nothing stays in force."""

from __future__ import annotations

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError
from loadtests.inject.kinds.kind import Kind, Site
from loadtests.inject.kinds.on_postgres import PostgresWitness
from loadtests.inject.proofs import Proof
from loadtests.inject.servers import Database
from loadtests.model.injectwire import PlannedFault

_CHOSEN = """
    SELECT pid, backend_start::text FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid()
      AND (application_name NOT LIKE 'tickstorm-%%' OR application_name = 'tickstorm-reader')
      AND (%s = '' OR usename = %s)
"""


class BackendKillWitness(PostgresWitness):
    """Compares who is there before and after, by process id and start."""

    def __init__(self, site: Site, fault: PlannedFault) -> None:
        super().__init__(site, fault)
        self.before_it: frozenset[tuple[int, str]] = frozenset()

    def last_look(self) -> None:
        """Who is connected."""
        try:
            self.before_it = chosen(self.database, self.fault)
        except ControlError:
            self.before_it = frozenset()

    def during(self, watch: Watch) -> Proof:
        """All of them gone is proof, where the fault ended at least one: the others may have gone by themselves."""
        back, ended = 0, self.site.ended
        while True:
            try:
                now = chosen(self.database, self.fault)
            except ControlError as error:  # one look that is not answered says nothing
                if not watch.pause(0.1):
                    return Proof(proved=False, reason=str(error))
                continue
            left, back = len((self.before_it | ended) & now), max(back, len(now - self.before_it))
            if (not left and back >= len(self.before_it)) or not watch.pause(0.1):
                break
        count, gone = len(self.before_it), len(self.before_it - now)
        effective = {**self.site.facts, "backends_before": count, "backends_gone": gone, "backends_new": back}
        if ended and not left:
            return Proof(proved=True, effective=effective)
        reason = "nobody of that sort was connected"
        if left:
            reason = f"{left} of them are still there"
        elif count:
            reason = "the fault ended none of them; those that are gone went by themselves"
        return Proof(proved=False, effective=effective, reason=reason)


def chosen(database: Database, fault: PlannedFault) -> frozenset[tuple[int, str]]:
    """The sessions that the fault means: those of one role, or all but our own; our readers are clients like others."""
    user = str(fault.asked.get("user", ""))
    return frozenset((int(pid), str(start)) for pid, start in database.ask(_CHOSEN, (user, user)))


def _apply(site: Site, fault: PlannedFault) -> None:
    database = site.the_postgres()
    found = dict(chosen(database, fault))
    rows = database.ask("SELECT pid, pg_terminate_backend(pid) FROM unnest(%s::int[]) AS each (pid)", (list(found),))
    site.ended.update((int(pid), found[int(pid)]) for pid, done in rows if done)
    site.facts["backends_ended"] = len(site.ended)


KIND = Kind(
    name="backend-kill",
    problems=lambda _: [],
    holds=lambda _: frozenset({"service postgres", "backend-kill"}),
    undo_of=lambda _site, _fault: {},
    apply=_apply,
    not_in_force=lambda _site, _fault: [],
    witness=BackendKillWitness,
    undo=lambda _site, _entry: None,
    remaining=lambda _site, _entry: [],
    escalations=lambda _site, _entry: [],
)
