"""How do a worker's frames reach the master exactly once?  Spooled, shipped few at a time, forgotten when acknowledged.

The master may see a frame twice (the acknowledgement was lost) or out of order; `Inbox` writes each once and in order.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

IN_FLIGHT = 4
RESEND_S = 3.0
AHEAD = 16 * IN_FLIGHT
"""A frame so far ahead is none that a worker of ours would send."""


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
