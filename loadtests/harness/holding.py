"""Is a run using this local stack?  One at a time: two would cut each other's links and count each other's messages.

A lock on a file in the stack's folder; the system lets it go when its process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from loadtests.model.errors import BadInput

_NAME = "run.lock"


class StackHold:
    """The lock of one run. Raises BadInput where another run has it."""

    def __init__(self, folder: Path, run: str) -> None:
        self._fd = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.pread(self._fd, 200, 0).decode(errors="replace") or "another run"
            os.close(self._fd)
            raise BadInput(in_use(other)) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, run.encode(), 0)

    def release(self) -> None:
        """The run is over; safe to repeat."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def user_of(folder: Path) -> str | None:
    """The run that uses the stack of a folder, None where there is none."""
    try:
        fd = os.open(folder / _NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.pread(fd, 200, 0).decode(errors="replace") or "another run"
    finally:
        os.close(fd)
    return None


def in_use(run: str) -> str:
    """What to tell the user."""
    return (
        f"run {run} is using this local stack, and two at once would spoil each other: wait for it, "
        "or give this one a stack of its own by TICKSTORM_STACK=<another folder>"
    )
