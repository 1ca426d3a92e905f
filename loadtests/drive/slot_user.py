"""How does a Locust user get its place in a run?  It waits for the run, takes a slot of its kind, serves it, and parks.

    class Poller(SlotUser):
        kind = "poller"

        def serve(self, context: RunContext, lease: Lease) -> None:
            ...                      # until context.plan_over; records go to context.emit

A subclass holds no rate and no arithmetic: its slot says what it does, whichever process it is in.
"""

from __future__ import annotations

from itertools import chain, repeat
from typing import ClassVar

from gevent.event import Event
from locust import User, task

from loadtests.drive.run_context import Lease, NoSlot, RunContext, RunContextProvider


class SlotUser(User):
    """One place of the plan. A user that ends would be spawned again, so it parks."""

    abstract = True
    kind: ClassVar[str]
    """Name of its row in the table of user kinds."""

    @task
    def live(self) -> None:
        """Serve a slot until the run is over, then hold still."""
        provider: RunContextProvider = self.environment.tickstorm
        context = provider.context_of_run()
        if context is not None and self.usable(context):
            lease = self._lease(context)
            if lease is not None:
                try:
                    self.serve(context, lease)
                finally:
                    context.slots.give_back(lease, self.next_epoch(context, lease))
        Event().wait()

    def _lease(self, context: RunContext) -> Lease | None:
        """A slot; None where the run is over first. One may become free when a lost worker's are counted back in."""
        pauses = chain((1.0, 2.0, 4.0, 8.0), repeat(16.0))
        while True:
            try:
                return context.slots.take(self.kind)
            except NoSlot:
                if context.over.wait(next(pauses)):
                    return None

    def usable(self, context: RunContext) -> bool:
        """Whether this target has what such a user needs."""
        del context
        return True

    def serve(self, context: RunContext, lease: Lease) -> None:
        """Do the slot's part of the plan. Blocks this greenlet; Locust may kill it at any point."""
        raise NotImplementedError

    def next_epoch(self, context: RunContext, lease: Lease) -> int:
        """The first epoch that the slot's next holder may use, also where this user was killed."""
        del context
        return lease.epoch + 1
