"""Which faults may be in force, and how is each undone?  An append-only file, on disk before a fault is applied.

Any process can undo what is open in it, whatever became of the one that wrote it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from loadtests.inject.kinds.kind import Undo


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line."""

    do: Literal["open", "close"]
    fault: str
    kind: str = ""
    link: str = ""
    proxy: str = ""  # the link's proxy; empty for a fault that acts on no link
    toxiproxy: str = ""  # host:port
    supervisor: str = ""  # folder of the local stack
    redis: str = ""  # host:port of the server itself
    postgres: str = ""
    database: str = ""
    user: str = ""  # of PostgreSQL, for probes; passwords are in no file
    undo: Undo = {}


class Journal:
    """The journal of one run. Raises OSError where it cannot be written: then no fault may be applied."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, entry: Entry) -> None:
        """The fault may be in force from now on."""
        self._append(entry)

    def close(self, fault: str) -> None:
        """It is lifted and that was read back."""
        self._append(Entry(do="close", fault=fault))

    def pending(self) -> list[Entry]:
        """What is open, oldest first. A torn last line is dropped: its fault was not applied yet."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        pending: dict[str, Entry] = {}
        for line in lines:
            try:
                entry = msgspec.json.decode(line, type=Entry)
            except msgspec.MsgspecError:
                continue
            pending.pop(entry.fault, None)
            if entry.do == "open":
                pending[entry.fault] = entry
        return list(pending.values())

    def _append(self, entry: Entry) -> None:
        is_new = not self.path.exists()
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"  # by a writer that was killed
            os.write(fd, (b"\n" if torn else b"") + msgspec.json.encode(entry) + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        if is_new:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
