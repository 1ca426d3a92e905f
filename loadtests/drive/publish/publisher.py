"""Which Locust user writes to Redis?  It has a slot served; it knows no rate, no payload, no time."""

from __future__ import annotations

from loadtests.drive.run_context import Lease, RunContext
from loadtests.drive.slot_user import SlotUser
from loadtests.model.user_kinds import PUBLISHER


class EventPublisher(SlotUser):
    """One publisher slot of the profile."""

    kind = PUBLISHER.name

    def serve(self, context: RunContext, lease: Lease) -> None:
        """Publish the slot's plan."""
        context.publishing.serve(lease)

    def next_epoch(self, context: RunContext, lease: Lease) -> int:
        """As who serves it knows: a user that was killed meanwhile knows less."""
        return context.publishing.next_epoch(lease)
