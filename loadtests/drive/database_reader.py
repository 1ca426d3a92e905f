"""Which Locust user reads the database?  It holds a reader slot and asks its queries in turn, open loop."""

from __future__ import annotations

from typing import Any

from locust.env import Environment

from loadtests.drive import postgres
from loadtests.drive.open_loop import OpenLoop, RequestFailed
from loadtests.drive.run_context import Lease, RunContext
from loadtests.drive.slot_user import SlotUser
from loadtests.model.contract import group_of
from loadtests.model.records import Queried
from loadtests.model.registry import READER
from loadtests.tally.publishing import RequestTally


class DatabaseReader(SlotUser):
    """One reader slot of the profile, in the read-only role."""

    kind = READER.name

    def usable(self, context: RunContext) -> bool:
        """Whether the target names its PostgreSQL."""
        return context.addresses.postgres is not None

    def serve(self, context: RunContext, lease: Lease) -> None:
        """Ask until the plan is over, then hold the slot."""
        QueryReading(context, lease.slot, self.environment).run()
        context.over.wait()


class QueryReading(OpenLoop):
    """One reader slot at work. Raises IndexError beyond the plan, RuntimeError where psycopg2 would stop the hub."""

    def __init__(self, context: RunContext, slot: int, environment: Environment | None) -> None:
        if not postgres.is_cooperative():
            raise RuntimeError("psycopg2 would stop the hub: call drive.postgres.make_cooperative() in this process")
        assert context.addresses.postgres is not None
        group, spec = group_of(context.profile.readers, slot)
        super().__init__(
            context,
            environment,
            slot=f"reader:{slot}",
            rate_per_s=spec.rate_per_s,
            names=spec.queries,
            timeout_s=spec.timeout_s,
            tally=RequestTally(lambda query, **cell: Queried(readers=group, query=query, **cell)),
            shown="SQL",
        )
        self._spec = spec
        self._account = postgres.DatabaseLogin(
            address=context.addresses.postgres,
            database=context.profile.target.database,
            user=context.profile.target.read_user,
            timeout_s=spec.timeout_s,
        )
        self._connection: Any = None

    def ask(self, name: str) -> None:
        """One query, to its last row."""
        began_ns = self.context.clock.now_ns()
        try:
            if self._connection is None:
                self._connection = postgres.connect(self._account)
                self.connected(name, self.context.clock.now_ns() - began_ns)
            postgres.rows(self._connection, name, self._spec.timeout_s)
        except postgres.QueryError as error:
            raise RequestFailed(str(error)) from error

    def rest(self) -> None:
        """Keep no connection that is broken, or where each query is to have its own."""
        if self._connection is not None and (self._spec.connect_each or not postgres.usable(self._connection)):
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
