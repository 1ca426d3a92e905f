"""When is a stack an orphan, and what ends then?  Its owner is gone, or its supervisor was killed with its keeper.

A stack that a run started for itself must not outlive that run: its owner is named by pid and time of birth, and
`watch` ends it unless another run holds it. What a dead supervisor left is ended by pid and birth (`end_left`). A
paused server is the hard case: the kernel ends its first process, and those that it had forked stand still for ever.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from loadtests.stack.child import end_owned
from loadtests.stack.folder import Owned, StackFolder

LOOK_S = 0.5
GRACE_S = 5.0
"""A stack that no run holds ends after so long: its run may be ending it, another one be about to take it."""
HOLD = "run.lock"
"""File in the stack's folder that a run holds locked as long as it uses the stack."""


def end_left(folder: StackFolder) -> list[str]:
    """Ends all that the folder's note names and that still lives, and tidies; a sentence for each.

    The caller holds the folder's lock, so no supervisor lives there.
    """
    state = folder.read_state()
    named = [*state.owned.items(), *(("a process that it had forked", each) for each in state.frozen)]
    done = []
    for what, owned in named:
        if _lives(owned):
            end_owned(owned)
            done.append(f"Ended {what} (process {owned.pid}), which a dead supervisor had left.")
    folder.clear()
    return done


def end_left_in(root: Path) -> list[str]:
    """The same without the lock; nothing is done where a supervisor lives."""
    folder = StackFolder(root=root)
    if not folder.state.exists():
        return []
    lock = folder.take()
    if lock is None:
        return []
    with lock:
        return end_left(folder)


def owned_by(pids: list[int]) -> list[Owned]:
    """Processes with their births; those that are gone are left out."""
    found = []
    for pid in pids:
        try:
            found.append(Owned(pid=pid, created_s=psutil.Process(pid).create_time()))
        except psutil.NoSuchProcess:
            continue
    return found


def _lives(owned: Owned) -> bool:
    try:
        process = psutil.Process(owned.pid)
        return (
            owned.pid != os.getpid()
            and abs(process.create_time() - owned.created_s) <= 1.0
            and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        )
    except psutil.NoSuchProcess:
        return False


def myself() -> str:
    """This process as an owner."""
    return f"{os.getpid()}:{psutil.Process().create_time()}"


def owner_lives(owner: str) -> bool:
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
            wanted = owner_lives(owner) or is_held(folder)
            since_s = None if wanted else since_s if since_s is not None else time.monotonic()
        end()

    threading.Thread(target=look, name="owner", daemon=True).start()
