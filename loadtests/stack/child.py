"""How is one server process started, watched, stopped and frozen, with all that it forks?  Knows no service by name."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from loadtests.model.address import host_port
from loadtests.stack.errors import StackError
from loadtests.stack.folder import Owned

PR_SET_PDEATHSIG = 1
LOG_TAIL_LINES = 15
LOG_TAIL_BYTES = 8_192
POLL_S = 0.005

LINUX = sys.platform == "linux"
_LIBC = ctypes.CDLL(None, use_errno=True) if LINUX else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOwner:
    """As whom a server runs that refuses to run as root."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to start."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    login: ProcessOwner | None = None
    stop_signal: signal.Signals = signal.SIGTERM


def die_with(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel send us `number` when the thread that forked us ends. To be called between fork and exec."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, number.value, 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)


@dataclass(slots=True, kw_only=True)
class Child:
    """One running server. Made by `start`; call `ended` to learn whether it still runs."""

    command: Command
    process: subprocess.Popen[bytes]
    asked_to_end: bool = False
    log_start: int = 0  # where its own lines begin in the log
    frozen: list[int] = field(default_factory=list)

    @classmethod
    def start(cls, command: Command) -> Child:
        """Start it, from the main thread: the kernel ends it with the thread that forked it. Raises StackError."""
        supervisor = os.getpid()
        login = command.login
        with command.log.open("ab") as log:
            log_start = log.tell()
            try:
                process = subprocess.Popen(
                    list(command.argv),
                    env=dict(command.env),
                    cwd=command.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    user=login.uid if login else None,
                    group=login.gid if login else None,
                    extra_groups=[] if login else None,
                    # the supervisor has one thread, so what runs between fork and exec finds no lock held
                    preexec_fn=lambda: die_with(supervisor),
                )
            except OSError as error:
                raise StackError(f"{command.argv[0]} cannot be started: {error.strerror or error}") from None
        return cls(command=command, process=process, log_start=log_start)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def owned(self) -> Owned | None:
        """Its pid with its time of birth, for the process that must end it after us."""
        try:
            return Owned(pid=self.pid, created_s=psutil.Process(self.pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def ended(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self.process.poll()

    def tree(self) -> list[int]:
        """Its pid and those of all its descendants, parents first."""
        try:
            root = psutil.Process(self.pid)
            return [self.pid, *(each.pid for each in root.children(recursive=True))]
        except psutil.NoSuchProcess:
            return []

    def listens(self, address: str) -> bool:
        """Whether it, or what it forked, listens there; yes where the system does not tell."""
        try:
            return any(
                each.status == psutil.CONN_LISTEN and each.laddr == host_port(address)
                for pid in self.tree()
                for each in psutil.Process(pid).net_connections("tcp4")
            )
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True

    def log_tail(self) -> str:
        """The last lines that it wrote since it was started."""
        return tail(self.command.log, self.log_start)

    async def stop(self, deadline: float) -> None:
        """Ask it to end; at the deadline (monotonic, seconds) end it, with all its descendants."""
        self.asked_to_end = True
        if self.ended() is not None:  # its pid may be another process's by now
            return
        if self.frozen:
            self.resume()
        signal_pid(self.pid, self.command.stop_signal)
        while self.ended() is None:
            if time.monotonic() >= deadline:
                await self.kill()
                return
            await asyncio.sleep(POLL_S)

    async def kill(self) -> None:
        """SIGKILL it and its descendants, at once; return when they are gone."""
        self.asked_to_end = True
        if self.ended() is not None:
            return
        pids = self.tree()
        for pid in pids:
            signal_pid(pid, signal.SIGKILL)
        self.frozen = []
        while self.ended() is None or any(alive(pid) for pid in pids):
            await asyncio.sleep(POLL_S)

    async def pause(self, deadline: float) -> bool:
        """SIGSTOP it and its descendants; whether all of them stand still before the deadline."""
        while True:
            pids = self.tree()
            for pid in pids:
                signal_pid(pid, signal.SIGSTOP)
            # the root is stopped first, so a second look finds what it forked in between
            if pids == self.tree() and all(stopped(pid) for pid in pids):
                self.frozen = pids
                return True
            if time.monotonic() >= deadline or self.ended() is not None:
                self.frozen = pids
                return False
            await asyncio.sleep(POLL_S)

    def resume(self) -> None:
        """SIGCONT all that was stopped, descendants first."""
        for pid in reversed(self.frozen or self.tree()):
            signal_pid(pid, signal.SIGCONT)
        self.frozen = []


def signal_pid(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def alive(pid: int) -> bool:
    """Whether it runs; one that only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def stopped(pid: int) -> bool:
    """Whether it does nothing: a signal has stopped it, or it has ended and its stopped parent cannot reap it."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


def end_owned(owned: Owned, *, wait_s: float = 5.0) -> None:
    """End a process that a dead supervisor left, with its descendants, unless the pid is another process's by now."""
    try:
        root = psutil.Process(owned.pid)
        if abs(root.create_time() - owned.created_s) > 1.0:
            return
        doomed = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in doomed:
        signal_pid(process.pid, signal.SIGKILL)
    psutil.wait_procs(doomed, timeout=wait_s)


def tail(path: Path, start: int = 0) -> str:
    """The last lines of a log, of what was written from byte `start` on."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(start, size - LOG_TAIL_BYTES))
            text = log.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.strip().splitlines()[-LOG_TAIL_LINES:])


def exit_text(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"
