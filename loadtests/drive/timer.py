"""How does the hub wake at a moment to the microsecond?  A timerfd among its watchers; gevent's own timers have a grain
of a millisecond and are the fallback where there is no timerfd.

What is to fire at once needs no timerfd: a virtual machine pays 20 us for one that has passed when it is armed.

Needs a hub: create it in the process that uses it, never on import.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_READ = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Timer:
    """Calls `fire` in the hub once, at the moment that was armed last."""

    def __init__(self, fire: Callable[[], None], *, precise: bool = True) -> None:
        self._fire = fire
        self._fd = _timerfd() if precise else None
        loop: Any = gevent.get_hub().loop
        self._loop = loop
        self._watcher: Any = None
        self._at_once: Any = loop.timer(0)
        self._armed = False  # the timerfd is to fire
        if self._fd is not None:
            self._settime = ctypes.CDLL(None, use_errno=True).timerfd_settime
            self._spec = _Itimerspec(_Timespec(0, 0), _Timespec(0, 0))
            self._value = self._spec.value
            self._reference = ctypes.byref(self._spec)
            self._watcher = loop.io(self._fd, _READ)
            self._watcher.start(self._fired)

    @property
    def precise(self) -> bool:
        """Whether a timerfd runs, not the fallback."""
        return self._fd is not None

    def arm(self, at_monotonic_ns: int) -> None:
        """Fire at a moment of CLOCK_MONOTONIC; at once, but from the hub, where it has passed. Replaces the former."""
        if self._fd is not None:
            if at_monotonic_ns <= time.monotonic_ns():
                self._at_once.start(self._fire)
                if self._armed:
                    self._set(0)
            else:
                self._at_once.stop()
                self._set(at_monotonic_ns)
            return
        self._stop_watcher()
        self._loop.update_now()
        self._watcher = self._loop.timer(max(0.0, (at_monotonic_ns - time.monotonic_ns()) / 1e9))
        self._watcher.start(self._fire)

    def close(self) -> None:
        """Never fire again."""
        self._stop_watcher()
        self._at_once.stop()
        self._at_once.close()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            self._fire = _nothing

    def _fired(self) -> None:
        if self._fd is None:
            return
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # armed anew between the wake-up and this read
            return
        self._armed = False
        self._fire()

    def _set(self, at_monotonic_ns: int) -> None:
        """Set the timerfd; 0: it fires no more."""
        self._value.seconds, self._value.nanoseconds = divmod(at_monotonic_ns, 1_000_000_000)
        if self._settime(self._fd, _ABSOLUTE, self._reference, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        self._armed = at_monotonic_ns > 0

    def _stop_watcher(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None


def _nothing() -> None:
    return None


def _timerfd() -> int | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        create = libc.timerfd_create
    except AttributeError:
        return None
    fd = int(create(_CLOCK_MONOTONIC, _FLAGS))
    return fd if fd >= 0 else None
