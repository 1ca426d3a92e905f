"""How do messages reach the parent without anybody waiting for it?  A queue and one thread that writes.

Where there is nothing to say it says that the process runs, so that the parent can tell a frozen one.
"""

from __future__ import annotations

import os
import queue
import threading

import msgspec

from loadtests.inject.proofs import Effective
from loadtests.model.injectwire import Alive, Announce, Emitted, FromInjector, PlannedFault
from loadtests.model.records import FaultStep, Note, PathProbe, Trouble

BEAT_S = 1.0
"""The parent hears something at least so often."""

_ALIVE = msgspec.json.encode(Alive()) + b"\n"


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
