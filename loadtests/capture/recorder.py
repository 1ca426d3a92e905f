"""How does a process keep its records until they are frames?  `emit` appends to a list, packed once a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from loadtests.model.codec import frame_number, pack
from loadtests.model.records import Record


class Recorder:
    """One process's queue of records; hands numbered frames to `out(number, frame)` in order."""

    def __init__(self, out: Callable[[int, bytes], None]) -> None:
        self._out = out
        self._waiting: list[Record] = []
        self.next_number = 0

    def emit(self, record: Record) -> None:
        """Queue one record; never blocks, never raises."""
        self._waiting.append(record)

    def emit_all(self, records: Iterable[Record]) -> None:
        """Queue several."""
        self._waiting.extend(records)

    def flush(self) -> None:
        """Pack what is queued and hand it on."""
        records, self._waiting = self._waiting, []
        for frame in pack(self.next_number, records):
            self.next_number = frame_number(frame) + 1
            self._out(frame_number(frame), frame)
