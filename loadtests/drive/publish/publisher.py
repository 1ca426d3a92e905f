"""Which Locust user writes to Redis?  It has a slot served; it knows no rate, no payload, no time."""

from __future__ import annotations

from gevent.event import Event
from locust import User, task

from loadtests.drive.run_context import NoSlot, RunContext, Wired


class EventPublisher(User):
    """One publisher slot of the profile. A user that ends would be spawned again, so it parks."""

    @task
    def publish(self) -> None:
        """Serve a slot's plan until it is done, then hold still."""
        wired: Wired = self.environment.tickstorm
        wiring = wired.wiring()
        if wiring is not None:
            self._serve(wiring)
        Event().wait()

    def _serve(self, wiring: RunContext) -> None:
        try:
            lease = wiring.slots.take("publisher")
        except NoSlot:
            return
        next_epoch = lease.epoch
        try:
            next_epoch = wiring.publishing.serve(lease)
        finally:
            # Killed while it was being served, the user knows less than the one who served it.
            wiring.slots.give_back(lease, max(next_epoch, wiring.publishing.next_epoch(lease)))
