"""Where does a stack keep its things, and does one live there already?  Touches only the stack's own folder.

One folder belongs to one supervisor at a time: it holds `lock` as long as it, or anything that it started, lives.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from loadtests.model.errors import BadInput

LONGEST_SOCKET = 100
"""A Unix socket's path may have 104 to 108 bytes, by system; one beyond this goes to a short folder."""

LOCK_S = 2.0
"""Who merely asks whether a supervisor lives holds the lock for an instant, so a starter tries for this long."""


PRIVATE_PREFIX = "tickstorm-"
PASSWORDS = "passwords.json"


class Owned(msgspec.Struct, frozen=True, kw_only=True):
    """A process that a supervisor started: pid and the time of its start, so that a reused pid is not taken for it."""

    pid: int
    created_s: float  # Unix time, as the system tells it


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the next one must know if this supervisor ends without a word."""

    ports: dict[str, int] = {}
    gateway_env: dict[str, str] = {}
    owned: dict[str, Owned] = {}
    frozen: list[Owned] = []  # all processes of paused services, also those that a service forked
    private: list[str] = []  # folders outside this one, ours alone, to be removed


@dataclass(frozen=True, slots=True, kw_only=True)
class StackFolder:
    """The files of one stack."""

    root: Path

    @property
    def logs(self) -> Path:
        """One file per service, and supervisor.log."""
        return self.root / "logs"

    @property
    def data(self) -> Path:
        """What the servers write; gone after `down`."""
        return self.root / "data"

    @property
    def links_config(self) -> Path:
        """The proxies that Toxiproxy creates whenever it starts."""
        return self.root / "links.json"

    @property
    def state(self) -> Path:
        """`State` of the supervisor that lives here, or that died here."""
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor."""
        return self.root / "lock"

    @property
    def socket_note(self) -> Path:
        """Names the socket where its path would be too long here."""
        return self.root / "socket.path"

    def log(self, service: str) -> Path:
        """The log of one service."""
        return self.logs / f"{service}.log"

    def socket(self) -> Path:
        """Where the supervisor listens, or listened."""
        try:
            return Path(self.socket_note.read_text(encoding="utf-8").strip())
        except FileNotFoundError:
            return self.root / "socket"

    def choose_socket(self) -> tuple[Path, Path | None]:
        """A socket path short enough, and the private folder that was made for it, if any."""
        self.socket_note.unlink(missing_ok=True)
        here = self.root / "socket"
        if len(os.fsencode(here)) <= LONGEST_SOCKET:
            return here, None
        private = Path(tempfile.mkdtemp(prefix=PRIVATE_PREFIX))
        self.socket_note.write_text(f"{private / 'socket'}\n", encoding="utf-8")
        return private / "socket", private

    def read_state(self) -> State:
        """What the last supervisor noted; empty where there is nothing, or nothing readable."""
        try:
            return msgspec.json.decode(self.state.read_bytes(), type=State)
        except (FileNotFoundError, msgspec.DecodeError):
            return State()

    def write_state(self, state: State) -> None:
        """Replace the note in one step."""
        fresh = self.state.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(state))
        fresh.chmod(0o600)
        fresh.replace(self.state)

    def make(self) -> None:
        """The folder, where it is not there yet: for its user alone."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def take(self, wait_s: float = LOCK_S) -> IO[bytes] | None:
        """The lock, or None while another one holds it. It is free again when every copy of the file is closed."""
        self.make()
        handle = os.fdopen(open_lock(self.lock), "ab")
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    handle.close()
                    return None
                time.sleep(0.01)
            else:
                return handle

    def held(self) -> bool:
        """Whether a supervisor lives here. Raises BadInput where we may not know."""
        try:
            handle = self.lock.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return False
        except PermissionError as error:
            raise BadInput(f"The stack in {self.root} is somebody else's: {error.strerror}.") from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def remove_private(self, path: str) -> None:
        """Remove a private folder, if its name says that we made it."""
        where = Path(path)
        if where.name.startswith(PRIVATE_PREFIX):
            shutil.rmtree(where, ignore_errors=True)

    def clear(self) -> None:
        """Remove what only a living stack needs; logs stay."""
        for private in self.read_state().private:
            self.remove_private(private)
        shutil.rmtree(self.data, ignore_errors=True)
        for path in (self.socket_note, self.root / "socket", self.links_config, self.state, self.root / PASSWORDS):
            path.unlink(missing_ok=True)


def open_lock(path: Path) -> int:
    """A file that is only locked: who may read one may lock it, and keep us out. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)  # an older version made it readable
    return descriptor


def write_private(path: Path, data: bytes) -> None:
    """Make a file anew that only its user can read, from its first moment on."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def project_root(start: Path | None = None) -> Path | None:
    """The nearest folder, upward, that is a checkout of Tickstorm."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        try:
            project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, PermissionError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            continue
        if project.get("project", {}).get("name") == "tickstorm":
            return folder
    return None


def package_root() -> Path:
    """The folder that holds the package, so that children of ours find it too."""
    return Path(__file__).resolve().parents[2]


def stack_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the stack of this project lives: TICKSTORM_STACK, else `.stack` in the checkout, else in this folder."""
    named = environ.get("TICKSTORM_STACK")
    if named:
        return Path(named).expanduser().absolute()
    return (project_root() or Path.cwd()) / ".stack"


def servers_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where fetched servers are kept: TICKSTORM_SERVERS, else `.servers` in the checkout, else in this folder."""
    named = environ.get("TICKSTORM_SERVERS")
    if named:
        return Path(named).expanduser().absolute()
    return (project_root() or project_root(package_root()) or Path.cwd()) / ".servers"


def open_to_all(folder: Path) -> bool:
    """Whether every user may pass through to `folder`, judged by the mode of it and of all above it."""
    resolved = folder.resolve()
    return all(
        stat.S_IMODE(path.stat().st_mode) & stat.S_IXOTH for path in (resolved, *resolved.parents) if path.exists()
    )
