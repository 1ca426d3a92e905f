"""For whom does a stack run, and does he still live?  A stack that a run started for itself must not outlive it.

The owner is named by pid and time of birth. A stack whose owner is gone stays as long as another run holds it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

LOOK_S = 0.5
GRACE_S = 5.0
"""So long nobody may want a stack before it ends: its run may be ending it, another one be about to take it."""
HOLD = "run.lock"
"""File in the stack's folder that a run holds locked as long as it uses the stack."""


def myself() -> str:
    """This process as an owner."""
    return f"{os.getpid()}:{psutil.Process().create_time()}"


def lives(owner: str) -> bool:
    """Whether the process that `myself` named runs; one that only waits to be reaped does not."""
    pid, _, born = owner.partition(":")
    try:
        process = psutil.Process(int(pid))
        return process.create_time() == float(born) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_held(folder: Path) -> bool:
    """Whether a run uses the stack in a folder."""
    try:
        fd = os.open(folder / HOLD, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def watch(owner: str, folder: Path, end: Callable[[], None], *, grace_s: float = GRACE_S) -> None:
    """In a thread of its own: call `end` once when the owner is gone and nobody has held the stack for the grace."""

    def look() -> None:
        since_s: float | None = None
        while since_s is None or time.monotonic() - since_s < grace_s:
            time.sleep(LOOK_S)
            wanted = lives(owner) or is_held(folder)
            since_s = None if wanted else since_s if since_s is not None else time.monotonic()
        end()

    threading.Thread(target=look, name="owner", daemon=True).start()
