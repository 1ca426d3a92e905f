"""On which worker does Locust start a user?  On the one with the fewest of its class.

Locust deals fixed users out in turn, whatever their class: with two classes in turn and two workers, all publishers
land on one worker.  Ties go to the worker with the fewest users in all, then to Locust's own order.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

from locust.dispatch import UsersDispatcher


class BalancedDispatcher(UsersDispatcher):
    """Locust's dispatcher with another choice of worker."""

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

    def _distribute_users(
        self, target_user_count: int
    ) -> tuple[dict[str, dict[str, int]], Iterator[str | None], Any, list[tuple[Any, str]]]:
        users = self._user_gen()
        placed = {node.id: {u.__name__: 0 for u in self._original_user_classes} for node in self._worker_nodes}
        active: list[tuple[Any, str]] = []
        while len(active) < target_user_count and (user := next(users)):
            node = self._fewest(placed, user)
            placed[node.id][user] += 1
            active.append((node, user))
        return placed, users, cycle(self._worker_nodes), active
