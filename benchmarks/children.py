"""How are the measured programs run?  Pinned to a core, bounded in time, ended by their process id."""

from __future__ import annotations

import ctypes
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import IO

import psutil

CLIENT_CORE, SERVER_CORE = 0, 1
END_S = 5.0
_PR_SET_PDEATHSIG = 1


class ChildError(Exception):
    """A program did not do what it was started for; the text says which and why."""


def raise_file_limit() -> int:
    """Descriptors that this process and its children may have: the soft limit becomes the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def stay_on(core: int) -> None:
    """Pin this process, where there is more than one core."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


def _before_exec(core: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None

    def prepare() -> None:
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        stay_on(core)

    return prepare


class Child:
    """A running program whose lines on stdout are read with deadlines."""

    def __init__(
        self, name: str, argv: Sequence[str], core: int, environment: Mapping[str, str] | None, merged: bool
    ) -> None:
        self.name = name
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed in end()
        self._tail: deque[str] = deque(maxlen=3)
        self.process = subprocess.Popen(
            list(argv),
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else self._errors,
            start_new_session=True,
            preexec_fn=_before_exec(core),
        )
        assert self.process.stdout is not None
        self._out = self.process.stdout
        os.set_blocking(self._out.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)
        self._held = b""
        self._ended = False

    def lines(self, timeout_s: float) -> list[str]:
        """Whole lines that come within a time, at once when there are any; empty: none came, or the program ended."""
        if self._ended or not self._selector.select(timeout_s):
            return []
        piece = self._out.read(1 << 16)
        if not piece:
            self._ended = True
        *whole, self._held = (self._held + (piece or b"")).split(b"\n")
        found = [line.decode(errors="replace") for line in whole]
        self._tail.extend(found)
        return found

    def line(self, holds: Callable[[str], bool], timeout_s: float) -> str:
        """The first line that holds. Raises ChildError where none comes in time."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            for line in self.lines(left):
                if holds(line):
                    return line
            if self._ended:
                break
        raise ChildError(f"{self.name} did not say what was waited for: {self.said() or 'nothing'}")

    def said(self) -> str:
        """The end of what it wrote to stderr, else to stdout, in one line."""
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace").strip().splitlines() or list(self._tail)
        return " | ".join(line.strip() for line in text[-3:])[-300:]

    @property
    def over(self) -> bool:
        """Whether it said all that it had to say."""
        return self._ended

    def cpu_s(self) -> float:
        """User and system time so far; 0 where it is gone."""
        try:
            times = psutil.Process(self.process.pid).cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return float(times.user + times.system)

    def end(self) -> list[str]:
        """SIGTERM, then SIGKILL to what is left of its session; its last lines."""
        if self.process.poll() is None:
            self.process.terminate()
        last: list[str] = []
        deadline = time.monotonic() + END_S
        while not self._ended and time.monotonic() < deadline:
            last += self.lines(0.1)
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._selector.close()
        self._out.close()
        self._errors.close()
        return last


class Children:
    """All programs of a benchmark; none outlives it."""

    def __init__(self) -> None:
        self._running: list[Child] = []

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._running):
            child.end()
        self._running.clear()

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        core: int,
        environment: Mapping[str, str] | None = None,
        merged: bool = False,
    ) -> Child:
        """Start one; `merged`: its lines are those of stdout and stderr. Raises ChildError where it cannot start."""
        try:
            child = Child(name, argv, core, environment, merged)
        except OSError as error:
            raise ChildError(f"{name} could not be started: {error.strerror}") from None
        self._running.append(child)
        return child

    def end(self, child: Child) -> list[str]:
        """End one; its last lines."""
        self._running.remove(child)
        return child.end()

    def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        core: int,
        timeout_s: float,
        environment: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Run one to its end; all its lines. Raises ChildError where it fails or takes longer than it may."""
        child = self.start(name, argv, core=core, environment=environment)
        deadline, lines = time.monotonic() + timeout_s, list[str]()
        try:
            while not child.over:
                if time.monotonic() > deadline:
                    raise ChildError(f"{name} took longer than {timeout_s:.0f} s")
                lines += child.lines(0.5)
            status = child.process.wait(END_S)
            if status:
                raise ChildError(f"{name} ended with status {status}: {child.said()}")
        finally:
            self.end(child)
        return lines
