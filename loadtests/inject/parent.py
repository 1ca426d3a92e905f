"""How does the injector speak to its parent, without anybody waiting for it, and through it to the run's own users?

`Emitter` is a queue and one thread that writes. Where there is nothing to say it says that the process runs, so that
the parent can tell a frozen one. `UserFaultControl` tells the run's users to play a fault, and how far they are:
orders go out, counts come back.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable

import msgspec

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import NoAnswer
from loadtests.inject.proofs import Effective
from loadtests.model.ids import NS_PER_S
from loadtests.model.injectwire import (
    Alive,
    Announce,
    Emitted,
    FromInjector,
    PlannedFault,
    UserFaultOrder,
    UserFaultState,
)
from loadtests.model.records import FaultStep, Note, PathProbe, Trouble

BEAT_S = 1.0
"""The parent hears something at least so often."""

_ALIVE = msgspec.json.encode(Alive()) + b"\n"

Counts = dict[str, int]
"""Sums over all processes; `chosen` and `in_force` are always among them, the rest is its kind's."""


class Emitter:
    """Writes JSON lines to a file descriptor. A parent that does not read, or is gone, delays no fault."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="emitter", daemon=True)
        self._thread.start()

    def send(self, message: FromInjector) -> None:
        """Hands over one message; never blocks."""
        self._queue.put(msgspec.json.encode(message) + b"\n")

    def record(self, record: FaultStep | Note | PathProbe | Trouble) -> None:
        """Hands over one record for the history."""
        self.send(Emitted(record=record))

    def announce(self, fault: str) -> None:
        """Says that the injector is about to act."""
        self.send(Announce(fault=fault))

    def close(self, timeout_s: float) -> None:
        """Waits so long for what is queued to be written."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _write(self) -> None:
        while (line := self._next()) is not None:
            view = memoryview(line)
            try:
                while view:
                    view = view[os.write(self._fd, view) :]
            except OSError:  # the parent is gone; whatever comes now, nobody reads it
                return

    def _next(self) -> bytes | None:
        try:
            return self._queue.get(timeout=BEAT_S)
        except queue.Empty:
            return _ALIVE


def fault_step(
    fault: PlannedFault, step: str, *, before_ns: int, after_ns: int, effective: Effective, by: str, detail: str
) -> FaultStep:
    """One step as the record of it."""
    return FaultStep(
        name=fault.name,
        kind=fault.kind,
        link=fault.link,
        step=step,  # type: ignore[arg-type]
        before_ns=before_ns,
        after_ns=after_ns,
        asked={**fault.asked, "direction": fault.direction},
        effective=effective,
        by=by,
        detail=detail,
    )


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
