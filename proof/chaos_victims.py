"""Which processes and disks does chaos strike, and how?  Ends processes by id, stops a disk of its own and no other.

Processes are found by descent and by a mark, which every process of a run inherits in its environment.  As root the
disk is a tmpfs that is filled, or an ext4 image whose kernel is told of an error, on which it turns read-only (what a
failing disk does).  Not as root a limit on the size of files stands for the full disk; nothing stands for the read-only
one, because a file that is open stays writable.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from proof.bench import ProofError, wait_for
from proof.chaos_plan import DISKS, SERVICES, ChaosMoment

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


# -- disks


MB = 1_000_000
FULL_MB, IMAGE_MB = 12, 12


class RefusedHereError(ProofError):
    """This machine does not let us do it; the text says why."""


class Disk:
    """Where one run's reports lie, and how it stops. As a context manager it leaves nothing mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    def stop(self, writers: Iterable[psutil.Process]) -> None:
        """From now on nothing can be written."""
        raise NotImplementedError

    def close(self) -> None:
        """Take it away; what was stored is gone unless `copy_to` saved it."""

    def copy_to(self, folder: Path) -> None:
        """Save what was stored."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("filler", "lost+found"))


class SizeLimit(Disk):
    """Files may grow no further: what a disk quota does, for one process and its children."""

    def stop(self, writers: Iterable[psutil.Process]) -> None:
        size = max((path.stat().st_size for path in self.folder.glob("*/history/main.tsh")), default=0)
        for process in writers:
            _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
            process.rlimit(psutil.RLIMIT_FSIZE, (size, hard))


class Tmpfs(Disk):
    """Memory with a size, filled to its last byte."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        _run("mount", "-t", "tmpfs", "-o", f"size={FULL_MB}m", "tickstorm-chaos", str(folder))

    def stop(self, writers: Iterable[psutil.Process]) -> None:
        piece = bytes(1 << 16)
        with (self.folder / "filler").open("wb", buffering=0) as filler:
            while piece:
                try:
                    filler.write(piece)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    piece = piece[: len(piece) // 2]

    def close(self) -> None:
        _run("umount", "-l", str(self.folder))


class Image(Disk):
    """A file system in a file, which its kernel turns read-only."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        image = folder.with_suffix(".img")
        with image.open("wb") as file:
            file.truncate(IMAGE_MB * MB)
        _run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", str(image))
        self._device = _run("losetup", "-f", "--show", str(image)).strip()
        try:
            _run("mount", "-o", "errors=remount-ro", self._device, str(folder))
        except RefusedHereError:
            self._detach()
            raise
        self._trigger = Path("/sys/fs/ext4") / Path(self._device).name / "trigger_fs_error"
        if not self._trigger.exists():
            self.close()
            raise RefusedHereError("this kernel cannot be told of a disk's error")

    def stop(self, writers: Iterable[psutil.Process]) -> None:
        self._trigger.write_text("chaos\n", encoding="ascii")

    def close(self) -> None:
        _run("umount", "-l", str(self.folder))
        self._detach()

    def _detach(self) -> None:
        _run("losetup", "-d", self._device)


def disk(victim: str, folder: Path) -> Disk:
    """The disk that will stop as the victim's name says; any other is the machine's. Raises RefusedHereError."""
    if victim == "disk full":
        if os.geteuid() == 0:
            try:
                return Tmpfs(folder)
            except RefusedHereError:
                folder.rmdir()
        if hasattr(resource, "prlimit"):
            return SizeLimit(folder)
        raise RefusedHereError("no tmpfs may be mounted, and no limit be set for another process")
    if victim == "disk read-only":
        if os.geteuid() != 0:
            raise RefusedHereError("only root may mount a disk, and a file that is open stays writable otherwise")
        return Image(folder)
    return Disk(folder)


def _run(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RefusedHereError(f"{argv[0]}: {error}") from None
    if done.returncode:
        raise RefusedHereError(f"{argv[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout
