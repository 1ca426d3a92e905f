"""Did an injector of this user write this line?  A key that this user alone can read, and a sum by it.

The key lies in the user's state folder (XDG_STATE_HOME, else ~/.local/state): `stack down` does not empty that one,
every checkout of this user finds it, and it goes with no copy of a checkout or of reports/, which people share.
"""

from __future__ import annotations

import errno
import hmac
import os
import secrets
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

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
    """The key; who needs it first draws it. Raises OSError where none can be kept."""
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
    """Whether somebody who has the key wrote this sum for this line."""
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
