"""What do servers and history of a disturbed run show from outside?  Reads only; asks servers over their wires."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import redis

from loadtests.model.address import host_port
from loadtests.model.codec import Frame, decode
from loadtests.model.ids import NS_PER_S
from loadtests.model.logins import client_options
from loadtests.model.records import FaultStep, Header, PhaseMark, Record
from loadtests.model.stackwire import Status
from proof.faults_world import ASK_S, UnreachableError, held, postgres_at, toxiproxy

LOOK_S = 0.1
BUFFERS = "client-output-buffer-limit"


class Lookout:
    """Looks all the time at what faults change; remembers when one was seen last. A server that is gone holds none."""

    def __init__(self, status: Status) -> None:
        self._services = status.services
        self._buffers: str | None = None  # as Redis told it first
        self._over = threading.Event()
        self.last_s: float | None = None  # monotonic
        self.now: list[str] = []
        self._look_once()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            self._look_once()

    def _look_once(self) -> None:
        self.now = [*self._links(), *self._redis(), *self._postgres(), *self._standing()]
        if self.now:
            self.last_s = time.monotonic()

    def _links(self) -> list[str]:
        try:
            found = toxiproxy(self._services["toxiproxy"].address)
        except UnreachableError:
            return []
        return [f"{what}: {how}" for what, how in found.items() if what.startswith("toxic") or "disabled" in how]

    def _redis(self) -> list[str]:
        address = self._services["redis"].address
        host, port = host_port(address)
        try:
            with contextlib.closing(
                redis.Redis(host=host, port=port, socket_timeout=ASK_S, **client_options(address, os.environ))
            ) as client:
                now = str(client.config_get(BUFFERS))
        except (OSError, redis.RedisError):
            return []
        self._buffers = self._buffers or now
        return [] if now == self._buffers else [f"{BUFFERS} of redis changed"]

    def _postgres(self) -> list[str]:
        try:
            with (
                contextlib.closing(postgres_at(self._services["postgres"].address)) as connection,
                connection.cursor() as cursor,
            ):
                return [what for what in held(cursor) if what.startswith("lock")]
        except psycopg2.Error:
            return []

    def _standing(self) -> list[str]:
        found = []
        for name, service in self._services.items():  # its first process alone: to list a family goes through all
            with contextlib.suppress(psutil.NoSuchProcess):
                if service.pid is not None and psutil.Process(service.pid).status() == psutil.STATUS_STOPPED:
                    found.append(f"{name} stands still")
        return found

    def close(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join(2 * ASK_S)


# -- the history


def files(run: Path) -> dict[str, bytes]:
    """Bytes of every file of a run's history, by process."""
    return {path.stem: path.read_bytes() for path in sorted((run / "history").glob("*.tsh"))}


def records(data: bytes) -> Iterator[Record]:
    """Records of the whole frames from the beginning."""
    for frame in decode(data):
        if isinstance(frame, Frame):
            yield from frame.records


def has_hole(data: bytes) -> bool:
    """Whether whole frames lie behind bytes that are none: nobody reads them there."""
    read = 0
    for frame in decode(data):
        if not isinstance(frame, Frame):
            read = frame.offset
            break
    else:
        return False
    return data.find(data[:4], read + 1) >= 0


def origin_ns(data: bytes) -> int | None:
    """Monotonic time of the run clock's 0, as the main file's header tells it."""
    return next((r.origin_ns for r in records(data) if isinstance(r, Header)), None)


def started_s(data: bytes) -> float | None:
    """Monotonic time of T0; None while it has not come."""
    origin = origin_ns(data)
    for record in records(data):
        if isinstance(record, PhaseMark) and record.phase == "warm-up" and origin is not None:
            return (origin + record.at_ns) / NS_PER_S
    return None


def last_ns(data: bytes) -> int | None:
    """Run-clock time of the latest record; None where no record has a time."""
    times = [r.after_ns if isinstance(r, FaultStep) else getattr(r, "at_ns", None) for r in records(data)]
    return max((at for at in times if isinstance(at, int)), default=None)
