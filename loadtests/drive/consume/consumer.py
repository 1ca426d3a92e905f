"""What does one consumer do in a run?  Connects, subscribes, parks; reconnects by its profile's policy till the end.

`WebSocketClient` is the Locust user: it takes a slot and runs a `Consuming` for it; Locust may kill it at any point.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

import gevent
from gevent import socket as gsocket
from gevent.event import Event
from gevent.hub import Waiter

from loadtests.drive.consume.connection import Connection
from loadtests.drive.consume.consumer_faults import ConsumerFaults
from loadtests.drive.consume.handshake import BeyondUsError, RefusedError, UnauthorizedError, agent
from loadtests.drive.consume.health import is_ours
from loadtests.drive.consume.transport import Call
from loadtests.drive.dialing import connected, tls_context, wrap_tls
from loadtests.drive.locust_stats import ConnectFailed, connect_failure
from loadtests.drive.run_context import Lease, RunContext
from loadtests.drive.slot_user import SlotUser
from loadtests.model.ids import NS_PER_MS, NS_PER_S
from loadtests.model.profile.workload import Reconnect
from loadtests.model.registry import CONSUMER, TRANSPORTS

OPEN_S: Final = 10.0
"""How long connecting and upgrading together may take, and then the subscription's confirmation."""
GOODBYE_S: Final = 2.0
_SLOW_BUFFER: Final = 8192
_VERSION: Final = version("tickstorm")

Tell = Callable[[str, str, int, str], None]
"""Called after each attempt: transport as it is shown, consumer group, nanoseconds taken, error (empty: none)."""


def delays_s(policy: Reconnect, seed: str) -> Callable[[int], float]:
    """How long to wait before the n-th attempt in a row (from 0), jitter drawn in turn from a seed."""
    draw: random.Random | None = None

    def delay_s(attempt: int) -> float:
        nonlocal draw
        if draw is None:  # it takes 2.5 KB, and most consumers never reconnect
            draw = random.Random(seed)
        exact = min(policy.first_ms * policy.factor ** min(attempt, 64), policy.max_ms)
        return exact * (1 + policy.jitter * draw.uniform(-1, 1)) / 1000

    return delay_s


class Consuming:
    """The life of one consumer slot under one lease."""

    __slots__ = (
        "_connection",
        "_context",
        "_delay_s",
        "_failure_noted_ns",
        "_faults",
        "_plan",
        "_spec",
        "_tell",
        "next_epoch",
    )  # fmt: skip

    def __init__(self, context: RunContext, lease: Lease, tell: Tell) -> None:
        self._context = context
        self._plan = context.contract.consumer(lease.slot)
        self._spec = context.profile.consumers[self._plan.group]
        self._tell = tell
        self._connection: Connection | None = None
        self._delay_s = delays_s(self._spec.reconnect, f"{context.profile.seed}:reconnect:{lease.slot}")
        self._failure_noted_ns = -NS_PER_S
        self.next_epoch = lease.epoch
        self._faults = ConsumerFaults(context, lease.slot, self._spec.read_bytes_per_s)

    def run(self) -> None:
        """Stay subscribed until the run is over."""
        over = self._context.over
        attempt = 0
        self._context.user_faults.join(self._faults)
        while not over.is_set():
            if self._subscribe():
                attempt = 0
                self._park()
            if not over.is_set():
                attempt = self._faults.wait_turn(attempt, self._delay_s)

    def stop(self) -> None:
        """Locust took this user away: leave at once, without waiting for an answer."""
        self._context.user_faults.leave(self._faults)
        connection = self._connection
        if connection is not None and connection.end is None:
            receiver, now_ns = self._context.receiver, self._context.clock.now_ns()
            receiver.step(connection, "leaving", now_ns)
            receiver.say_goodbye(connection)
            receiver.end(connection, now_ns, "moved")

    def _subscribe(self) -> bool:
        """One attempt, up to the confirmed subscription."""
        began_ns = self._context.clock.now_ns()
        try:
            connection = self._connect()
        except (OSError, RefusedError) as error:
            ours = isinstance(error, BeyondUsError) or (isinstance(error, OSError) and is_ours(error))
            now_ns = self._context.clock.now_ns()
            if isinstance(error, UnauthorizedError):
                self._faults.refused()
            self._attempted(began_ns, connect_failure(error))
            if now_ns - self._failure_noted_ns >= NS_PER_S:
                self._failure_noted_ns = now_ns
                self._context.receiver.not_connected(self._plan, self.next_epoch, now_ns, str(error), ours=ours)
                self.next_epoch += 1
            return False
        problem = self._confirm(connection)
        if not problem:
            self._faults.arrived(connection)
        elif connection.end is not None and connection.end.why == "refused":
            self._faults.refused()
        self._attempted(began_ns, f"subscription failed: {problem}" if problem else "")
        return not problem

    def _attempted(self, began_ns: int, failure: str) -> None:
        shown = TRANSPORTS[self._spec.transport].shown
        self._tell(shown, self._spec.name, self._context.clock.now_ns() - began_ns, failure)

    def _connect(self) -> Connection:
        """Connect, upgrade, hand over. Raises OSError (TimeoutError too) and RefusedError."""
        context = self._context
        target = context.profile.target
        host, port = context.addresses.gateway
        sock: Any = None
        handed_over = False
        try:
            with gevent.Timeout(OPEN_S, TimeoutError(f"not connected within {OPEN_S:g} s")):
                sock = connected((host, port), self._prepare)
                if target.tls:
                    context.tls = context.tls or tls_context(target)
                    sock = wrap_tls(sock, context.tls, target, host)
                token = self._faults.present()
                sock, behind = context.receiver.transport(self._plan).open(
                    sock,
                    Call(
                        host=host,
                        port=port,
                        target=target,
                        plan=self._plan,
                        agent=agent(_VERSION, context.run, self._plan.slot, self.next_epoch),
                        token=token,
                        message_bytes=context.profile.guard.message_bytes,
                    ),
                )
            handed_over = True
            self._connection = context.receiver.add(
                sock,
                plan=self._plan,
                epoch=self.next_epoch,
                behind=behind,
                read_bytes_per_s=self._spec.read_bytes_per_s,
                token=token,
            )
        finally:
            if sock is not None and not handed_over:
                sock.close()
        self.next_epoch += 1
        return self._connection

    def _prepare(self, sock: Any) -> None:
        if self._spec.read_bytes_per_s is not None:
            sock.setsockopt(gsocket.SOL_SOCKET, gsocket.SO_RCVBUF, _SLOW_BUFFER)

    def _confirm(self, connection: Connection) -> str:
        """Ask for the subscription and wait for its confirmation; what went wrong, empty for nothing.

        The end of the run waits for no answer: a consumer without one leaves.
        """
        receiver, clock, over = self._context.receiver, self._context.clock, self._context.over
        gevent.wait([connection.ready, over], timeout=OPEN_S, count=1)
        if not connection.ready.is_set():
            if over.is_set():
                return self._leave_unconfirmed(connection)
            receiver.end(connection, clock.now_ns(), "error", f"no session within {OPEN_S:g} s")
        if connection.end is not None:
            return connection.end.why
        receiver.step(connection, "asked", clock.now_ns())
        if not connection.transport.asks:
            receiver.step(connection, "confirmed", clock.now_ns())
            return ""
        body: dict[str, Any] = {
            "channels": list(self._plan.channels),
            "patterns": list(self._plan.patterns),
            "symbols": list(self._plan.symbols),
        }
        if self._spec.subscribe.health:
            body["health"] = True
        answer = receiver.ask(connection, "subscribe", body)
        gevent.wait([answer, over], timeout=OPEN_S, count=1)
        confirmed = answer.value if answer.ready() else None
        if confirmed is None:
            if over.is_set():
                return self._leave_unconfirmed(connection)
            receiver.end(connection, clock.now_ns(), "error", f"no confirmation within {OPEN_S:g} s")
            return "no confirmation"
        if confirmed.refused:
            receiver.end(connection, clock.now_ns(), "refused", confirmed.refused)
            return "refused"
        receiver.step(connection, "confirmed", confirmed.at_ns)
        return ""

    def _leave_unconfirmed(self, connection: Connection) -> str:
        receiver = self._context.receiver
        receiver.say_goodbye(connection)
        receiver.end(connection, self._context.clock.now_ns(), "own", "not confirmed when the run ended")
        return "the run is over"

    def _park(self) -> None:
        """Wait until the connection or the run is over; leave in good order at the run's end or where a fault asks."""
        connection = self._connection
        assert connection is not None
        _first_of(connection.over, self._context.over, self._faults.go)
        if connection.end is not None:
            return
        why, detail = ("own", "") if self._context.over.is_set() else ("fault", self._faults.why_go)
        receiver, clock = self._context.receiver, self._context.clock
        receiver.step(connection, "leaving", clock.now_ns())
        asks = connection.transport.asks
        answer = receiver.ask(connection, "unsubscribe", {}).wait(GOODBYE_S) if asks else None
        receiver.say_goodbye(connection)
        receiver.end(connection, clock.now_ns() if answer is None else answer.at_ns, why, detail)


def _first_of(*events: Event) -> None:
    """Wait until one of them is set. Where thousands of consumers wait, what `gevent.wait` builds is 3 KB for each."""
    waiter: Any = Waiter()
    wake = waiter.switch
    try:
        for event in events:
            event.rawlink(wake)
        waiter.get()
    finally:
        for event in events:
            event.unlink(wake)


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

    def _tell(self, shown: str, group: str, took_ns: int, problem: str) -> None:
        self.environment.events.request.fire(
            request_type=shown,
            name=f"connect {group}",
            response_time=took_ns / NS_PER_MS,
            response_length=0,
            exception=ConnectFailed(problem) if problem else None,
            context={},
        )
