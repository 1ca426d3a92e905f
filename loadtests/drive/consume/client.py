"""Which Locust user holds a WebSocket?  A thin one: it takes a slot and lives that slot's life; Locust may stop it."""

from __future__ import annotations

from gevent.event import Event
from locust import User, task

from loadtests.drive.consume.consuming import Consuming
from loadtests.drive.run_context import NoSlot, Wired
from loadtests.model.ids import NS_PER_MS


class WebSocketClient(User):
    """One consumer: plain WebSocket or Socket.IO, as its group in the profile says."""

    abstract = False

    @task
    def consume(self) -> None:
        """Hold a subscription until the run is over, then park: a user that ended would be spawned again."""
        wired: Wired = self.environment.tickstorm
        wiring = wired.wiring()
        if wiring is not None:
            try:
                lease = wiring.slots.take("consumer")
            except NoSlot:
                lease = None
            if lease is not None:
                consuming = Consuming(wiring, lease, self._tell)
                try:
                    consuming.run()
                finally:
                    consuming.stop()
                    wiring.slots.give_back(lease, consuming.next_epoch)
        Event().wait()

    def _tell(self, group: str, took_ns: int, problem: str) -> None:
        self.environment.events.request.fire(
            request_type="WS",
            name=f"connect {group}",
            response_time=took_ns / NS_PER_MS,
            response_length=0,
            exception=ConnectionError(problem) if problem else None,
            context={},
        )
