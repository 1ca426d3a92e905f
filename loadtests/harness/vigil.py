"""Which process of the target ended by itself during a run?  Asks whoever knows; tells each end once, with its time.

An end that a fault asked for is none: the supervisor knows whom it ended itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import gevent
import psutil

from loadtests.model.errors import TickstormError
from loadtests.model.records import ServiceEnded
from loadtests.model.stackwire import Status

LOOK_S = 0.2

Ends = Callable[[], Mapping[str, str]]
"""Service -> how it ended, of those that do not run now and were not told to end."""


def ends_of_stack(status: Callable[[], Status]) -> Ends:
    """The services of a local stack, as its supervisor sees them. The value raises TickstormError."""

    def ends() -> dict[str, str]:
        return {
            name: _first_words(name, service.error)
            for name, service in status().services.items()
            if service.state == "dead"
        }

    return ends


def ends_of_processes(pids: Mapping[str, int]) -> Ends:
    """Processes of this machine that a profile names: those that run now and are not there any more later."""
    watched: dict[str, psutil.Process] = {}
    for name, pid in pids.items():
        try:
            watched[name] = psutil.Process(pid)
        except psutil.NoSuchProcess:
            continue  # the sampler says that it has no readings of it

    def ends() -> dict[str, str]:
        return {name: f"ended (process {p.pid})" for name, p in watched.items() if not _runs(p)}

    return ends


class Vigil:
    """The looks of one run. `on_end` gets every end once, and again if the service was started in between."""

    def __init__(self, ends: Ends, now_ns: Callable[[], int], on_end: Callable[[ServiceEnded], None]) -> None:
        self._ends, self._now_ns, self._on_end = ends, now_ns, on_end
        self._told: set[str] = set()
        self._life: gevent.Greenlet[..., object] | None = None

    def start(self) -> None:
        """Look from now on."""
        self._life = gevent.spawn(self._look_forever)

    def look(self) -> None:
        """Tell who has ended since the last look."""
        try:
            ends = self._ends()
        except TickstormError:
            return  # who knows does not answer now
        for name, how in ends.items():
            if name not in self._told:
                self._on_end(ServiceEnded(service=name, at_ns=self._now_ns(), what=how))
        self._told = set(ends)

    def close(self) -> None:
        """Look once more, and then no more."""
        if self._life is not None:
            self._life.kill()
            self._life = None
            self.look()

    def _look_forever(self) -> None:
        while True:
            self.look()
            gevent.sleep(LOOK_S)


def _first_words(name: str, error: str) -> str:
    """`ended by SIGKILL` of `gateway ended by SIGKILL. Its last words: ...`."""
    sentence = error.partition("\n")[0].partition(". ")[0].rstrip(".")
    return sentence.removeprefix(f"{name} ") or "ended"


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
