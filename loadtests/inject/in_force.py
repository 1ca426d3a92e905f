"""Which faults are in force, what do they exclude, and is each of them still in force?

What two faults hold must differ, else they cannot be told apart (`Exclusions`). A fault in force is looked at about
once a second, and once more before it is lifted (`InForceCheck`): a look that fails says nothing, and one that hangs
delays the lifting by no more than LAST_LOOK_S.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtests.inject.errors import ControlError

EVERY_S = 1.0
LAST_LOOK_S = 1.0
"""The lifting goes on without the last look after so long."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class NotInForce:
    """It ended by itself, or another process ended it, between two times of the monotonic clock."""

    seen_ns: int  # when a look that still saw it in force began
    found_ns: int  # when the look that did not see it had its answer
    why: str


class InForceCheck:
    """Looks after one fault in a thread of its own."""

    def __init__(
        self, look: Callable[[], Sequence[str]], lost: Callable[[NotInForce], None], *, repeat: bool, seen_ns: int
    ) -> None:
        """`look` says what is missing, or raises ControlError; `lost` hears of it once, from the thread.

        Without `repeat` there is only the last look. `seen_ns`: when it was read back as in force.
        """
        self._look, self._lost = look, lost
        self._every_s = EVERY_S if repeat else None
        self._seen_ns = seen_ns
        self._stop = threading.Event()
        self._over = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def finish(self, *, look: bool = True) -> None:
        """Looks for the last time, or not even that; nothing is told after it."""
        if not look:
            self._end()
        self._stop.set()
        if look:
            self._thread.join(LAST_LOOK_S)
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._over = True

    def _run(self) -> None:
        stopped = False
        while not stopped and not self._over:
            stopped = self._stop.wait(self._every_s)
            if not self._over:
                self._look_once()

    def _look_once(self) -> None:
        began_ns = time.monotonic_ns()
        try:
            missing = self._look()
        except ControlError:
            return  # the server could not say
        with self._lock:
            if self._over:
                return  # it is being lifted: what is missing is missing because of that
            if not missing:
                self._seen_ns = began_ns
                return
            self._over = True
            self._lost(NotInForce(seen_ns=self._seen_ns, found_ns=time.monotonic_ns(), why="; ".join(missing)))
