"""How busy is the worker?  A Locust user class that burns as much CPU of its process as a timetable wants.

Named on Locust's command line beside our locustfile.  The timetable has the share of one core that the whole process is
to use from when to when, and how long the hub may be kept at a time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import gevent
from gevent.socket import wait_read
from locust import User, task

from proof.timetable import T0, VARIABLE

_PERIOD_S = 0.005
_LOOK_S = 0.05
_GAIN = 0.5


class Burner(User):
    """One of them in the worker."""

    fixed_count = 1

    @task
    def burn(self) -> None:
        """Follow the timetable once, then park: a user that ends would be spawned again."""
        provider: Any = self.environment.tickstorm
        context = provider.context_of_run()
        t0_ns = -1 if context is None else context.t0.get()
        if context is not None and t0_ns >= 0:
            began_ns = time.monotonic_ns() + t0_ns - context.clock.now_ns()
            sys.stdout.write(f"{T0}{began_ns}\n")
            sys.stdout.flush()
            turn = Turn()
            for from_s, to_s, share, slice_ms in json.loads(os.environ[VARIABLE]):
                gevent.sleep(max(0.0, (began_ns - time.monotonic_ns()) / 1e9 + from_s))
                _burn_until(began_ns + round(to_s * 1e9), share, slice_ms / 1000, turn)
        while True:
            gevent.sleep(3600)


class Turn:
    """Lets the hub look at every socket and timer once: `gevent.sleep(0)` would only after several milliseconds."""

    def __init__(self) -> None:
        self._ready, there = os.pipe()  # what was written is never read, so that it is always readable
        os.write(there, b".")

    def give(self) -> None:
        """Come back in the hub's next turn."""
        wait_read(self._ready)


def _burn_until(end_ns: int, share: float, slice_s: float, turn: Turn) -> None:
    """Keep the process at a share of one core: what others in it use is part of that share."""
    duty = share
    looked, used = time.monotonic(), time.process_time()
    while time.monotonic_ns() < end_ns:
        if share >= 1.0:
            _spin(slice_s)
            turn.give()
            continue
        began = time.monotonic()
        wanted = duty * _PERIOD_S
        while wanted > 0:
            wanted -= _spin(min(slice_s, wanted))
            turn.give()
        gevent.sleep(max(0.0, _PERIOD_S - (time.monotonic() - began)))
        now = time.monotonic()
        if now - looked >= _LOOK_S:
            cpu = time.process_time()
            duty = min(max(duty + _GAIN * (share - (cpu - used) / (now - looked)), 0.0), 2.0)
            looked, used = now, cpu


def _spin(seconds: float) -> float:
    """Use up so much time; how much it was."""
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        pass
    return passed
