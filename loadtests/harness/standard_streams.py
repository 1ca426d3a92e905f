"""What happens where standard output or standard error cannot take a line?  Nothing: an exit status tells the verdict.

A terminal of another encoding, a closed descriptor, a pipe that nobody reads any more, a full disk: each of them would
raise in whoever prints, or at the very end when the interpreter flushes, and turn a pass into a status of its own.
"""

from __future__ import annotations

import io
import os
import select
import sys

FULL_S = 1.0
"""How long a reader that is behind may hold up one write, where the descriptor does not wait by itself."""
SAMPLE = "a\u00e9\u2264\u65e5\U0001f4c9" * 40
"""What an encoding must be able to take in some way; idna, for one, takes no long lines."""


class Unfailing(io.RawIOBase):
    """Writes to a descriptor what it takes; the rest is dropped. None: there is no descriptor."""

    def __init__(self, descriptor: int | None) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.name = "<console>"

    def writable(self) -> bool:
        """Always, as far as a writer is concerned."""
        return True

    def fileno(self) -> int:
        """Raises OSError where there is none."""
        if self._descriptor is None:
            raise io.UnsupportedOperation("this stream was closed before we began")
        return self._descriptor

    def isatty(self) -> bool:
        """Whether somebody looks on."""
        return self._descriptor is not None and os.isatty(self._descriptor)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """All of it, as every writer believes."""
        rest = memoryview(data)
        while rest and self._descriptor is not None:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                if not select.select([], [self._descriptor], [], FULL_S)[1]:
                    break
            except OSError:
                break
        return len(data)


def outlive_the_console() -> None:
    """From now on no write to standard output or error raises in this process. Safe to repeat."""
    while (nothing := os.open(os.devnull, os.O_RDWR)) <= 2:  # else the next file that is opened would be one of them
        os.set_inheritable(nothing, True)
    os.close(nothing)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _text(Unfailing(None), "utf-8"))
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _text(Unfailing(descriptor), stream.encoding))


def _text(raw: Unfailing, encoding: str) -> io.TextIOWrapper:
    try:
        SAMPLE.encode(encoding, "backslashreplace")
    except (UnicodeError, LookupError):
        encoding = "utf-8"
    return io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace", write_through=True)
