"""Which user has which place of the plan?  Slots are leased by the master, the lowest free one first.

Locust decides where a user starts; the slot alone decides what it does: the plan is the same wherever it runs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from itertools import count
from typing import NamedTuple

import gevent
from gevent.event import AsyncResult

from loadtests.drive.run_context import Lease, NoSlot
from loadtests.model.user_kinds import USERS

LOST_EPOCHS = 64
"""How many epochs are skipped for a slot whose holder vanished without saying how far it had come."""


class Taken(NamedTuple):
    """A place of the plan: which, from which epoch on, and since when nobody has had it (-1: unknown or never)."""

    slot: int
    epoch: int
    vacant_from_ns: int

    def lease(self, kind: str) -> Lease:
        """As the user holds it."""
        return Lease(kind=kind, slot=self.slot, epoch=self.epoch, vacant_from_ns=self.vacant_from_ns)


class SlotBook:
    """Free and taken slots of one run; lives where the master or the only process is."""

    def __init__(self, limits: Mapping[str, int | None]) -> None:
        self._limits = limits
        self._free: dict[str, list[int]] = {kind: [] for kind in USERS}
        self._fresh = dict.fromkeys(USERS, 0)
        self._epoch: dict[tuple[str, int], int] = {}
        self._holder: dict[tuple[str, int], str] = {}
        self._vacant: dict[tuple[str, int], int] = {}

    def take(self, kind: str, holder: str) -> Taken | None:
        """A place for a user of process `holder`; None when the plan has none left, or not such a kind."""
        if kind not in self._free:
            return None
        if self._free[kind]:
            slot = heapq.heappop(self._free[kind])
        else:
            slot = self._fresh[kind]
            limit = self._limits.get(kind)
            if limit is not None and slot >= limit:
                return None
            self._fresh[kind] = slot + 1
        self._holder[kind, slot] = holder
        return Taken(slot, self._epoch.get((kind, slot), 0), self._vacant.get((kind, slot), -1))

    def give_back(self, kind: str, slot: int, next_epoch: int, at_ns: int) -> None:
        """The holder is done with it at a time (-1: unknown); giving back twice changes nothing."""
        if self._holder.pop((kind, slot), None) is not None:
            self._epoch[kind, slot] = max(next_epoch, self._epoch.get((kind, slot), 0))
            self._vacant[kind, slot] = at_ns
            heapq.heappush(self._free[kind], slot)

    def lose(self, holder: str) -> list[tuple[str, int]]:
        """A process is gone: its slots are free again, far enough from the epochs that it may have used."""
        lost = [key for key, who in self._holder.items() if who == holder]
        for kind, slot in lost:
            self.give_back(kind, slot, self._epoch.get((kind, slot), 0) + LOST_EPOCHS, -1)
        return lost


class LocalSlots:
    """Slots for users of the process that keeps the book."""

    def __init__(self, book: SlotBook, holder: str, now_ns: Callable[[], int]) -> None:
        self._book = book
        self._holder = holder
        self._now_ns = now_ns

    def take(self, kind: str) -> Lease:
        """The lowest free slot. Raises NoSlot when the plan has none left."""
        found = self._book.take(kind, self._holder)
        if found is None:
            raise NoSlot(f"the plan has no {kind} left")
        return found.lease(kind)

    def give_back(self, lease: Lease, next_epoch: int) -> None:
        """Free the slot."""
        self._book.give_back(lease.kind, lease.slot, next_epoch, self._now_ns())


class RemoteSlots:
    """Slots for users of a worker: asked from the master by message, answered by `answer`."""

    def __init__(
        self, ask: Callable[[int, str], None], give: Callable[[str, int, int], None], timeout_s: float
    ) -> None:
        self._ask = ask
        self._give = give
        self._timeout_s = timeout_s
        self._numbers = count()
        self._open: dict[int, AsyncResult[Taken | None]] = {}

    def take(self, kind: str) -> Lease:
        """The lowest free slot. Blocks this greenlet; raises NoSlot when the plan has none left or no answer comes."""
        number = next(self._numbers)
        result: AsyncResult[Taken | None] = AsyncResult()
        self._open[number] = result
        try:
            self._ask(number, kind)
            found = result.get(timeout=self._timeout_s)
        except gevent.Timeout:
            raise NoSlot(f"the master gave no {kind} slot within {self._timeout_s:g} s") from None
        finally:
            self._open.pop(number, None)
        if found is None:
            raise NoSlot(f"the plan has no {kind} left")
        return found.lease(kind)

    def answer(self, number: int, found: Taken | None) -> bool:
        """An answer came; False when nobody waits for it any more (the slot should go back)."""
        result = self._open.get(number)
        if result is None:
            return False
        result.set(found)
        return True

    def give_back(self, lease: Lease, next_epoch: int) -> None:
        """Free the slot."""
        self._give(lease.kind, lease.slot, next_epoch)
