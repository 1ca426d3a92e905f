"""What do servers and history of a disturbed run show from outside?  Reads only; asks servers over their wires."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import redis

from loadtests.model.codec import Frame, decode
from loadtests.model.ids import NS_PER_S
from loadtests.model.records import FaultStep, Header, PhaseMark, Record
from loadtests.model.stackwire import PROXY_PREFIX
from loadtests.prove.running import ProofError

LOOK_S = 0.05
ASK_S = 5.0
VOLATILE = frozenset({"port", "bind", "dir", "logfile", "pidfile", "unixsocket", "dbfilename"})


class UnreachableError(ProofError):
    """A server does not answer."""


def in_force(toxiproxy: str, timeout_s: float = ASK_S) -> list[str]:
    """Faults that Toxiproxy holds now. Raises UnreachableError."""
    try:
        with urllib.request.urlopen(f"http://{toxiproxy}/proxies", timeout=timeout_s) as answer:
            proxies = json.loads(answer.read())
    except (OSError, ValueError) as error:
        raise UnreachableError(f"Toxiproxy does not answer: {error}") from None
    found = [
        f"{name.removeprefix(PROXY_PREFIX)} is disabled" for name, proxy in proxies.items() if not proxy["enabled"]
    ]
    return found + [f"{toxic['type']} on {name}" for name, proxy in proxies.items() for toxic in proxy["toxics"]]


class Lookout:
    """Looks at Toxiproxy all the time; remembers when a fault was seen last. One that is gone holds no fault."""

    def __init__(self, toxiproxy: str) -> None:
        self._toxiproxy = toxiproxy
        self._over = threading.Event()
        self.last_s: float | None = None  # monotonic
        self.now: list[str] = []
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            try:
                self.now = in_force(self._toxiproxy)
            except UnreachableError:
                self.now = []
            if self.now:
                self.last_s = time.monotonic()

    def close(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join(2 * ASK_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the servers that a fault may have changed."""

    redis: dict[str, str]
    postgres: dict[str, str]
    locks: tuple[str, ...]  # tables that somebody holds for himself

    def changed(self, now: Settings) -> list[str]:
        """What is not as before."""
        found = [f"redis {k}: {v} -> {now.redis.get(k)}" for k, v in self.redis.items() if now.redis.get(k) != v]
        found += [
            f"postgres {k}: {v} -> {now.postgres.get(k)}" for k, v in self.postgres.items() if now.postgres.get(k) != v
        ]
        return found + [f"postgres: a lock is held on {table}" for table in now.locks]


def settings(redis_at: str, postgres_at: str) -> Settings:
    """As the servers tell them. Raises UnreachableError."""
    try:
        host, _, port = redis_at.rpartition(":")
        with contextlib.closing(redis.Redis(host=host, port=int(port), socket_timeout=ASK_S)) as client:
            config = {_text(k): _text(v) for k, v in client.config_get("*").items()}
        host, _, port = postgres_at.rpartition(":")
        with contextlib.closing(
            psycopg2.connect(
                host=host, port=int(port), dbname="tickstock_test", user="app_readonly",
                password=os.environ.get("TEST_DB_PASSWORD"), connect_timeout=int(ASK_S),
            )
        ) as connection, connection.cursor() as cursor:  # fmt: skip
            cursor.execute("SELECT name, setting FROM pg_settings WHERE source NOT IN ('client', 'session')")
            postgres = dict(cursor.fetchall())
            cursor.execute(
                "SELECT DISTINCT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
                "WHERE l.granted AND l.mode = 'AccessExclusiveLock' ORDER BY 1"
            )
            locks = tuple(row[0] for row in cursor.fetchall())
    except (OSError, redis.RedisError, psycopg2.Error) as error:
        raise UnreachableError(f"the servers' settings cannot be read: {error}") from None
    return Settings(redis={k: v for k, v in config.items() if k not in VOLATILE}, postgres=postgres, locks=locks)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


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
