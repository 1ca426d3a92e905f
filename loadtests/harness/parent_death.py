"""Does a worker that Locust forks end with its parent, also before it has met the master?

Locust forks workers before they connect, and one whose master is gone by then would try to reach it for minutes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_forks_with_us() -> None:
    """Let the kernel send SIGTERM to every fork of this process when it dies. Where no kernel does, they look later."""
    if not sys.platform.startswith("linux"):
        return
    libc, us = ctypes.CDLL(None), os.getpid()
    forker = us

    def before() -> None:
        nonlocal forker
        forker = os.getpid()

    def in_child() -> None:
        if forker != us:
            return  # a fork of a fork
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != us:  # it died before the kernel knew whom to tell
            os.kill(os.getpid(), signal.SIGTERM)

    os.register_at_fork(before=before, after_in_child=in_child)
