"""Does this service really answer?  Speaks to it as a client would; a port that merely accepts proves nothing.

Every probe returns what the service says of itself, or raises NotReady with what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from loadtests.model.address import host_port
from loadtests.model.stackwire import LinkAddress

ANSWER_S = 1.0
"""A probe that has no answer after this counts as unanswered; the next one follows at once."""

PG_DATABASE = "tickstock_test"
PG_PROBE_USER = "app_readonly"  # the role that the gateway uses
LIMIT_BYTES = 4_000_000


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


async def redis(address: str) -> str:
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


async def postgres(address: str, password: str) -> str:
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


async def http(address: str, path: str, body: Mapping[str, int] | None = None, *, token: str = "") -> tuple[int, bytes]:
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
    status, answer = await http(address, path)
    if status != 200:
        raise NotReady(f"{path} answered {status}")
    try:
        return msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.DecodeError:
        raise NotReady(f"{path} answered no JSON object") from None


async def toxiproxy(address: str, links: Mapping[str, LinkAddress]) -> str:
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


async def target(address: str) -> str:
    """GET /health of gateway or producer: subscribed to Redis, and PostgreSQL answers."""
    health = await _json(address, "/health")
    if health.get("redis") != "subscribed":
        raise NotReady(f"not subscribed to Redis yet ({health.get('redis')})")
    if health.get("postgres") != "ok":
        raise NotReady(f"PostgreSQL is {health.get('postgres')}")
    return str(health.get("version", "?"))
