"""Who belongs to a run, and how is one of them struck?  Finds processes by descent and by a mark, ends them by id.

Every process that a run starts inherits the mark in its environment, whoever its parent is by then.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psutil

from proof.chaos_disk import Disk
from proof.chaos_plan import DISKS, SERVICES, ChaosMoment
from proof.running import ProofError, wait_for

MARK = "TICKSTORM_CHAOS_MARK"
FIND_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A process, so that another one with its number is not taken for it."""

    pid: int
    created_s: float
    what: str

    def lives(self) -> bool:
        """Whether it is there and not only waits to be reaped."""
        try:
            process = psutil.Process(self.pid)
            return process.create_time() == self.created_s and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def stands_still(self) -> bool:
        """Whether a signal has stopped it."""
        try:
            process = psutil.Process(self.pid)
            return process.create_time() == self.created_s and process.status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False


class ProcessFamily:
    """All processes of one run: what its command started, and what carries its mark."""

    def __init__(self, command: int, mark: str) -> None:
        self.command, self._mark = command, mark
        self.known: dict[int, Known] = {}

    def look(self) -> None:
        """Note who is there now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.command)
            self._note([root, *root.children(recursive=True)])

    def left(self) -> list[Known]:
        """Who of it lives; also those that were started later, by their mark."""
        self._note(_marked(self._mark))
        return [known for known in self.known.values() if known.lives()]

    def _note(self, processes: Iterable[psutil.Process]) -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                created = process.create_time()
                if process.pid not in self.known or self.known[process.pid].created_s != created:
                    what = f"{process.pid} {' '.join(process.cmdline()[:6])}"
                    self.known[process.pid] = Known(pid=process.pid, created_s=created, what=what)

    # -- its members

    def master(self) -> psutil.Process:
        """Locust's leading process. Raises ProofError where there is none."""
        return _one(self._children(self.command, "locustfile.py"), "Locust's leading process")

    def workers(self) -> list[psutil.Process]:
        """Locust's workers."""
        return self._children(self.master().pid, "locustfile.py")

    def injector(self) -> psutil.Process:
        """The injector. Raises ProofError where there is none."""
        return _one(self._children(self.master().pid, "loadtests.inject"), "the injector")

    def _children(self, pid: int, word: str) -> list[psutil.Process]:
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if any(word in part for part in process.cmdline()):
                        found.append(process)
        return found


def strike(moment: ChaosMoment, family: ProcessFamily, services: Mapping[str, int], disk: Disk) -> float:
    """Let the moment's victim fall; the monotonic time just before it. Raises ProofError where it is not there."""
    if moment.victim in DISKS:
        writers = [family.master()]
        before_s = time.monotonic()
        disk.stop(writers)
        return before_s
    doomed = _doomed(moment, family, services)
    before_s = time.monotonic()
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            psutil.Process(pid).send_signal(signal.SIGKILL)
    return before_s


def _doomed(moment: ChaosMoment, family: ProcessFamily, services: Mapping[str, int]) -> list[int]:
    if moment.victim in SERVICES:
        return [services[moment.victim]]
    if moment.victim == "master":
        return [family.master().pid]
    if moment.victim == "injector":
        return [family.injector().pid]
    if moment.victim == "worker":
        workers: list[psutil.Process] = wait_for(family.workers, FIND_S, "a worker is there")
        return [workers[moment.seed % len(workers)].pid]
    together = [family.injector().pid, family.master().pid]
    if moment.everything:
        together += [family.command, *(worker.pid for worker in family.workers())]
    return together


def _one(found: list[psutil.Process], what: str) -> psutil.Process:
    if len(found) != 1:
        raise ProofError(f"{what}: {len(found)} found")
    return found[0]


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found
