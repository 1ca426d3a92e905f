"""With which command does each service of the stack start, and does it really answer?  Starts nothing itself.

Every probe speaks to its service as a client would, for a port that merely accepts proves nothing: it returns what the
service says of itself, or raises NotReady with what is missing.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from loadtests.model.address import host_port
from loadtests.model.logins import TOKEN_SECRET
from loadtests.model.stackwire import LinkAddress
from loadtests.stack import postgresql
from loadtests.stack.child import Command, ProcessOwner
from loadtests.stack.folder import StackFolder, open_to_all, write_private
from loadtests.stack.links import HOST, addresses, links
from loadtests.stack.passwords import Passwords
from loadtests.stack.servers import Program, Servers

COPY = "programs"
ANSWER_S = 1.0
"""A probe that has no answer after this counts as unanswered; the next one follows at once."""

PG_DATABASE = "tickstock_test"
PG_PROBE_USER = "app_readonly"  # the role that the gateway uses
LIMIT_BYTES = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One service before it is started."""

    name: str
    address: str
    origin: str
    command: Command
    probe: Callable[[], Awaitable[str]]  # the service's version, or NotReady
    ports: tuple[str, ...]  # of the service and, for Toxiproxy, of its links


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where PostgreSQL's programs and data lie, and the private folder that was needed for it, if any."""

    programs: Path
    data: Path
    owner: ProcessOwner | None
    private: Path | None


def place_postgres(folder: StackFolder, program: Program) -> Place:
    """In the stack's folder; where `nobody` must run it and cannot get there, in a private temporary folder."""
    owner = postgresql.login()
    if owner is None or (open_to_all(folder.data) and open_to_all(program.path)):
        return Place(programs=program.path, data=folder.data / "postgres", owner=owner, private=None)
    private = postgresql.make_private(owner)
    programs = program.path if open_to_all(program.path) else postgresql.programs_of(private / COPY)
    return Place(programs=programs, data=private / "data", owner=owner, private=private)


def lay_postgres(place: Place, template: Path, passwords: Passwords) -> None:
    """Copy the template to its place, and the programs where their own place cannot be reached; set the passwords."""
    postgresql.clone(template, place.data, place.owner)
    if place.private is not None and place.private in place.programs.parents:
        postgresql.copy_carried(place.private / COPY)
    postgresql.set_passwords(place.programs, place.data, place.owner, "".join(passwords.statements()))


def redis_config(folder: StackFolder, port: int) -> Path:
    """What the Redis on a port is told; in a file, since everybody can read a command line."""
    return folder.data / f"redis-{port}.conf"


def lay_redis(folder: StackFolder, port: int, passwords: Passwords) -> None:
    """Write what the Redis on a port is told."""
    options = {"bind": HOST, "port": str(port), "save": '""', "appendonly": "no", "daemonize": "no", "logfile": '""'}
    lines = [f"{name} {value}" for name, value in options.items()] + list(passwords.redis_users())
    write_private(redis_config(folder, port), "".join(f"{line}\n" for line in lines).encode("ascii"))


def plans(
    *,
    folder: StackFolder,
    servers: Servers,
    ports: Mapping[str, int],
    place: Place,
    gateway_env: Mapping[str, str],
    passwords: Passwords,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Plan]:
    """Every service, in the order in which they start."""
    at = addresses(ports)
    table = links(ports)
    server_env = {"PATH": os.defpath, "HOME": str(folder.data), "LC_ALL": "C", "TZ": "UTC"}
    python = postgresql.python_environment(environ)
    secret = python.pop(TOKEN_SECRET, "")
    gateway = _target_env(table, "gateway", "app_readonly", passwords) | {
        "GATEWAY_HOST": HOST,
        "GATEWAY_PORT": str(ports["gateway"]),
        "GATEWAY_ALLOW_SWITCHES": "1",  # the stack is a test system
        "GATEWAY_SWITCH_TOKEN": passwords.switches,
        "GATEWAY_TOKEN_SECRET": secret,
    }
    producer = _target_env(table, "producer", "app_readwrite", passwords) | {
        "PRODUCER_HOST": HOST,
        "PRODUCER_PORT": str(ports["producer"]),
    }
    return {
        "redis": Plan(
            name="redis",
            address=at["redis"],
            origin=servers.redis.origin,
            command=Command(
                argv=[str(servers.redis.path), str(redis_config(folder, ports["redis"]))],
                env=server_env, cwd=folder.data, log=folder.log("redis"),
            ),
            probe=functools.partial(probe_redis, at["redis"]),
            ports=("redis",),
        ),
        "postgres": Plan(
            name="postgres",
            address=at["postgres"],
            origin=servers.postgres.origin,
            command=Command(
                argv=[str(place.programs / "postgres"), "-D", str(place.data), "-p", str(ports["postgres"])],
                env=postgresql.environment(place.data),
                cwd=place.data,
                log=folder.log("postgres"),
                login=place.owner,
                stop_signal=signal.SIGINT,  # SIGTERM would wait until all clients have left
            ),
            probe=functools.partial(probe_postgres, at["postgres"], passwords.app_readonly),
            ports=("postgres",),
        ),
        "toxiproxy": Plan(
            name="toxiproxy",
            address=at["toxiproxy"],
            origin=servers.toxiproxy.origin,
            command=Command(
                argv=[str(servers.toxiproxy.path), "-host", HOST, "-port", str(ports["toxiproxy"]),
                      "-config", str(folder.links_config)],
                env=server_env | {"LOG_LEVEL": "info"}, cwd=folder.data, log=folder.log("toxiproxy"),
            ),
            probe=functools.partial(probe_toxiproxy, at["toxiproxy"], table),
            ports=("toxiproxy", *table),
        ),
        "gateway": Plan(
            name="gateway",
            address=at["gateway"],
            origin="ours",
            command=Command(
                argv=[sys.executable, "-P", "-m", "reference_target.gateway"],
                env=python | gateway | dict(gateway_env), cwd=folder.data, log=folder.log("gateway"),
            ),
            probe=functools.partial(probe_target, at["gateway"]),
            ports=("gateway",),
        ),
        "producer": Plan(
            name="producer",
            address=at["producer"],
            origin="ours",
            command=Command(
                argv=[sys.executable, "-P", "-m", "reference_target.producer"],
                env=python | producer, cwd=folder.data, log=folder.log("producer"),
            ),
            probe=functools.partial(probe_target, at["producer"]),
            ports=("producer",),
        ),
    }  # fmt: skip


def _target_env(table: Mapping[str, LinkAddress], who: str, user: str, passwords: Passwords) -> dict[str, str]:
    """A process of the target reaches Redis and PostgreSQL through its own links only."""
    redis_host, redis_port = host_port(table[f"{who}-redis"].listen)
    pg_host, pg_port = host_port(table[f"{who}-postgres"].listen)
    return {
        "REDIS_HOST": redis_host,
        "REDIS_PORT": str(redis_port),
        "PG_HOST": pg_host,
        "PG_PORT": str(pg_port),
        "PG_DATABASE": postgresql.DATABASE,
        "PG_USER": user,
        "PG_PASSWORD": str(getattr(passwords, user)),
        "REDIS_USER": who,
        "REDIS_PASSWORD": str(getattr(passwords, who)),
    }


class NotReady(Exception):  # noqa: N818 - it names a state, and is always caught here or by the supervisor
    """The service does not answer yet, or says that it is not ready."""


@asynccontextmanager
async def _opened(address: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = host_port(address)
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(host, port, limit=LIMIT_BYTES)
            try:
                yield reader, writer
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise NotReady(f"no answer from {address} within {ANSWER_S:g} s") from None
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise NotReady(f"{address}: {error}") from None


async def probe_redis(address: str) -> str:
    """PING, then the version from INFO. Without a login: a wrong listener would read the password."""
    async with _opened(address) as (reader, writer):
        writer.write(b"PING\r\n")
        pong = await reader.readuntil(b"\r\n")
        if pong != b"+PONG\r\n":
            raise NotReady(f"PING answered {pong.decode('utf-8', 'replace').strip()}")
        writer.write(b"INFO server\r\n")
        head = await reader.readuntil(b"\r\n")
        if not head.startswith(b"$"):
            raise NotReady(f"INFO answered {head.decode('utf-8', 'replace').strip()}")
        lines = (await reader.readexactly(int(head[1:]))).decode("utf-8", "replace").splitlines()
        info = dict(line.split(":", 1) for line in lines if ":" in line)
        if "valkey_version" in info:
            return f"valkey {info['valkey_version']}"
        return f"redis {info.get('redis_version', '?')}"


async def probe_postgres(address: str, password: str) -> str:
    """Log in as the gateway does, read one row of the schema; the version that the server states."""
    return await asyncio.to_thread(_postgres, address, password)


def _postgres(address: str, password: str) -> str:
    import psycopg2  # of all that a stack does only this needs it

    host, port = host_port(address)
    try:
        connection = psycopg2.connect(
            host=host, port=port, user=PG_PROBE_USER, password=password, dbname=PG_DATABASE,
            require_auth="scram-sha-256", connect_timeout=round(ANSWER_S),
            options=f"-c statement_timeout={round(ANSWER_S * 1000)}",
        )  # fmt: skip
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT symbol FROM symbols WHERE to_regclass('events') IS NOT NULL LIMIT 1")
                found = cursor.fetchone()
            version: str = connection.get_parameter_status("server_version") or "?"
        finally:
            connection.close()
    except psycopg2.Error as error:
        raise NotReady(f"{address}: {str(error).strip()}") from None
    if found is None:
        raise NotReady("the schema is not there, or holds no symbols")
    return version.split()[0]


async def ask_http(
    address: str, path: str, body: Mapping[str, int] | None = None, *, token: str = ""
) -> tuple[int, bytes]:
    """GET, or POST of JSON where there is a body; status and answer. HTTP/1.0, so the answer ends with the stream."""
    async with _opened(address) as (reader, writer):
        payload = b"" if body is None else msgspec.json.encode(body)
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.0\r\nHost: {address}\r\n"
        if token:
            head += f"X-Switch-Token: {token}\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
        writer.write(head.encode("ascii") + b"\r\n" + payload)
        status_line = (await reader.readuntil(b"\r\n")).split(b" ", 2)
        if len(status_line) < 2 or not status_line[1].isdigit():
            raise NotReady(f"{address} does not speak HTTP")
        await reader.readuntil(b"\r\n\r\n")
        return int(status_line[1]), await reader.read()


async def _json(address: str, path: str) -> dict[str, Any]:
    status, answer = await ask_http(address, path)
    if status != 200:
        raise NotReady(f"{path} answered {status}")
    try:
        return msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.DecodeError:
        raise NotReady(f"{path} answered no JSON object") from None


async def probe_toxiproxy(address: str, links: Mapping[str, LinkAddress]) -> str:
    """GET /version, and every link's proxy there as configured; toxics and a closed link do not matter here."""
    version = (await _json(address, "/version")).get("version", "?")
    proxies = await _json(address, "/proxies")
    for name, link in links.items():
        proxy = proxies.get(link.proxy)
        if proxy is None:
            raise NotReady(f"the link {name} is missing")
        if proxy.get("listen") != link.listen:
            raise NotReady(f"the link {name} listens on {proxy.get('listen')}, not on {link.listen}")
    return str(version)


async def probe_target(address: str) -> str:
    """GET /health of gateway or producer: subscribed to Redis, and PostgreSQL answers."""
    health = await _json(address, "/health")
    if health.get("redis") != "subscribed":
        raise NotReady(f"not subscribed to Redis yet ({health.get('redis')})")
    if health.get("postgres") != "ok":
        raise NotReady(f"PostgreSQL is {health.get('postgres')}")
    return str(health.get("version", "?"))
