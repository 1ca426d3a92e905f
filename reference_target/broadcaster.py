"""How does a message from Redis reach every client that asked for it, once and in order?

Runs on the event loop and never waits. One batch is what one read from Redis brought; per room it becomes one piece of
bytes that all its clients share.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Sequence

from reference_target import frames
from reference_target.client import Client, Wanted
from reference_target.events import BadEventError, Event, parse
from reference_target.resp import Message
from reference_target.rooms import Room, Rooms
from reference_target.switches import Switches, SwitchValues

log = logging.getLogger(__name__)
HOLD_S = 1.0  # an event held back by `reorder_every` waits no longer for a successor


class Broadcaster:
    """Rooms, switches and counters between the subscriber and the clients."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.rooms: Rooms[Client] = Rooms()
        self.switches: Switches[Client] = Switches()
        self.bad: Counter[str] = Counter()
        self.received = 0
        self.forwarded = 0
        self.deliveries = 0
        self._delayed: deque[tuple[float, list[Event]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._flush: asyncio.TimerHandle | None = None
        self._logged_at = float("-inf")

    def subscribe(self, client: Client, wanted: Wanted, *, socketio: bool) -> None:
        """From now on the client gets what its filter lets pass, and nothing of a former subscription."""
        self._release(client)
        self.rooms.join(client, wanted.filter, socketio=socketio)
        client.wants_health = wanted.health

    def unsubscribe(self, client: Client) -> None:
        """From now on the client gets nothing."""
        self._release(client)
        self.rooms.leave(client)
        client.wants_health = False

    def forget(self, client: Client) -> None:
        """The client is gone."""
        self.switches.forget(client)
        self.rooms.leave(client)
        client.wants_health = False

    def switch(self, values: SwitchValues) -> None:
        """Set the switches; what an old switch held back goes out first."""
        for client in self.switches.holders():
            self._release(client)
        self.switches.set(values)

    def accept(self, messages: Sequence[Message]) -> None:
        """One read's messages from Redis. Bad ones are counted, never raised."""
        self.received += len(messages)
        switches = self.switches
        if switches.now.leak_bytes_per_message:
            switches.leak(len(messages))
        events: list[Event] = []
        for channel, payload in messages:
            try:
                event = parse(channel.decode(errors="replace"), payload)
            except BadEventError as bad:
                self._count_bad(bad)
                continue
            if switches.now.fail_every and switches.fails():
                continue
            events.append(event)
        self.forwarded += len(events)
        if switches.now.delay_ms or self._delayed:
            self._delayed.append((self._loop.time() + switches.now.delay_ms / 1000, events))
            if self._timer is None:
                self._timer = self._loop.call_at(self._delayed[0][0], self._after_delay)
        else:
            self._fan_out(events)

    def _after_delay(self) -> None:
        self._timer = None
        while self._delayed and self._delayed[0][0] <= self._loop.time() + 0.0005:
            self._fan_out(self._delayed.popleft()[1])
        if self._delayed:
            self._timer = self._loop.call_at(self._delayed[0][0], self._after_delay)

    def _fan_out(self, events: list[Event]) -> None:
        if self.switches.now.per_delivery:
            self._fan_out_switched(events)
            return
        match = self.rooms.match
        if len(events) == 1:
            event = events[0]
            for room in match(event.channel, event.pattern, event.symbol):
                self._deliver(room, events)
            return
        reached: dict[Room[Client], list[Event]] = {}
        for event in events:
            for room in match(event.channel, event.pattern, event.symbol):
                share = reached.get(room)
                if share is None:
                    reached[room] = [event]
                else:
                    share.append(event)
        for room, share in reached.items():
            self._deliver(room, share)

    def _deliver(self, room: Room[Client], events: list[Event]) -> None:
        sent = 0
        if room.plain:
            joined = frames.joined_plain(events)
            for client in room.plain:
                sent += client.deliver(joined, events)
        if room.socketio:
            joined = frames.joined_socketio(events)
            for client in room.socketio:
                sent += client.deliver(joined, events)
        self.deliveries += sent * len(events)

    def _fan_out_switched(self, events: list[Event]) -> None:
        for event in events:
            for room in self.rooms.match(event.channel, event.pattern, event.symbol):
                for client in room.clients():
                    for due in self.switches.deliveries(client, event):
                        self._deliver_one(client, due, socketio=client in room.socketio)
        if self.switches.holders() and self._flush is None:
            self._flush = self._loop.call_later(HOLD_S, self._flush_held)

    def _deliver_one(self, client: Client, event: Event, *, socketio: bool) -> None:
        frame = frames.socketio(event) if socketio else frames.plain(event)
        self.deliveries += client.deliver(frame, (event,))

    def _flush_held(self) -> None:
        self._flush = None
        for client in self.switches.holders():
            self._release(client)

    def _release(self, client: Client) -> None:
        room = self.rooms.room_of(client)
        for event in self.switches.held_of(client):
            if room is not None:
                self._deliver_one(client, event, socketio=client in room.socketio)

    def tell_health(self, health: object) -> None:
        """A health event to every client that asked for it."""
        for client in [client for client in self.rooms.clients() if client.wants_health]:
            client.tell("health", health)

    def _count_bad(self, bad: BadEventError) -> None:
        self.bad[bad.kind] += 1
        now = time.monotonic()
        if now - self._logged_at >= 1:
            self._logged_at = now
            log.warning("bad message (%s): %s; %d so far", bad.kind, bad, self.bad.total())
