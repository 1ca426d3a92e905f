"""How are the run's own users told to play a fault, and how far are they?  Orders go out, counts come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import NoAnswer
from loadtests.model.ids import NS_PER_S
from loadtests.model.injectwire import PlannedFault, UserFaultOrder, UserFaultState

Counts = dict[str, int]
"""Sums over all processes; `chosen` and `in_force` are always among them, the rest is its kind's."""


class UserFaultControl:
    """The users of one run. The thread that reads the parent's lines calls `told` and `deafen`, fault runs all else."""

    def __init__(self, send: Callable[[UserFaultOrder], None]) -> None:
        self._send = send
        self._counts: dict[str, Counts] = {}
        self._changed = threading.Condition()
        self._deaf = True

    @property
    def deaf(self) -> bool:
        """No counts come: the parent is gone, or the injector has not begun. The users stop by themselves."""
        return self._deaf

    def listen(self) -> None:
        """From now on counts come."""
        self._deaf = False

    def deafen(self) -> None:
        """From now on no counts come; a thread that waits for them waits no longer."""
        with self._changed:
            self._deaf = True
            self._changed.notify_all()

    def told(self, state: UserFaultState) -> None:
        """How far they are."""
        with self._changed:
            self._counts[state.fault] = state.counts
            self._changed.notify_all()

    def begin(self, fault: PlannedFault) -> None:
        """Have them play a fault until its end."""
        with self._changed:
            self._counts.pop(fault.name, None)
        self._send(
            UserFaultOrder(
                fault=fault.name,
                kind=fault.kind,
                where=fault.link,
                on=True,
                until_ns=fault.until_ns,
                asked=dict(fault.asked),
            )
        )

    def stop(self, fault: str, kind: str, where: str) -> None:
        """Have them stop; may be repeated."""
        self._send(UserFaultOrder(fault=fault, kind=kind, where=where, on=False, until_ns=0, asked={}))

    def counts(self, fault: str) -> Counts | None:
        """The last counts, None where nobody has answered yet."""
        with self._changed:
            return self._counts.get(fault)

    def wait(self, fault: str, holds: Callable[[Counts], bool], watch: Watch) -> Counts:
        """The counts once they hold, or as they are at the watch's end. Raises NoAnswer where there are none."""
        with self._changed:
            while True:
                counts = self._counts.get(fault)
                if counts is not None and (holds(counts) or watch.over or self._deaf):
                    return counts
                if watch.over or self._deaf:
                    raise NoAnswer("the run's users did not answer")
                left_ns = watch.until_ns - time.monotonic_ns()
                self._changed.wait(min(left_ns / NS_PER_S, 0.1))  # a stop of the watch does not notify
