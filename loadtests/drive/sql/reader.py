"""Which Locust user reads the database?  It holds a reader slot and asks its queries in turn, open loop.

A query that had to wait for the one before it counts from the time when it was due; one that did not, from its start.
"""

from __future__ import annotations

from typing import Any

import gevent
from gevent.event import Event
from locust import User, task
from locust.env import Environment

from loadtests.drive.locust_stats import merge
from loadtests.drive.run_context import NoSlot, RunContext, Wired
from loadtests.drive.sql import postgres
from loadtests.model.ids import NS_PER_MS, NS_PER_S, slice_of
from loadtests.model.profile.workload import Readers
from loadtests.plan.pacing import Constant
from loadtests.plan.workload import phase_of
from loadtests.tally.querying import QueryTally

_SHOW_NS = NS_PER_S


class DatabaseReader(User):
    """One reader slot of the profile, in the read-only role."""

    @task
    def read(self) -> None:
        """Ask until the plan is over, then hold still."""
        wired: Wired = self.environment.tickstorm
        wiring = wired.wiring()
        if wiring is not None and wiring.addresses.postgres is not None:
            self._serve(wiring)
        Event().wait()

    def _serve(self, wiring: RunContext) -> None:
        try:
            lease = wiring.slots.take("reader")
        except NoSlot:
            return
        try:
            reading = QueryReading(wiring, lease.slot, self.environment)
            reading.run()
            wiring.over.wait()
        finally:
            wiring.slots.give_back(lease, lease.epoch + 1)


class QueryReading:
    """One reader slot at work. Raises IndexError beyond the plan, RuntimeError where psycopg2 would stop the hub."""

    def __init__(self, wiring: RunContext, slot: int, environment: Environment | None) -> None:
        if not postgres.is_cooperative():
            raise RuntimeError("psycopg2 would stop the hub: call drive.postgres.make_cooperative() in this process")
        assert wiring.addresses.postgres is not None
        self._wiring, self._environment = wiring, environment
        group, self._spec = _group(wiring.profile.readers, slot)
        self._pacer = Constant(self._spec.rate_per_s, phase_of(f"{wiring.profile.seed}:reader:{slot}"))
        self._tally = QueryTally(group)
        self._account = postgres.DatabaseLogin(
            address=wiring.addresses.postgres,
            database=wiring.profile.target.database,
            user=wiring.profile.target.read_user,
            timeout_s=self._spec.timeout_s,
        )
        self._connection: Any = None
        self._free_ns = 0  # when the query before was done with
        self._shown_ns = 0
        self._times: dict[str, dict[int, int]] = {}
        self._errors: dict[str, dict[str, int]] = {}

    def run(self) -> None:
        """Ask what is due, from T0 or now, until the plan is over. Blocks this greenlet."""
        wiring = self._wiring
        t0: int = wiring.t0.get()  # type: ignore[assignment]  # gevent says Optional for a get that does not block
        run = wiring.profile.run
        span = round((run.warm_up_s + run.duration_s) * NS_PER_S)
        index = self._pacer.before(wiring.clock.now_ns() - t0)
        self._free_ns = wiring.clock.now_ns()
        try:
            while (due := self._pacer.due(index)) < span and not wiring.plan_over.is_set():
                if self._sleep_until(t0 + due):
                    break
                self._ask(self._spec.queries[index % len(self._spec.queries)], t0 + due)
                index += 1
                self._show(_SHOW_NS)
        finally:
            self._drop()
            self._show(0)

    def _sleep_until(self, at_ns: int) -> bool:
        left = (at_ns - self._wiring.clock.now_ns()) / NS_PER_S
        return bool(left > 0 and self._wiring.plan_over.wait(left))

    def _ask(self, query: str, due_ns: int) -> None:
        clock, at = self._wiring.clock, slice_of(due_ns)
        began = clock.now_ns()
        if began - due_ns > self._spec.timeout_s * NS_PER_S:
            self._fail(query, at, "timeout: the queries before it left no time")
            return
        connecting = 0
        try:
            if self._connection is None:
                self._connection = postgres.connect(self._account)
                connecting = clock.now_ns() - began
                self._tally.connected(query, at, connecting)
            postgres.rows(self._connection, query, self._spec.timeout_s)
        except postgres.QueryError as error:
            self._fail(query, at, str(error))
        else:
            since = due_ns if self._free_ns > due_ns else began
            took = clock.now_ns() - since - connecting
            self._tally.answered(query, at, took)
            times = self._times.setdefault(query, {})
            ms = round(took / NS_PER_MS)
            times[ms] = times.get(ms, 0) + 1
        self._free_ns = clock.now_ns()
        if self._connection is not None and (self._spec.connect_each or not postgres.usable(self._connection)):
            self._drop()

    def _fail(self, query: str, at: int, why: str) -> None:
        self._tally.failed(query, at, why)
        errors = self._errors.setdefault(query, {})
        errors[why] = errors.get(why, 0) + 1
        gevent.sleep(0)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _show(self, every_ns: int) -> None:
        now = self._wiring.clock.now_ns()
        if now - self._shown_ns < every_ns:
            return
        self._shown_ns = now
        for record in self._tally.records():
            self._wiring.emit(record)
        times, self._times = self._times, {}
        errors, self._errors = self._errors, {}
        if self._environment is None:
            return
        for query in sorted(times.keys() | errors.keys()):
            of = times.get(query, {})
            total = float(sum(ms * count for ms, count in of.items()))
            merge(self._environment, "SQL", query, of, total, sum(of.values()), 0, errors.get(query, {}))


def _group(groups: list[Readers], slot: int) -> tuple[int, Readers]:
    for index, group in enumerate(groups):
        if slot < group.count:
            return index, group
        slot -= group.count
    raise IndexError("reader slot beyond the plan")
