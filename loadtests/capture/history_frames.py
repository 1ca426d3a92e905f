"""How do records become frames, and frames reach the master exactly once and the disk without stalling the hub?

Each process has a `Recorder`: `emit` appends to a list, which is packed into numbered frames once a second. A worker's
frames are spooled, shipped few at a time (`Outbox`) and forgotten when acknowledged. The master may see a frame twice
(the acknowledgement was lost) or out of order; `Inbox` writes each once and in order.

The run has one `HistoryWriter`: an OS thread that appends to files and reports back. The thread is a real one, also
where gevent has patched threading: neither a slow disk nor deflating must stop the receive loop.
"""

from __future__ import annotations

import os
from _queue import SimpleQueue
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
from gevent import monkey

from loadtests.model.codec import pack, squeezed, thin
from loadtests.model.errors import HarnessError
from loadtests.model.records import Header, Record

_start_new_thread: Callable[..., int] = monkey.get_original("_thread", "start_new_thread")
IN_FLIGHT = 4
RESEND_S = 3.0
AHEAD = 16 * IN_FLIGHT
"""A frame so far ahead is none that a worker of ours would send."""


class Recorder:
    """One process's queue of records; hands numbered frames to `out(number, frame)` in order."""

    def __init__(self, out: Callable[[int, bytes], None]) -> None:
        self._out = out
        self._waiting: list[Record] = []
        self.next_number = 0

    def emit(self, record: Record) -> None:
        """Queue one record; never blocks, never raises. Here it takes its time, not when all are packed at once."""
        self._waiting.append(thin(record))

    def emit_all(self, records: Iterable[Record]) -> None:
        """Queue several."""
        self._waiting.extend(map(thin, records))

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


class Job(NamedTuple):
    """Bytes for one file of the history; `done` is called in the thread, with the error or None."""

    process: str
    data: bytes
    done: Callable[[OSError | None], None] | None


class HistoryWriter:
    """Appends frames to `folder/<process>.tsh`; `observe` sees every job after it was written, in the thread."""

    def __init__(self, folder: Path, observe: Callable[[str, bytes], None] | None = None) -> None:
        self.folder = folder
        self.error: OSError | None = None
        self._observe = observe
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._files: dict[str, BinaryIO] = {}
        self._refused: dict[str, OSError] = {}  # by process: why its file ends early
        folder.mkdir(parents=True, exist_ok=True)
        self._ended = False
        _start_new_thread(self._work, ())

    def write(self, process: str, data: bytes, done: Callable[[OSError | None], None] | None = None) -> None:
        """Queue bytes; returns at once."""
        self._jobs.put(Job(process, data, done))

    def close(self, wait: Callable[[Callable[[], bool], float], bool], timeout_s: float = 10.0) -> None:
        """Finish what is queued and close the files. `wait(condition, timeout)` lets others run meanwhile.

        Raises HarnessError when the disk did not take everything in time, or refused.
        """
        self._jobs.put(None)
        if not wait(lambda: self._ended, timeout_s):
            raise HarnessError(f"the history could not be written within {timeout_s:g} s")
        if self.error is not None:
            raise HarnessError(f"the history could not be written: {self.error.strerror}")

    def _work(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                failed = self._append(job)
                if failed is None and self._observe is not None:
                    self._observe(job.process, job.data)
                if job.done is not None:
                    job.done(failed)
            for file in self._files.values():
                file.close()
        finally:
            self._ended = True

    def _append(self, job: Job) -> OSError | None:
        if (refused := self._refused.get(job.process)) is not None:  # a frame is missing: what follows is not read
            return refused
        whole = 0
        try:
            file = self._files.get(job.process)
            if file is None:
                file = self._files[job.process] = open(self.folder / f"{job.process}.tsh", "ab", buffering=0)  # noqa: SIM115
            whole = file.tell()
            rest = memoryview(squeezed(job.data))
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            self.error = self.error or error
            self._refused[job.process] = error
            self._cut(job.process, whole)
            return error
        return None

    def _cut(self, process: str, whole: int) -> None:
        """Let the file end with its last whole frame; where that is refused too, readers drop its torn tail."""
        file = self._files.get(process)
        if file is not None:
            with suppress(OSError):
                os.ftruncate(file.fileno(), whole)


class _Spooled(NamedTuple):
    number: int
    offset: int
    length: int


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


class Outbox:
    """A worker's side: spool file, window of frames in flight, acknowledgements.

    `spool` is made anew, in a folder that is there for it alone. `send(number, frame)` hands one frame to the messages
    of Locust. Where the spool cannot be written, `error` keeps why, and frames go out from memory only.
    """

    def __init__(self, spool: Path, send: Callable[[int, bytes], None], now_s: Callable[[], float]) -> None:
        self._path = spool
        self._send = send
        self._now_s = now_s
        self._waiting: deque[_Spooled] = deque()
        self._flying: dict[int, tuple[float, _Spooled]] = {}
        self._memory: dict[int, bytes] = {}
        self._end = 0
        self.error: OSError | None = None
        self._file = open(spool, "x+b", buffering=0, opener=_for_us_alone)  # noqa: SIM115  closed by close()

    def put(self, number: int, frame: bytes) -> None:
        """Spool a frame and ship it as soon as the window allows."""
        try:
            os.pwrite(self._file.fileno(), frame, self._end)
        except OSError as error:
            self.error = self.error or error
            self._memory[number] = frame
        self._waiting.append(_Spooled(number, self._end, len(frame)))
        self._end += len(frame)
        self.pump()

    def acknowledge(self, number: int) -> None:
        """The master has frame `number` on its way to the disk."""
        self._flying.pop(number, None)
        self._memory.pop(number, None)
        self.pump()

    def pump(self) -> None:
        """Ship what the window allows, and again what got no answer for RESEND_S seconds."""
        now = self._now_s()
        for number, (sent_s, spooled) in list(self._flying.items()):
            if now - sent_s > RESEND_S:
                self._ship(number, spooled, now)
        while self._waiting and len(self._flying) < IN_FLIGHT:
            spooled = self._waiting.popleft()
            self._ship(spooled.number, spooled, now)

    def _ship(self, number: int, spooled: _Spooled, now: float) -> None:
        self._flying[number] = (now, spooled)
        frame = self._memory.get(number)
        if frame is None:
            frame = os.pread(self._file.fileno(), spooled.length, spooled.offset)
        self._send(number, frame)

    @property
    def pending(self) -> int:
        """Frames that the master has not acknowledged."""
        return len(self._waiting) + len(self._flying)

    def close(self, keep: bool) -> None:
        """Close the spool; it stays on the disk where the master has not got everything."""
        self._file.close()
        if not keep:
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()


class Inbox:
    """The master's side for one worker: hands every frame on once, in order of number."""

    def __init__(self, out: Callable[[int, bytes], None]) -> None:
        self._out = out
        self._next = 0
        self._early: dict[int, bytes] = {}

    def take(self, number: int, frame: bytes) -> None:
        """A frame came; a repeated one is dropped, an early one waits for those before it, one far ahead is ignored."""
        if not self._next <= number < self._next + AHEAD:
            return
        self._early[number] = frame
        while (ready := self._early.pop(self._next, None)) is not None:
            self._out(self._next, ready)
            self._next += 1

    def missing(self, total: int) -> list[int]:
        """Numbers below `total` that never came."""
        return [n for n in range(self._next, total) if n not in self._early]

    def give_up(self) -> None:
        """Hand on what waits behind a hole; the hole stays a hole in the history."""
        for number in sorted(self._early):
            self._out(number, self._early.pop(number))
            self._next = number + 1
