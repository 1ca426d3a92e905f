"""How much waits for one client, and is that too much?  Writes ready frames to a transport and never waits for it.

A slow client costs its own memory up to a limit and is then cut off; nothing is ever left out silently.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Limits:
    """How much may wait for one client, and the most that ever did."""

    messages: int
    size: int  # bytes
    longest: int = 0  # messages that waited for one client at most
    slow: int = 0  # clients that were cut off


class Outlet:
    """The way out to one client over one transport, in the order of the calls."""

    __slots__ = ("_ends", "_limits", "_transport", "_written", "queued")

    def __init__(self, transport: asyncio.WriteTransport, limits: Limits) -> None:
        self._transport = transport
        self._limits = limits
        self._ends: deque[tuple[int, int]] = deque()  # (bytes written up to its end, messages) of each write that waits
        self._written = 0  # bytes since nothing waited
        self.queued = 0  # messages that wait

    def send(self, frames: bytes, count: int) -> bool:
        """Hand over frames that hold `count` messages. False where the client is gone, or is cut off now."""
        transport = self._transport
        if transport.is_closing():
            return False
        waiting = transport.get_write_buffer_size()
        if waiting:
            ends, limits = self._ends, self._limits
            flushed = self._written - waiting
            while ends and ends[0][0] <= flushed:
                self.queued -= ends.popleft()[1]
            if self.queued >= limits.messages or waiting >= limits.size:
                limits.slow += 1
                self.cut()
                return False
            self._written += len(frames)
            self.queued += count
            if self.queued > limits.longest:
                limits.longest = self.queued
        else:
            self._ends.clear()
            self._written = len(frames)
            self.queued = count
        self._ends.append((self._written, count))
        transport.write(frames)
        return True

    def control(self, frame: bytes) -> None:
        """Hand over a frame that is no delivery: an answer, a ping."""
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size():
            self._written += len(frame)
        else:
            self._ends.clear()
            self._written = len(frame)
            self.queued = 0
        self._transport.write(frame)

    def cut(self) -> None:
        """Close at once; what waits is lost with the connection."""
        self._transport.abort()
