"""Which faults do the users of this process play, and how far are they?  Orders in, counts out; knows no socket.

What a user does in a fault is a `UserFault`: the class that the row of its kind names in `plays`.

A fault that users play ends by itself: at its end a timer of this process stops it, whatever became of the injector.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import gevent

from loadtests.model.fault_kinds import KINDS, named
from loadtests.model.ids import NS_PER_MS, NS_PER_S
from loadtests.model.injectwire import UserFaultOrder
from loadtests.model.kinds import part

_AT_ONCE: Final = 16  # users that act before the process's other greenlets may run
_LET_OTHERS_S: Final = 0.001
_GAUGED: Final = 256  # users that the kernel is asked about, at most
_GAUGE_AGAIN_NS: Final = NS_PER_S // 4

READING: Final = named(lambda kind: kind.unread)
"""Kinds that change how a connection is read; they are proved by what the kernel says."""


Key = tuple[str, int]


class PlayedFault:
    """One fault that users of this process play."""

    def __init__(self, order: UserFaultOrder, slots: Iterable[int]) -> None:
        self.order = order
        place = KINDS[order.kind].place
        self.chosen = frozenset((place, slot) for slot in slots)
        self.counts: Counter[str] = Counter()
        self.once: dict[str, set[int]] = {}  # count -> slots that it counts at least once
        self.over = False
        self.timer: gevent.Greenlet[..., Any] | None = None
        self.gauged: dict[str, int] = {}
        self.gauged_ns = -_GAUGE_AGAIN_NS

    def count(self, what: str, slot: int) -> None:
        """One more; `what_once` is how many users that concerns."""
        self.counts[what] += 1
        seen = self.once.setdefault(what, set())
        if slot not in seen:
            seen.add(slot)
            self.counts[f"{what}_once"] += 1

    def told(self) -> dict[str, int]:
        """The counts so far."""
        return dict(self.counts) | self.gauged


class UserFaultReading(NamedTuple):
    """How one user's connection was read since it plays."""

    unread: int  # bytes in the kernel
    read: int  # bytes that we took
    for_ns: int


class Player(Protocol):
    """A user that can play faults."""

    @property
    def key(self) -> Key:
        """Its place (`consumers` or `publishers`) and slot."""
        ...

    def begin(self, play: PlayedFault) -> None:
        """Play it from now on; returns at once."""
        ...

    def finish(self, play: PlayedFault) -> None:
        """Play it no more; returns at once. Safe to repeat."""
        ...

    def in_force(self, play: PlayedFault) -> bool:
        """Whether it is with this user as the fault asks."""
        ...

    def reading(self, play: PlayedFault) -> UserFaultReading | None:
        """How it is read; None where there is no connection or the kernel does not say."""
        ...


class UserFault:
    """One fault as one user plays it, made when it begins: what a kind does is a subclass. Nothing here may wait."""

    def __init__(self, user: Any, play: PlayedFault) -> None:
        self.user, self.play = user, play

    def begin(self) -> None:
        """Do it from now on."""

    def finish(self) -> None:
        """Do it no more."""

    @property
    def in_force(self) -> bool:
        """Whether it is with this user as the fault asks."""
        raise NotImplementedError

    @property
    def reading(self) -> UserFaultReading | None:
        """How the user's connection is read since it plays; None where nothing is known."""
        return None


Played = TypeVar("Played", bound=UserFault)


class FaultPlayer(Generic[Played]):
    """A user that plays faults: one `UserFault` for each, of the class that the kind's row names."""

    __slots__ = ("faults", "key")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.faults: dict[str, Played] = {}

    def begin(self, play: PlayedFault) -> None:
        """Play it from now on."""
        fault: Played = part(KINDS[play.order.kind].plays)(self, play)
        self.faults[play.order.fault] = fault
        fault.begin()

    def finish(self, play: PlayedFault) -> None:
        """Play it no more."""
        fault = self.faults.pop(play.order.fault, None)
        if fault is not None:
            fault.finish()

    def in_force(self, play: PlayedFault) -> bool:
        """Whether it is with this user as the fault asks."""
        fault = self.faults.get(play.order.fault)
        return fault is not None and fault.in_force

    def reading(self, play: PlayedFault) -> UserFaultReading | None:
        """How this user is read since it plays; None where nothing is known."""
        fault = self.faults.get(play.order.fault)
        return None if fault is None else fault.reading


class UserFaults:
    """The faults that the users of one process and run play."""

    def __init__(self) -> None:
        self._players: dict[Key, Player] = {}
        self._plays: dict[str, PlayedFault] = {}
        self.changed: Callable[[], None] = lambda: None
        """Called when all users of a fault have begun or ended it."""

    def join(self, player: Player) -> None:
        """A user holds its slot."""
        self._players[player.key] = player
        for play in list(self._plays.values()):
            if not play.over and player.key in play.chosen:
                player.begin(play)

    def leave(self, player: Player) -> None:
        """A user gave its slot back."""
        if self._players.get(player.key) is player:
            del self._players[player.key]

    def obey(self, order: UserFaultOrder, slots: Iterable[int], now_ns: int) -> None:
        """Begin or end a fault; returns at once. Safe to repeat."""
        play = self._plays.get(order.fault)
        if not order.on:
            if play is not None:
                self._end(play)
            return
        if (play is not None and not play.over) or order.until_ns <= now_ns:
            return
        play = self._plays[order.fault] = PlayedFault(order, slots)
        play.timer = gevent.spawn_later((order.until_ns - now_ns) / NS_PER_S, self._end, play)
        gevent.spawn(self._act, play)

    def states(self) -> dict[str, dict[str, int]]:
        """Fault -> counts, of all faults that were ever ordered in this run."""
        return {fault: self._state(play) for fault, play in self._plays.items()}

    def end_all(self) -> None:
        """The run is over."""
        for play in self._plays.values():
            self._end(play)

    def _act(self, play: PlayedFault) -> None:
        for number, key in enumerate(sorted(play.chosen & self._players.keys())):
            player = self._players.get(key)
            if player is not None and not play.over:
                player.begin(play)
            if number % _AT_ONCE == _AT_ONCE - 1:
                gevent.sleep(_LET_OTHERS_S)
        self.changed()

    def _end(self, play: PlayedFault) -> None:
        if play.over:
            return
        self._gauge(play)
        play.over = True
        if play.timer is not None and play.timer is not gevent.getcurrent():
            play.timer.kill(block=False)
        gevent.spawn(self._stop, play)

    def _stop(self, play: PlayedFault) -> None:
        for number, key in enumerate(sorted(play.chosen & self._players.keys())):
            player = self._players.get(key)
            if player is not None:
                player.finish(play)
            if number % _AT_ONCE == _AT_ONCE - 1:
                gevent.sleep(_LET_OTHERS_S)
        self.changed()

    def _state(self, play: PlayedFault) -> dict[str, int]:
        players = [self._players[key] for key in play.chosen & self._players.keys()]
        if not play.over and time.monotonic_ns() - play.gauged_ns >= _GAUGE_AGAIN_NS:
            self._gauge(play)
        return play.told() | {
            "here": len(players),
            "in_force": sum(player.in_force(play) for player in players),
        }

    def _gauge(self, play: PlayedFault) -> None:
        if play.order.kind not in READING:
            return
        play.gauged_ns = time.monotonic_ns()
        players = [self._players[key] for key in sorted(play.chosen & self._players.keys())[:_GAUGED]]
        found = [reading for player in players if (reading := player.reading(play)) is not None]
        play.gauged = {
            "measured": len(found),
            "unread_bytes": sum(reading.unread for reading in found),
            "with_unread": sum(reading.unread > 0 for reading in found),
            "read_bytes": sum(reading.read for reading in found),
            "rates": sum(r.read * NS_PER_S // r.for_ns for r in found if r.for_ns > 0),
            "for_ms": sum(reading.for_ns for reading in found) // NS_PER_MS,
        }
