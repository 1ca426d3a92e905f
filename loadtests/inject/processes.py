"""Which processes are a service, how much do they use, and do they stand still?  By pid and birth; Linux and macOS."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

import psutil

from loadtests.inject.errors import NotAllowedHere, Refused
from loadtests.inject.kinds.kind import Site, Undo
from loadtests.model.injectwire import PlannedFault

_GONE = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
_SAME_S = 0.05  # a birth is told with the system's tick, and passes through text


def remember(site: Site, fault: PlannedFault) -> Undo:
    """The service's first process, for the journal. Raises Refused where it does not run."""
    service = site.the_supervisor().service(fault.link)
    if service.pid is None:
        raise Refused(f"{fault.link} does not run")
    return {"service": fault.link, "pid": str(service.pid), "born": repr(psutil.Process(service.pid).create_time())}


def family_of(site: Site, fault: PlannedFault) -> list[psutil.Process]:
    """The service's processes now, the first one first. Raises Refused where it does not run."""
    found = remembered(remember(site, fault))
    if not found:
        raise Refused(f"{fault.link} does not run")
    return found


def remembered(entry: Undo) -> list[psutil.Process]:
    """The processes of a journal's entry that still live; none where the pid is somebody else's by now."""
    try:
        first = psutil.Process(int(str(entry["pid"])))
        if abs(first.create_time() - float(str(entry["born"]))) > _SAME_S:
            return []
        return [process for process in (first, *first.children(recursive=True)) if process.status() not in _GONE]
    except psutil.NoSuchProcess:
        return []


def standing(processes: list[psutil.Process]) -> list[int]:
    """Which of them a signal has stopped."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_STOPPED:
                found.append(process.pid)
    return found


def tell_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Sends a signal to each; those that are gone are left out. Raises NotAllowedHere."""
    for process in processes:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            continue
        except PermissionError as error:
            raise NotAllowedHere(f"process {process.pid} may not be told to stop or go on: {error.strerror}") from error


class CpuMeter:
    """CPU seconds of a family since the meter was made; what a process used before it was first seen is not counted."""

    def __init__(self, family: Callable[[], list[psutil.Process]]) -> None:
        self._family = family
        self._last: dict[int, float] = {}
        self._used_s = 0.0
        self.used_s()

    def used_s(self) -> float:
        """Reads it."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                now_s = float(times.user + times.system)
                self._used_s += now_s - self._last.get(process.pid, now_s)
                self._last[process.pid] = now_s
        return self._used_s
