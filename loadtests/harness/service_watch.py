"""Which of the target's services ended by themselves?  Watches them all through a run, and tells each end once.

An end that a fault asked for is not told: the stack's supervisor knows which services it ended itself.
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
"""Service -> how it ended, of services that do not run now and were not told to end."""


class StackEnds:
    """The services of a local stack, as its supervisor sees them, and whether there still is a stack.

    A call raises TickstormError where the supervisor does not answer.
    """

    def __init__(self, status: Callable[[], Status], is_there: Callable[[], bool]) -> None:
        self._status, self._is_there = status, is_there
        self.whole = False  # at the last call every service was ready
        self.vanished = ""  # how the whole stack went, all at once
        self._seen: dict[str, int] | None = None  # service -> how often it had ended by itself

    def __call__(self) -> dict[str, str]:
        """Service -> how it ended."""
        self.whole = False
        try:
            found = self._status()
        except TickstormError:
            if not self._is_there():
                self.vanished = "its supervisor is gone"
            raise
        states = {service.state for service in found.services.values()}
        self.whole = states == {"ready"} and not found.ending
        if found.ending:
            self.vanished = "somebody brought it down"
        elif states <= {"dead", "stopped"}:
            self.vanished = "all its services ended at once"
        if self.vanished:
            return {}
        before, self._seen = self._seen, {name: service.ends for name, service in found.services.items()}
        return {
            name: _first_words(name, service.last_end or service.error)
            for name, service in found.services.items()
            # A service that was started again before this look had ended all the same.
            if service.state == "dead" or (before is not None and service.ends > before.get(name, 0))
        }


def ends_of_stack(status: Callable[[], Status], is_there: Callable[[], bool] = lambda: True) -> StackEnds:
    """Those of a local stack."""
    return StackEnds(status, is_there)


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


class ServiceWatch:
    """The looks of one run. `on_end` gets every end once, and again if the service was started in between.

    `on_vanish` gets once how the whole stack went, and when it was last seen whole: what is lost from then on is not
    the target's doing.
    """

    def __init__(
        self,
        ends: Ends,
        now_ns: Callable[[], int],
        on_end: Callable[[ServiceEnded], None],
        on_vanish: Callable[[int, str], None] | None = None,
    ) -> None:
        self._ends, self._now_ns, self._on_end, self._on_vanish = ends, now_ns, on_end, on_vanish
        self._told: set[str] = set()
        self._whole_ns = 0
        self._life: gevent.Greenlet[..., object] | None = None

    def start(self) -> None:
        """Look from now on."""
        self._life = gevent.spawn(self._look_forever)

    def look(self) -> None:
        """Tell the services that ended since the last look."""
        stack = self._ends if isinstance(self._ends, StackEnds) else None
        began_ns = 0 if stack is None else self._now_ns()
        try:
            ends = self._ends()
        except TickstormError:
            ends = None  # the supervisor does not answer now
        if stack is not None and stack.whole:
            self._whole_ns = began_ns
        if stack is not None and stack.vanished and self._on_vanish is not None:
            self._on_vanish(self._whole_ns, stack.vanished)
            self._on_vanish = None
        if ends is None:
            return
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
