"""How do the servers of a stack stand, and what of a fault is still in force?  Two looks, compared; reads only.

Asks over the servers' own wires and the system, by none of the code that applies or lifts a fault, so that a mistake
there cannot hide itself.  Knows nothing of what a fault meant to undo: what is not as before was left.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import redis

from loadtests.model.address import host_port
from loadtests.model.logins import client_options, database_options
from loadtests.model.stackwire import Service, Status
from proof.bench import DIRECT, ProofError

NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One look. An area is a service, or the stack as a whole; its facts are words, so that any two compare."""

    areas: Mapping[str, Mapping[str, str]]  # area -> what -> how it is
    unread: Mapping[str, str] = field(default_factory=dict)  # area -> why it could not be looked at

    def left(self, now: World, *, dead: Collection[str] = ()) -> list[str]:
        """What is not as before, in sentences; `dead` are areas that need not be there any more.

        What could not be looked at is not clean: it is told.
        """
        found: list[str] = []
        for area in sorted({*self.areas, *self.unread, *now.areas, *now.unread} - set(dead)):
            for when, look in (("before", self), ("now", now)):
                if area in look.unread:
                    found.append(f"{area} could not be looked at {when}: {look.unread[area]}")
            if area not in self.unread and area not in now.unread:
                found += _changed(area, self.areas.get(area, {}), now.areas.get(area, {}))
        return found


def _changed(area: str, before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [
        f"{area} {what}: {before.get(what, NOTHING)} -> {now.get(what, NOTHING)}"
        for what in sorted({*before, *now})
        if before.get(what) != now.get(what)
    ]


ASK_S = 5.0
SESSIONS, KEYS = "tickstorm-fault-", "tickstorm:probe:"
"""How sessions of a fault at PostgreSQL, and keys of a proof in Redis, are named."""
VOLATILE = frozenset({"port", "bind", "dir", "logfile", "pidfile", "unixsocket", "dbfilename"})
_LIMITS = ("Max address space", "Max cpu time", "Max file size", "Max open files", "Max data size")


class UnreachableError(ProofError):
    """A server does not answer."""


def look(status: Status) -> World:
    """All services of a stack, as they are; one that cannot be asked is named so."""
    areas: dict[str, dict[str, str]] = {"stack": {f"spare {k}": v.address for k, v in status.spares.items()}}
    unread: dict[str, str] = {}
    for name, service in status.services.items():
        areas[name] = {"state": service.state, **processes(service)}
        try:
            areas[name] |= ASKS[name](service.address) if name in ASKS else {}
        except UnreachableError as error:
            unread[name] = f"{error} ({service.state})"
    return World(areas=areas, unread=unread)


# -- the system


def family(pid: int | None) -> Iterator[psutil.Process]:
    """A service's first process and all that it forked, as far as they live."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if pid is not None:
            first = psutil.Process(pid)
            yield from (first, *first.children(recursive=True))


def standing(pid: int | None) -> list[int]:
    """Processes of a service that a signal has stopped."""
    found = []
    for process in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_STOPPED:
                found.append(process.pid)
    return found


def processes(service: Service) -> dict[str, str]:
    """Who of them stands still, and what the kernel lets them have."""
    found = {"stands still": ", ".join(map(str, still))} if (still := standing(service.pid)) else {}
    limits: dict[str, set[str]] = {}
    for process in family(service.pid):
        with contextlib.suppress(OSError):  # it ended just now, or this system tells no limits
            for line in Path(f"/proc/{process.pid}/limits").read_text(encoding="ascii").splitlines():
                for name in _LIMITS:
                    if line.startswith(name):
                        limits.setdefault(name.lower(), set()).add("/".join(line[len(name) :].split()[:2]))
    return found | {name: " and ".join(sorted(values)) for name, values in limits.items()}


# -- the servers


def toxiproxy(address: str, timeout_s: float = ASK_S) -> dict[str, str]:
    """Proxies and toxics. Raises UnreachableError."""
    found = {}
    for name, proxy in _json(f"http://{address}/proxies", timeout_s).items():
        found[f"proxy {name}"] = f"{'open' if proxy['enabled'] else 'disabled'} to {proxy['upstream']}"
        for toxic in proxy["toxics"]:
            values = ", ".join(f"{k} {v}" for k, v in sorted(toxic["attributes"].items()))
            found[f"toxic {toxic['name']} on {name}"] = f"{toxic['type']} {toxic['stream']} {values}".rstrip()
    return found


def _gateway(address: str) -> dict[str, str]:
    return {f"switch {name}": str(value) for name, value in _json(f"http://{address}/switch", ASK_S).items()}


def _redis(address: str) -> dict[str, str]:
    host, port = host_port(address)
    try:
        with contextlib.closing(
            redis.Redis(host=host, port=port, socket_timeout=ASK_S, **client_options(address, os.environ))
        ) as client:
            config = {_text(k): _text(v) for k, v in client.config_get("*").items()}
            keys = [_text(key) for key in client.scan_iter(match=f"{KEYS}*", count=1_000)]
    except (OSError, redis.RedisError) as error:
        raise UnreachableError(f"Redis does not answer: {error}") from None
    found = {f"setting {name}": value for name, value in config.items() if name not in VOLATILE}
    return found | {f"key {key}": "there" for key in keys}


def _postgres(address: str) -> dict[str, str]:
    try:
        with contextlib.closing(postgres_at(address)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT name, setting FROM pg_settings WHERE source NOT IN ('client', 'session')")
            found = {f"setting {name}": str(setting) for name, setting in cursor.fetchall()}
            return found | held(cursor)
    except psycopg2.Error as error:
        raise UnreachableError(f"PostgreSQL does not answer: {str(error).strip()}") from None


def postgres_at(address: str) -> Any:
    """A connection that its caller closes. Raises psycopg2.Error."""
    host, port = host_port(address)
    connection = psycopg2.connect(
        host=host, port=port, dbname="tickstock_test", user="app_readonly",
        connect_timeout=int(ASK_S), **database_options(address, "app_readonly", os.environ),
    )  # fmt: skip
    connection.autocommit = True
    return connection


def held(cursor: Any) -> dict[str, str]:
    """Tables that are locked exclusively, and sessions of faults. Raises psycopg2.Error."""
    cursor.execute(
        "SELECT DISTINCT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
        "WHERE l.granted AND l.mode = 'AccessExclusiveLock'"
    )
    found = {f"lock on {table}": "held" for (table,) in cursor.fetchall()}
    cursor.execute(
        "SELECT application_name, count(*) FROM pg_stat_activity WHERE application_name LIKE %s GROUP BY 1",
        (f"{SESSIONS}%",),
    )
    return found | {f"session {name}": f"{count} there" for name, count in cursor.fetchall()}


ASKS: dict[str, Callable[[str], dict[str, str]]] = {
    "toxiproxy": toxiproxy, "gateway": _gateway, "redis": _redis, "postgres": _postgres,
}  # fmt: skip


def _json(url: str, timeout_s: float) -> dict[str, Any]:
    try:
        with DIRECT.open(url, timeout=timeout_s) as answer:
            found = json.loads(answer.read())
    except (OSError, ValueError) as error:
        raise UnreachableError(f"it does not answer: {error}") from None
    if not isinstance(found, dict):
        raise UnreachableError(f"its answer is none that is known: {found!r}"[:120])
    return found


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
