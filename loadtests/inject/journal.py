"""Which faults may be in force, and how is each undone?  An append-only file, on disk before a fault is applied.

Any process can undo what is open in it, whatever became of its writer; but none while its injector lives: an injector
holds the file, and the system lets it go when the process ends, however it ends.

A process that undoes a fault shows passwords to the servers that a line names. So only lines of this user's own
injectors count, by the sum beside each, in a file of this user. Others are counted, and left until the user vouches for
the file. The key of the sums lies in the user's state folder (XDG_STATE_HOME, else ~/.local/state): `stack down` does
not empty that one, every checkout of this user finds it, and it goes with no copy of a checkout or of reports/.
"""

from __future__ import annotations

import errno
import fcntl
import hmac
import os
import secrets
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from loadtests.inject.deadline import Watch
from loadtests.inject.kinds.kind import Undo
from loadtests.model.ids import NS_PER_MS

STATE = "XDG_STATE_HOME"
_NAME = "journal.key"
_BYTES = 32


def key_file() -> Path:
    """Where this user's key lies, or will lie."""
    named = os.environ.get(STATE, "")
    state = Path(named) if named.startswith("/") else Path(os.path.expanduser("~/.local/state"))
    return state / "tickstorm" / _NAME


def known_key() -> bytes | None:
    """None where there is none, or none that this user alone can read: then no line is of this user's injector."""
    try:
        return _read(key_file())
    except OSError:
        return None


def own_key() -> bytes:
    """The key, drawn where there is none. Raises OSError where none can be kept."""
    path = key_file()
    try:
        return _read(path) if path.exists() else _drawn(path)
    except OSError as error:
        why = f"the key of its lines cannot be kept in {path}: {error.strerror}; {STATE} may name another folder"
        raise OSError(error.errno, why) from None


def _drawn(path: Path) -> bytes:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{_NAME}.{secrets.token_hex(8)}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(fd)
        with suppress(FileExistsError):  # another injector was faster
            os.link(fresh, path)  # whole or not at all
    finally:
        fresh.unlink()
    return _read(path)


def seal(line: bytes, key: bytes) -> str:
    """The sum that stands beside a line."""
    return blake2b(line, key=key, digest_size=16).hexdigest()


def fits(line: bytes, found: str, key: bytes) -> bool:
    """Whether a holder of the key wrote this sum for this line."""
    return hmac.compare_digest(seal(line, key).encode(), found.encode("utf-8", "replace"))


def _read(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        key = os.read(fd, _BYTES + 1)
    finally:
        os.close(fd)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077 or len(key) != _BYTES:
        raise PermissionError(errno.EPERM, "it is no key that this user alone can read")
    return key


_LOOK_NS = 50 * NS_PER_MS
_ITSELF = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # no link, and no pipe that would let us wait


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line; "held" names the Toxiproxy that the holder of the journal works at."""

    do: Literal["open", "close", "held"]
    fault: str = ""
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
    seal: str = ""  # of the line without it; an older version wrote none


class Hold:
    """Nobody else may undo what is in the journal until this is released."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """Safe to repeat."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


class Journal:
    """The journal of one run. Raises OSError where it cannot be written: then no fault may be applied."""

    def __init__(self, path: Path, *, vouched: bool = False) -> None:
        """`vouched`: the user says that its lines are to be believed, also without a sum."""
        self.path = path
        self._vouched = vouched
        self._key: bytes | None = None

    def begin(self, toxiproxy: str, patience_s: float) -> Hold:
        """Holds it for an injector that works at this Toxiproxy, and creates it where there is none.

        Raises OSError where it cannot be written, or another process still holds it after so long.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | _ITSELF, 0o600)
        hold = _held(fd, patience_s)
        if hold is None:
            raise BlockingIOError(errno.EAGAIN, "another injector or a healing holds it")
        try:
            self._append(Entry(do="held", toxiproxy=toxiproxy))
        except OSError:
            hold.release()
            raise
        return hold

    def hold(self, patience_s: float = 0.0) -> Hold | None:
        """Holds it to undo what is open; None while its injector lives. Raises OSError where it cannot be opened."""
        return _held(os.open(self.path, os.O_RDONLY | _ITSELF), patience_s)

    def toxiproxies(self) -> set[str]:
        """Every Toxiproxy that its injectors worked at, also other users' injectors."""
        return {entry.toxiproxy for entry, _ in self._entries() if entry.toxiproxy}

    def open(self, entry: Entry) -> None:
        """The fault may be in force from now on."""
        self._append(entry)

    def close(self, fault: str) -> None:
        """It is lifted and that was read back."""
        self._append(Entry(do="close", fault=fault))

    def pending(self) -> list[Entry]:
        """What is open, oldest first. A torn last line is dropped: its fault was not applied yet."""
        return _open(entry for entry, ours in self._entries() if ours)

    def of_others(self) -> int:
        """How many faults are open by lines that no injector of this user wrote."""
        entries = self._entries()
        return len(_open(entry for entry, _ in entries)) - len(_open(entry for entry, ours in entries if ours))

    def is_own(self) -> bool:
        """Whether it is a file of this user: no link, and nobody else's."""
        try:
            found = self.path.lstat()
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()

    def _entries(self) -> list[tuple[Entry, bool]]:
        """Every whole line, and whether it is to be believed."""
        try:
            fd = os.open(self.path, os.O_RDONLY | _ITSELF)
        except OSError:
            if self.is_own():
                raise
            return []
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            lines = file.read().split(b"\n") if stat.S_ISREG(status.st_mode) else []
        key = known_key() if status.st_uid == os.geteuid() else None
        found = []
        for line in lines:
            try:
                entry = msgspec.json.decode(line, type=Entry)
            except msgspec.MsgspecError:
                continue
            bare = msgspec.structs.replace(entry, seal="")
            sealed = key is not None and fits(msgspec.json.encode(bare), entry.seal, key)
            found.append((bare, self._vouched or sealed))
        return found

    def _append(self, entry: Entry) -> None:
        self._key = self._key or own_key()
        entry = msgspec.structs.replace(entry, seal=seal(msgspec.json.encode(entry), self._key))
        is_new = not self.path.exists() or self.path.stat().st_size == 0
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _ITSELF, 0o600)
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


def _open(entries: Iterable[Entry]) -> list[Entry]:
    pending: dict[str, Entry] = {}
    for entry in entries:
        pending.pop(entry.fault, None)
        if entry.do == "open":
            pending[entry.fault] = entry
    return list(pending.values())


def _held(fd: int, patience_s: float) -> Hold | None:
    watch = Watch.of_s(patience_s)
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if watch.over or not watch.wait(time.monotonic_ns() + _LOOK_NS):
                os.close(fd)
                return None
        except OSError:
            os.close(fd)
            raise
        else:
            return Hold(fd)
