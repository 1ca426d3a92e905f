"""Which Locust user holds a WebSocket?  A thin one: it takes a slot and lives that slot's life; Locust may stop it."""

from __future__ import annotations

from loadtests.drive.consume.consumer import Consuming
from loadtests.drive.run_context import Lease, RunContext
from loadtests.drive.slot_user import SlotUser
from loadtests.model.ids import NS_PER_MS
from loadtests.model.user_kinds import CONSUMER


class WebSocketClient(SlotUser):
    """One consumer, by the transport that its group in the profile names."""

    kind = CONSUMER.name
    _consuming: Consuming | None = None

    def serve(self, context: RunContext, lease: Lease) -> None:
        """Hold a subscription until the run is over."""
        consuming = self._consuming = Consuming(context, lease, self._tell)
        try:
            consuming.run()
        finally:
            consuming.stop()

    def next_epoch(self, context: RunContext, lease: Lease) -> int:
        """Each connection, and each group of failures that was noted, took one."""
        return lease.epoch if self._consuming is None else self._consuming.next_epoch

    def _tell(self, group: str, took_ns: int, problem: str) -> None:
        self.environment.events.request.fire(
            request_type="WS",
            name=f"connect {group}",
            response_time=took_ns / NS_PER_MS,
            response_length=0,
            exception=ConnectionError(problem) if problem else None,
            context={},
        )
