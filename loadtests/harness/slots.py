"""Which user has which place (slot) of the plan, and on which worker does Locust start it?

The master leases slots, the lowest free one first. The slot alone decides what a user does: the plan is the same
wherever it runs.

`BalancedDispatcher` starts a user on the worker with the fewest of its class. Locust deals fixed users out in turn,
whatever their class: with two classes in turn and two workers, all publishers land on one worker. Ties go to the worker
with the fewest users in all, then to Locust's own order. A smaller number of users takes consumers away: publishers and
readers stay, since the plan needs them.

With `[run] spread = "apart"` one worker holds all users but the consumers, so that a due publish waits for no delivery;
one publishes as much as most plans want, and all others receive. Where that worker is lost, its users go wherever there
are fewest, since consumers that moved would lose what is on its way to them; the next worker that joins is theirs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, count, cycle, islice
from typing import Any, NamedTuple

import gevent
from gevent.event import AsyncResult
from locust.dispatch import UsersDispatcher

from loadtests.drive.run_context import Lease, NoSlot
from loadtests.model.registry import CONSUMER, USERS

LOST_EPOCHS = 64
"""How many epochs are skipped for a slot whose holder vanished without saying how far it had come."""


class Taken(NamedTuple):
    """A place of the plan: which, from which epoch on, and since when it has been vacant (-1: unknown or never)."""

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


KEPT = frozenset(kind.user_class for kind in USERS.values() if kind.kept)
"""User classes of which none is taken away."""


class BalancedDispatcher(UsersDispatcher):
    """Locust's dispatcher with another choice of worker, and of whom to take away."""

    def __init__(self, worker_nodes: list[Any], user_classes: list[Any], *, apart: bool = False) -> None:
        super().__init__(worker_nodes, user_classes)
        self._apart = apart and len({u.__name__ == CONSUMER.user_class for u in user_classes}) == 2
        self._without_consumers: str | None = None  # id of the worker that holds all others; None: there is none
        self._set_apart()

    def _set_apart(self) -> None:
        """Keep the worker without consumers while it is there; after it, or in a new dispatcher, one that has none."""
        there = [node.id for node in self._worker_nodes]
        if self._apart and len(there) > 1 and self._without_consumers not in there:
            free = [node for node in self._worker_nodes if not node.user_classes_count.get(CONSUMER.user_class)]
            self._without_consumers = max(free, key=lambda node: node.user_count).id if free else None

    def _prepare_rebalance(self) -> None:
        self._set_apart()
        super()._prepare_rebalance()

    def _fewest(self, users_on_workers: dict[str, dict[str, int]], user: str) -> Any:
        nodes = self._worker_nodes
        if self._without_consumers is not None:
            alone = user != CONSUMER.user_class
            nodes = [node for node in nodes if (node.id == self._without_consumers) == alone] or nodes
        return min(
            nodes,
            key=lambda node: (users_on_workers[node.id].get(user, 0), sum(users_on_workers[node.id].values())),
        )

    def _add_users_on_workers(self) -> dict[str, dict[str, int]]:
        target = min(self._current_user_count + self._user_count_per_dispatch_iteration, self._target_user_count)
        for user in self._user_generator:
            if not user:
                self._no_user_to_spawn = True
                break
            node = self._fewest(self._users_on_workers, user)
            self._users_on_workers[node.id][user] += 1
            self._current_user_count += 1
            self._active_users.append((node, user))
            if self._current_user_count >= target:
                break
        placed: dict[str, dict[str, int]] = self._users_on_workers
        return placed

    def _remove_users_from_workers(self) -> dict[str, dict[str, int]]:
        target = max(self._current_user_count - self._user_count_per_dispatch_iteration, self._target_user_count)
        for index in range(len(self._active_users) - 1, -1, -1):
            if self._current_user_count <= target:
                break
            node, user = self._active_users[index]
            if user not in KEPT:
                del self._active_users[index]
                self._users_on_workers[node.id][user] -= 1
                self._current_user_count -= 1
                self._try_dispatch_fixed = True
        else:
            self._target_user_count = max(self._target_user_count, self._current_user_count)  # nobody else may go
        left: dict[str, dict[str, int]] = self._users_on_workers
        return left

    def _distribute_users(
        self, target_user_count: int
    ) -> tuple[dict[str, dict[str, int]], Iterator[str | None], Any, list[tuple[Any, str]]]:
        placed = {node.id: {u.__name__: 0 for u in self._original_user_classes} for node in self._worker_nodes}
        active: list[tuple[Any, str]] = []
        kept_first = sorted(self._user_classes, key=lambda u: u.__name__ not in KEPT)
        fixed = [name for u in kept_first for name in [u.__name__] * u.fixed_count]
        self._try_dispatch_fixed = target_user_count < len(fixed)
        users = self._user_gen()
        for user in islice(chain(fixed, users), target_user_count):
            if not user:
                break
            node = self._fewest(placed, user)
            placed[node.id][user] += 1
            active.append((node, user))
        return placed, users, cycle(self._worker_nodes), active
