"""How does the disk of a history stop?  A small one of its own, filled or turned read-only; no other disk is touched.

As root: a tmpfs that is filled, and an ext4 image whose kernel is told of an error, on which it turns read-only (what a
failing disk does).  Not as root a limit on the size of files stands for the full disk; for the read-only one nothing
does, because a file that is open stays writable.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import psutil

from proof.running import ProofError

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
