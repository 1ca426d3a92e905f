"""How does a process keep its records until they are frames?  `emit` appends to a list, packed once a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from loadtests.model.codec import pack
from loadtests.model.records import Header, Record


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
        first, frames = self.next_number, list(pack(self.next_number, records))
        self.next_number += len(frames)  # before they are handed on: who takes them may let others run, and they flush
        for number, frame in enumerate(frames, first):
            self._out(number, frame)

    def seal(self, header: Header) -> None:
        """Flush, then end the file: with its header again, which now says how many frames there are."""
        while self._waiting:
            self.flush()
        self.emit(msgspec.structs.replace(header, frames=self.next_number + 1))
        self.flush()
