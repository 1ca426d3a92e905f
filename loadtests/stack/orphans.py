"""What did a stack leave whose supervisor was killed with its keeper?  Ends it by pid and birth, tidies the folder.

A paused server is the hard case: the kernel ends its first process, and those that it had forked stand still for ever.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from loadtests.stack.child import end_owned
from loadtests.stack.folder import Owned, StackFolder


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
    """The same for whoever holds no lock; nothing is done where a supervisor lives."""
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
