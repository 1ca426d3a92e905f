"""What does each client get instead of the truth?  Carries out the rules of the plan and books each lie.

Dispatch is per room: whom no rule chooses is served by one loop of plain sends.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from lying_gateway.book import Book
from lying_gateway.client import Client, PutOff
from lying_gateway.event import ROUTE_MASK, Event
from lying_gateway.outlet import NOTHING, Outlet
from lying_gateway.plan import Rule
from lying_gateway.rooms import Room, Rooms
from lying_gateway.spurious import Spurious
from lying_gateway.timers import Timers

_LATE_NS: Final = 100_000_000
"""How long past its end by the clock a window may stay open when no later message closes it."""


class _Window:
    """The present interval of one conflated route."""

    __slots__ = ("at_once", "closes_ns", "waiting")

    def __init__(self) -> None:
        self.closes_ns = 0
        self.at_once = NOTHING  # the message that opened it
        self.waiting: dict[Client, PutOff] = {}


class Liar:
    """Sends messages, or what the plan wants in their place."""

    def __init__(self, rooms: Rooms, outlet: Outlet, book: Book, timers: Timers) -> None:
        self._rooms = rooms
        self._outlet = outlet
        self._book = book
        self._timers = timers
        self._spurious = Spurious()
        self._windows: dict[tuple[int, int], _Window] = {}
        self._queues: dict[tuple[int, str], tuple[Rule, dict[Client, deque[PutOff]]]] = {}  # open, by rule and run
        self._closed: set[tuple[int, str]] = set()
        self._ways: dict[str, Callable[[Rule, Client, Event], None]] = {
            "lost": self._lose,
            "held": self._lose,
            "silent": self._lose,
            "altered": self._change,
            "restamped": self._change,
            "oversize": self._change,
            "repeated": self._repeat,
            "reordered": self._reorder,
            "queued": self._queue,
            "conflated": self._conflate,
        }

    def tell(self, event: Event) -> None:
        """Send a message to all to whom it is owed, as the plan has it."""
        spoil = event.may_be_spoilt
        if spoil:
            self._spurious.seen(event)
            if self._queues:
                self._close_queues(event)
        outlet = self._outlet
        for room in self._rooms.match(event):
            frame = event.frame(room.transport)
            lies = self._lies(room, event) if spoil and room.rules else None
            straight: Iterable[Client] = room.straight()
            special = tuple(room.special) if room.special else ()
            if lies:
                straight = [client for client in straight if client not in lies]
            outlet.send_all(straight, frame, event.n)
            for client in special:
                if not lies or client not in lies:
                    self._send(client, event)
            if lies:
                self._carry_out(lies, event)

    def settle(self, client: Client, *, send: bool) -> None:
        """The client leaves: what was put off for it goes out now, or never."""
        waiting = [entry for of_stream in client.put_off.values() for entry in of_stream]
        for entry in sorted(waiting, key=lambda entry: entry.event.n):
            if send:
                self._release(entry, "left")
            else:
                self._give_up(entry, "left")

    def note(self, kind: str, rule: int, client: Client, event: Event, at_ns: int, **own: Any) -> None:
        """Book a lie."""
        self._book.write(
            "lie",
            kind=kind,
            rule=rule,
            connection=client.connection,
            consumer=client.name.consumer,
            epoch=client.name.epoch,
            n=event.n,
            stream=event.stream if event.run is not None else None,
            seq=event.seq if event.run is not None else None,
            at_ns=at_ns,
            **own,
        )

    # -- whom a rule concerns

    def _lies(self, room: Room, event: Event) -> dict[Client, Rule] | None:
        lies: dict[Client, Rule] | None = None
        for rule in room.rules:
            if rule.matches(event):
                if rule.kind == "queued" and (rule.index, event.run) in self._closed:
                    continue
                for client in room.chosen(rule, event):
                    if lies is None:
                        lies = {client: rule}
                    elif client not in lies:
                        lies[client] = rule
        return lies

    def _carry_out(self, lies: dict[Client, Rule], event: Event) -> None:
        delayed: dict[int, list[PutOff]] = {}
        for client, rule in lies.items():
            if rule.kind == "delayed":
                delayed.setdefault(rule.index, []).append(self._put_off(rule, client, event))
            elif rule.kind in self._ways:
                self._ways[rule.kind](rule, client, event)
            else:
                self._spoil(rule, client, event)
        for entries in delayed.values():
            self._timers.at(entries[0].at_ns + entries[0].rule.wait_ns, partial(self._release_all, entries))

    # -- sending, with an eye on what was put off

    def _send(self, client: Client, event: Event) -> None:
        self._outlet.put(client, event.frame(client.transport), event.n)
        waiting = client.put_off.get(event.stream) if client.put_off and event.run is not None else None
        if not waiting:
            return
        ready = []
        for entry in waiting:
            if entry.event.seq < event.seq and entry.event.run == event.run:
                entry.passed += 1
                if entry.wanted and entry.passed >= entry.wanted:
                    ready.append(entry)
        for entry in ready:
            self._release(entry, "in time")

    def _put_off(self, rule: Rule, client: Client, event: Event, wanted: int = 0) -> PutOff:
        entry = PutOff(rule, client, event, time.monotonic_ns(), wanted)
        client.put_off.setdefault(event.stream, []).append(entry)
        client.refresh()
        return entry

    def _forget(self, entry: PutOff) -> None:
        entry.settled = True
        client = entry.client
        waiting = client.put_off[entry.event.stream]
        waiting.remove(entry)
        if not waiting:
            del client.put_off[entry.event.stream]
        client.refresh()

    def _release(self, entry: PutOff, why: str) -> None:
        if entry.settled:
            return
        self._forget(entry)
        passed = entry.passed
        at_ns = time.monotonic_ns()
        self._send(entry.client, entry.event)
        self.note(
            entry.rule.kind, entry.rule.index, entry.client, entry.event, entry.at_ns,
            out_ns=at_ns, after=passed, why=why,
        )  # fmt: skip

    def _release_all(self, entries: Iterable[PutOff], why: str = "in time") -> None:
        for entry in entries:
            self._release(entry, why)

    def _give_up(self, entry: PutOff, why: str, **own: Any) -> None:
        if not entry.settled:
            self._forget(entry)
            self.note(
                entry.rule.kind, entry.rule.index, entry.client, entry.event, entry.at_ns,
                out_ns=None, after=entry.passed, why=why, **own,
            )  # fmt: skip

    # -- the kinds

    def _lose(self, rule: Rule, client: Client, event: Event) -> None:
        self.note(rule.kind, rule.index, client, event, time.monotonic_ns())

    def _repeat(self, rule: Rule, client: Client, event: Event) -> None:
        self._send(client, event)
        for _ in range(rule.times):
            self._outlet.put(client, event.frame(client.transport), event.n)
        self.note(rule.kind, rule.index, client, event, time.monotonic_ns(), times=rule.times)

    def _reorder(self, rule: Rule, client: Client, event: Event) -> None:
        entry = self._put_off(rule, client, event, rule.after)
        self._timers.at(entry.at_ns + rule.within_ns, partial(self._release, entry, "late"))

    def _change(self, rule: Rule, client: Client, event: Event) -> None:
        self._outlet.put(client, self._spurious.changed(rule, client, event), event.n)
        self.note(rule.kind, rule.index, client, event, time.monotonic_ns())

    def _change(self, rule: Rule, client: Client, event: Event) -> None:
        self._outlet.put(client, self._spurious.changed(rule, client, event), event.n)
        self.note(rule.kind, rule.index, client, event, time.monotonic_ns())

    def _spoil(self, rule: Rule, client: Client, event: Event) -> None:
        data, own = self._spurious.make(rule.kind, client, event)
        if not rule.instead:
            self._send(client, event)
        self._outlet.spoil(client, data)
        self.note(rule.kind, rule.index, client, event, time.monotonic_ns(), instead=rule.instead, **own)

    def _queue(self, rule: Rule, client: Client, event: Event) -> None:
        assert event.run is not None
        assert rule.to_ns is not None
        key = (rule.index, event.run)
        if key not in self._queues:
            self._queues[key] = (rule, {})
            self._timers.after(rule.to_ns - event.since_ns + _LATE_NS, partial(self._replay, key))
        queue = self._queues[key][1].setdefault(client, deque())
        queue.append(self._put_off(rule, client, event))
        if rule.limit is not None and len(queue) > rule.limit:
            self._give_up(queue.popleft(), "limit")

    def _close_queues(self, event: Event) -> None:
        for key, (rule, _) in list(self._queues.items()):
            if event.run == key[1] and rule.to_ns is not None and event.since_ns >= rule.to_ns:
                self._replay(key)

    def _replay(self, key: tuple[int, str]) -> None:
        if key not in self._queues:
            return
        rule, queues = self._queues.pop(key)
        self._closed.add(key)
        now_ns = time.monotonic_ns()
        for queue in queues.values():
            for entry in queue:
                if rule.max_age_ns is not None and now_ns - entry.at_ns > rule.max_age_ns:
                    self._give_up(entry, "age")
                else:
                    self._release(entry, "in time")

    def _conflate(self, rule: Rule, client: Client, event: Event) -> None:
        route = event.stream & ROUTE_MASK
        window = self._windows.get((rule.index, route))
        if window is None:
            window = self._windows[rule.index, route] = _Window()
        now_ns = time.monotonic_ns()
        if window.at_once != event.n and now_ns >= window.closes_ns and not window.waiting:
            window.at_once, window.closes_ns = event.n, now_ns + rule.wait_ns
        if window.at_once == event.n:
            self._send(client, event)
            return
        if not window.waiting:
            self._timers.at(window.closes_ns, partial(self._newest, rule, window))
        older = window.waiting.pop(client, None)
        if older is not None:
            self._give_up(older, "replaced", by=event.n)
        window.waiting[client] = self._put_off(rule, client, event)

    def _newest(self, rule: Rule, window: _Window) -> None:
        waiting, window.waiting = window.waiting, {}
        window.closes_ns = time.monotonic_ns() + rule.wait_ns
        self._release_all(list(waiting.values()))
