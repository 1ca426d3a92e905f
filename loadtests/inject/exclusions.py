"""Which faults in force exclude others?  What each holds, shared by all lives of one run; touches nothing else."""

from __future__ import annotations

import threading


class Exclusions:
    """What the faults in force hold, so that two that cannot be told apart never overlap."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._held: set[str] = set()

    def take(self, wanted: frozenset[str]) -> frozenset[str]:
        """Takes them all; or takes none, and returns those that are taken."""
        with self._lock:
            taken = frozenset(wanted & self._held)
            if not taken:
                self._held |= wanted
            return taken

    def release(self, held: frozenset[str]) -> None:
        """Gives them back."""
        with self._lock:
            self._held -= held
            self._lock.notify_all()

    def service_down(self, service: str, own: frozenset[str]) -> bool:
        """A fault other than the one that holds `own` acts on the service itself."""
        with self._lock:
            return f"service {service}" in self._held - own

    def await_release(self, service: str, own: frozenset[str]) -> None:
        """Waits until no other fault acts on the service itself; each lets go when it ends, whatever its end."""
        with self._lock:
            self._lock.wait_for(lambda: f"service {service}" not in self._held - own)
