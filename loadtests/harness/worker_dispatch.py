"""On which worker does Locust start a user?  On the one with the fewest of its class.

Locust deals fixed users out in turn, whatever their class: with two classes in turn and two workers, all publishers
land on one worker.  Ties go to the worker with the fewest users in all, then to Locust's own order.

A smaller number of users takes consumers away, whoever asked for it: a publisher or reader is a part of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, cycle, islice
from typing import Any

from locust.dispatch import UsersDispatcher

from loadtests.model.user_kinds import USERS

KEPT = frozenset(kind.user_class for kind in USERS.values() if kind.kept)
"""User classes of which none is taken away."""


class BalancedDispatcher(UsersDispatcher):
    """Locust's dispatcher with another choice of worker, and of whom to take away."""

    def _fewest(self, users_on_workers: dict[str, dict[str, int]], user: str) -> Any:
        return min(
            self._worker_nodes,
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
