"""Who is owed a message?  Clients of one filter, transport and set of rules share a room; matches are remembered.

Bookkeeping only: no socket, no frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lying_gateway.event import Event, Transport
from lying_gateway.plan import Rule

if TYPE_CHECKING:
    from lying_gateway.client import Client

_REMEMBERED: Final = 50_000


@dataclass(frozen=True, slots=True)
class Filter:
    """What a client asked for; an empty list lets everything of its kind pass."""

    channels: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()

    def passes(self, channel: str, pattern: str | None, symbol: str | None) -> bool:
        """Whether a message belongs to it."""
        return (
            (not self.channels or channel in self.channels)
            and (not self.patterns or pattern in self.patterns)
            and (not self.symbols or symbol in self.symbols)
        )


class Room:
    """Clients for whom every message is the same bytes and the same rules."""

    __slots__ = ("_buckets", "_marks", "_straight", "filter", "members", "rules", "special", "transport")

    def __init__(self, wanted: Filter, transport: Transport, rules: tuple[Rule, ...]) -> None:
        self.filter = wanted
        self.transport: Transport = transport
        self.rules = rules
        self.members: dict[Client, None] = {}
        self.special: set[Client] = set()  # those with something queued or put off: no plain send
        self._straight: tuple[Client, ...] | None = None
        self._buckets: dict[int, dict[int, list[Client]]] = {}  # rule -> phase -> clients
        self._marks: dict[int, list[tuple[Client, int]]] = {}  # rule -> clients with their marks

    def straight(self) -> tuple[Client, ...]:
        """The members to whom a plain send will do."""
        if self._straight is None:
            self._straight = tuple(client for client in self.members if client not in self.special)
        return self._straight

    def mark(self, client: Client, *, special: bool) -> None:
        """A member is special from now on, or no more."""
        (self.special.add if special else self.special.discard)(client)
        self._straight = None

    def changed(self) -> None:
        """Forget what was computed of the members."""
        self._straight = None
        self._buckets.clear()
        self._marks.clear()

    def chosen(self, rule: Rule, event: Event) -> Iterable[Client]:
        """The members whom a rule that matches a message chooses."""
        if rule.every > 1:
            buckets = self._buckets.get(rule.index)
            if buckets is None:
                buckets = self._buckets[rule.index] = {}
                for client in self.members:
                    buckets.setdefault(rule.phase(client.number), []).append(client)
            return buckets.get(rule.residue(event), ())
        if rule.share < 1.0:
            marks = self._marks.get(rule.index)
            if marks is None:
                marks = self._marks[rule.index] = [(client, rule.mark(client.number)) for client in self.members]
            return rule.chosen(marks, event)
        return self.members


class Rooms:
    """All rooms. A client is in at most one."""

    def __init__(self) -> None:
        self._rooms: dict[tuple[Filter, Transport, tuple[int, ...]], Room] = {}
        self._remembered: dict[tuple[str, str | None, str | None], tuple[Room, ...]] = {}

    def join(self, client: Client, wanted: Filter, rules: tuple[Rule, ...]) -> Room:
        """Put a client that is in no room into one."""
        key = (wanted, client.transport, tuple(rule.index for rule in rules))
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = Room(wanted, client.transport, rules)
            self._remembered.clear()
        room.members[client] = None
        room.changed()
        return room

    def leave(self, client: Client, room: Room) -> None:
        """Take a client out."""
        room.members.pop(client, None)
        room.special.discard(client)
        room.changed()
        if not room.members:
            self._rooms.pop((room.filter, room.transport, tuple(rule.index for rule in room.rules)), None)
            self._remembered.clear()

    def match(self, event: Event) -> tuple[Room, ...]:
        """The rooms that a message reaches."""
        key = (event.channel, event.pattern, event.symbol)
        found = self._remembered.get(key)
        if found is None:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            found = self._remembered[key] = tuple(room for room in self._rooms.values() if room.filter.passes(*key))
        return found
