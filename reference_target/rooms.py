"""Who gets an event?  Clients of one filter form a room; which rooms an event reaches is looked up once and remembered.

Pure bookkeeping: touches no socket and knows nothing of a client but that it is hashable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

C = TypeVar("C")
Key = tuple[str, "str | None", "str | None"]  # channel, pattern, symbol
MAX_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a client asked for; an empty set lets everything of its kind pass."""

    channels: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    symbols: frozenset[str] = frozenset()

    def passes(self, channel: str, pattern: str | None, symbol: str | None) -> bool:
        """Whether an event belongs to this filter; an event without pattern or symbol passes only an empty set."""
        return (
            (not self.channels or channel in self.channels)
            and (not self.patterns or pattern in self.patterns)
            and (not self.symbols or symbol in self.symbols)
        )


class Room(Generic[C]):
    """The clients of one filter, by transport."""

    __slots__ = ("filter", "plain", "socketio")

    def __init__(self, wanted: Filter) -> None:
        self.filter = wanted
        self.plain: dict[C, None] = {}
        self.socketio: dict[C, None] = {}

    def clients(self) -> Iterator[C]:
        """All clients of the room."""
        yield from self.plain
        yield from self.socketio

    def __len__(self) -> int:
        return len(self.plain) + len(self.socketio)


class Rooms(Generic[C]):
    """All rooms. A client is in at most one."""

    def __init__(self) -> None:
        self._rooms: dict[Filter, Room[C]] = {}
        self._home: dict[C, Room[C]] = {}
        self._remembered: dict[Key, tuple[Room[C], ...]] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    @property
    def subscribed(self) -> int:
        """Number of clients that are in a room."""
        return len(self._home)

    def join(self, client: C, wanted: Filter, *, socketio: bool) -> None:
        """Move a client to the room of a filter, out of the one where it was."""
        self.leave(client)
        room = self._rooms.get(wanted)
        if room is None:
            room = self._rooms[wanted] = Room(wanted)
            self._forget(wanted)
        (room.socketio if socketio else room.plain)[client] = None
        self._home[client] = room

    def leave(self, client: C) -> bool:
        """Take a client out of its room; False where it was in none."""
        room = self._home.pop(client, None)
        if room is None:
            return False
        room.plain.pop(client, None)
        room.socketio.pop(client, None)
        if not len(room):
            del self._rooms[room.filter]
            self._forget(room.filter)
        return True

    def match(self, channel: str, pattern: str | None, symbol: str | None) -> tuple[Room[C], ...]:
        """The rooms that an event reaches."""
        key = (channel, pattern, symbol)
        found = self._remembered.get(key)
        if found is None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            found = tuple(room for room in self._rooms.values() if room.filter.passes(channel, pattern, symbol))
            self._remembered[key] = found
        return found

    def room_of(self, client: C) -> Room[C] | None:
        """The room that a client is in."""
        return self._home.get(client)

    def clients(self) -> Iterable[C]:
        """All clients that are in a room."""
        return self._home.keys()

    def _forget(self, changed: Filter) -> None:
        # what the changed filter does not let pass is still right; so a storm of new clients costs only their own keys
        for key in [key for key in self._remembered if changed.passes(*key)]:
            del self._remembered[key]
