"""Where are a profile's weeks kept?  The one place that reads, locks and appends to the files of a store.

Several processes may write: each appends whole lines by one write under a lock, and waits for the other. What a killed
writer left half is closed with a line feed, so that it spoils no line but its own.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from loadtests.model.errors import BadInput
from loadtests.model.store import Read, Row, lines_of, read_rows

MOST_BYTES = 1 << 30
SUFFIX = ".jsonl"
VARIABLE = "TICKSTORM_STORE"
DEFAULT = ".tickstorm/history"


class StoreFiles:
    """A store: a folder with a file per profile, or one file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    @classmethod
    def named(cls, text: str | None) -> StoreFiles:
        """By `--store`, else by the environment, else the default folder."""
        return cls(Path(text or os.environ.get(VARIABLE) or DEFAULT))

    @property
    def single(self) -> bool:
        """It is one file."""
        return self.place.suffix == SUFFIX

    def file(self, profile: str) -> Path:
        """Where the rows of a profile are."""
        return self.place if self.single else self.place / f"{profile}{SUFFIX}"

    def profiles(self) -> list[str]:
        """Profiles that have a file here."""
        if self.single:
            return [self.place.stem] if self.place.exists() else []
        try:
            return sorted(path.stem for path in self.place.iterdir() if path.suffix == SUFFIX)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BadInput(f"--store {self.place}: found {error.strerror}, allowed a folder or a .jsonl file") from None

    def read(self, profile: str) -> Read:
        """All rows of a profile; none where there is no file. Raises BadInput where it cannot be read."""
        path = self.file(profile)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return Read()
        except OSError as error:
            raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
            os.close(descriptor)
            raise BadInput(f"{path}: found no file of at most {MOST_BYTES:,} bytes, allowed a store's")
        with open(descriptor, "rb") as file:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            data = file.read(MOST_BYTES)
        return read_rows(data, path.name)

    def append(self, profile: str, rows: Iterable[Row]) -> None:
        """Keep rows: they are on the disk when this returns. Raises BadInput where they cannot be kept."""
        path = self.file(profile)
        data = lines_of(rows)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    data = b"\n" + data
                done = os.write(descriptor, data)
                while done < len(data):
                    done += os.write(descriptor, data[done:])
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise BadInput(f"{path}: rows cannot be kept: {error.strerror}") from None
