"""Is a run using this local stack?  One at a time: two would cut each other's links and count each other's messages.

A lock on a file in the stack's folder; the system releases it when its process ends. A run takes it before it looks
whether a stack is up, and keeps it until the stack that it started is down: else a second run would use a stack that
the first is about to stop. `tickstorm run` lends its lock to the Locust that it starts.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from loadtests.model.errors import BadInput

LENT = "TICKSTORM_HOLD_FD"
"""Environment variable with the number of an inherited descriptor that holds the lock already."""
_NAME = "run.lock"
_OTHER = "another run"


class StackHold:
    """The lock of one run. Raises BadInput where another run has it."""

    def __init__(self, folder: Path, run: str) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lent = _lent(folder)
            self.fd = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) if lent is None else lent
            os.fchmod(self.fd, 0o600)  # another user who may read the file may lock it
        except OSError as error:
            raise BadInput(f"the local stack cannot live in {folder}: {error.strerror or error}") from None
        self._lent = lent is not None
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.pread(self.fd, 200, 0).decode(errors="replace")
            os.close(self.fd)
            raise BadInput(in_use(other or _OTHER)) from None
        self.name(run)

    def name(self, run: str) -> None:
        """Another run of the same process has it from now on."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, run.encode(), 0)

    def release(self) -> None:
        """The run is over; safe to repeat. What was lent stays with the lender."""
        if self.fd >= 0 and not self._lent:
            os.ftruncate(self.fd, 0)
            os.close(self.fd)
            self.fd = -1


def _lent(folder: Path) -> int | None:
    """The descriptor that our parent lends, if it is really that of this folder's lock."""
    text = os.environ.get(LENT, "")
    try:
        return int(text) if text.isdigit() and os.path.samestat(os.fstat(int(text)), os.stat(folder / _NAME)) else None
    except OSError:
        return None


def user_of(folder: Path) -> str | None:
    """The run that uses the stack of a folder, None where there is none."""
    try:
        fd = os.open(folder / _NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.pread(fd, 200, 0).decode(errors="replace") or _OTHER
    finally:
        os.close(fd)
    return None


def in_use(run: str) -> str:
    """What to tell the user."""
    who = run if run == _OTHER else f"run {run}"
    return (
        f"{who} is using this local stack, and two at once would spoil each other: wait for it, "
        "or give this one a stack of its own by TICKSTORM_STACK=<another folder>"
    )
