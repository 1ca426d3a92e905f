"""Slow queries: sessions of ours compute without end, so that everybody else's queries wait for the processor."""

from __future__ import annotations

import threading
import time
from statistics import median

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError
from loadtests.inject.kinds import on_postgres
from loadtests.inject.kinds.kind import Kind, Site
from loadtests.inject.kinds.on_postgres import PostgresWitness, longest_ms, session_name
from loadtests.inject.proofs import Effective, Proof, ms
from loadtests.inject.servers import Session
from loadtests.model.injectwire import PlannedFault

MOST = 200
LEAST_FACTOR = 1.3
"""A probe query that does not take so many times what it took before shows no effect."""

_ENDLESS = "DO $$ BEGIN LOOP PERFORM sqrt(2); END LOOP; END $$"
_PROBE = "DO $$ BEGIN FOR n IN 1..10000 LOOP PERFORM sqrt(n); END LOOP; END $$"  # some 10 ms of computing
_JOIN_S = 3.0
_CANCEL_S = 0.1
_CALM = 5
_UNDER = 5
_ACTIVE = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state = 'active'"


class Busy:
    """One session that computes in a thread of its own until it is closed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._thread = threading.Thread(target=self._compute, name="slow query", daemon=True)
        self._thread.start()

    def _compute(self) -> None:
        try:
            self._session.ask(_ENDLESS)
        except ControlError:
            return  # cancelled, or ended by another process

    def close(self) -> None:
        """Cancels its query and closes it; safe to repeat. A cancel that overtakes its query cancels nothing."""
        watch = Watch.of_s(_JOIN_S)
        while self._thread.is_alive() and not watch.over:
            self._session.cancel()
            self._thread.join(_CANCEL_S)
        if not self._thread.is_alive():
            self._session.close()


class SlowWitness(PostgresWitness):
    """Times a query that needs the processor."""

    def __init__(self, site: Site, fault: PlannedFault) -> None:
        super().__init__(site, fault)
        self.calm_ns: list[int] = []
        self._session: Session | None = None

    def before(self, watch: Watch) -> None:
        """The query's time without the fault."""
        self.calm_ns = self._times(_CALM, watch)

    def during(self, watch: Watch) -> Proof:
        """All sessions active, and the query clearly slower, is proof."""
        try:
            active = self._active(watch)
            under_ns = self._times(_UNDER, watch)
        except ControlError as error:
            return Proof(proved=False, reason=str(error))
        effective: Effective = {
            "sessions_active": active,
            "query_ms_before": ms(median(self.calm_ns)) if self.calm_ns else None,
            "query_ms": ms(median(under_ns)) if under_ns else None,
        }
        reason = ""
        if active < int(self.fault.asked["connections"]):
            reason = f"{active} sessions compute, asked were {self.fault.asked['connections']}"
        elif not self.calm_ns or not under_ns:
            reason = "the probe query could not be timed"
        elif median(under_ns) < LEAST_FACTOR * median(self.calm_ns):
            reason = "the probe query took hardly longer than before: the server has processors to spare"
        return Proof(proved=not reason, effective=effective, reason=reason)

    def _active(self, watch: Watch) -> int:
        """How many sessions compute, as soon as all do: each must get a turn first, as a thread and as a backend."""
        soon = watch.within_s(watch.left_s / 2)
        while True:
            active = int(self.database.ask(_ACTIVE, (session_name(self.fault),))[0][0])
            if active >= int(self.fault.asked["connections"]) or not soon.pause():
                return active

    def _times(self, count: int, watch: Watch) -> list[int]:
        found: list[int] = []
        try:
            self._session = self._session or self.database.session()
            while len(found) < count and not watch.over:
                began = time.monotonic_ns()
                self._session.ask(_PROBE)
                found.append(time.monotonic_ns() - began)
                watch.pause(0.02)
        except ControlError:
            self.close()
        return found

    def close(self) -> None:
        """Closes the probe's session."""
        if self._session is not None:
            self._session.close()
            self._session = None


def _problems(fault: PlannedFault) -> list[str]:
    wanted = fault.asked.get("connections")
    fits = isinstance(wanted, int) and 1 <= wanted <= MOST
    return [] if fits else [f"connections {wanted!r}: a whole number from 1 to {MOST} is needed"]


def _apply(site: Site, fault: PlannedFault) -> None:
    database, settings = site.the_postgres(), {"statement_timeout": longest_ms(fault)}
    for _ in range(int(fault.asked["connections"])):
        site.held.append(Busy(database.session(session_name(fault), settings=settings)))


def _not_in_force(site: Site, fault: PlannedFault) -> list[str]:
    there = len(site.the_postgres().backends(session_name(fault)))
    asked = int(fault.asked["connections"])
    return [] if there == asked else [f"{there} sessions are there, asked were {asked}"]


KIND = Kind(
    name="slow-queries",
    problems=_problems,
    holds=lambda _: frozenset({"postgres processor"}),
    undo_of=on_postgres.undo_of,
    apply=_apply,
    not_in_force=_not_in_force,
    witness=SlowWitness,
    undo=on_postgres.end_sessions,
    remaining=on_postgres.sessions_left,
    escalations=on_postgres.escalations,
    meets=lambda site, _: on_postgres.Queries(site.the_postgres()),
)
