"""Do the target's services answer, and is the readers' role really read-only?  Asks each itself, past its links."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg2

from loadtests.capture.asking import get_json
from loadtests.capture.findings import Finding
from loadtests.model.address import host_port
from loadtests.model.logins import client_options, database_password
from loadtests.model.profile import Profile, Target
from loadtests.model.stackwire import Status

TIMEOUT_S = 2.0
INSUFFICIENT_PRIVILEGE = "42501"

_FORBIDDEN: tuple[tuple[str, str], ...] = (
    # none of them would change a row even where it is allowed
    ("INSERT", "INSERT INTO symbols (symbol, name) SELECT symbol, name FROM symbols WHERE false"),
    ("UPDATE", "UPDATE symbols SET name = name WHERE false"),
    ("DELETE", "DELETE FROM symbols WHERE false"),
    ("CREATE TABLE", "CREATE TABLE tickstorm_may_not (id int)"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Addresses to ask; empty where there is none."""

    redis: str = ""
    gateway: str = ""  # as consumers connect to it
    gateway_http: str = ""
    postgres: str = ""
    toxiproxy: str = ""
    database: str = "tickstock_test"
    read_user: str = "app_readonly"
    write_user: str = "app_readwrite"


def services_of(target: Target, status: Status | None) -> Services:
    """Those of the local stack, or those that an external target names."""
    names = {"database": target.database, "read_user": target.read_user, "write_user": target.write_user}
    if target.kind == "local":
        addresses = {name: service.address for name, service in status.services.items()} if status is not None else {}
        gateway = addresses.get("gateway", "")
        return Services(
            redis=addresses.get("redis", ""),
            gateway=gateway,
            gateway_http=gateway,
            postgres=addresses.get("postgres", ""),
            toxiproxy=addresses.get("toxiproxy", ""),
            **names,
        )
    return Services(
        redis=target.redis or "",
        gateway=target.gateway or "",
        gateway_http=target.gateway_http or "",
        postgres=target.postgres or "",
        toxiproxy=target.toxiproxy or "",
        **names,
    )


def service_findings(services: Services, profile: Profile | None) -> Iterator[Finding]:
    """One or more findings for each service that has an address."""
    if services.redis:
        yield redis_answers(services.redis)
    if services.gateway_http:
        yield gateway_answers(services.gateway_http)
    elif services.gateway:
        yield port_answers("gateway", services.gateway)
    if services.toxiproxy:
        yield toxiproxy_answers(services.toxiproxy)
    if services.postgres:
        needed = profile is None or bool(profile.readers)
        yield from role_is_read_only(services, needed=needed)


def _unreachable(check: str, address: str, why: object, level: str = "bad") -> Finding:
    first = str(why).strip().splitlines()[0] if str(why).strip() else type(why).__name__
    return Finding(
        check=check,
        level="bad" if level == "bad" else "warn",
        text=f"{check} at {address} does not answer: {first}.",
        remedy="Start it, or correct its address (`tickstorm stack status`, or the profile's [target]).",
    )


def redis_answers(address: str) -> Finding:
    """PING and the version, past the link."""
    import redis  # takes as long to import as the rest of a command together
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    host, port = host_port(address)
    client = redis.Redis(
        host=host,
        port=port,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        **client_options(address, os.environ),
    )
    try:
        client.ping()
        info: dict[str, Any] = client.info("server")
    except (redis.RedisError, OSError) as error:
        return _unreachable("redis", address, error)
    finally:
        client.close()
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "?")
    return Finding(check="redis", level="ok", text=f"redis at {address} answers PING ({name} {version}).")


def gateway_answers(address: str) -> Finding:
    """`/health`: ready, or degraded, which would spoil a baseline."""
    try:
        status, body = get_json(address, "/health", TIMEOUT_S)
    except (OSError, http.client.HTTPException) as error:
        return _unreachable("gateway", address, error)
    if status != 200:
        return _unreachable("gateway", address, f"/health said status {status}")
    word = body.get("status", "ready") if isinstance(body, dict) else "ready"
    if word == "ready":
        return Finding(check="gateway", level="ok", text=f"gateway at {address} answers /health: ready.")
    parts = ", ".join(f"{key} {body[key]}" for key in ("redis", "postgres") if key in body)
    return Finding(
        check="gateway",
        level="warn",
        text=f"gateway at {address} is {word} ({parts}).",
        remedy="Wait until it is ready: a run that begins like this has no baseline.",
    )


def port_answers(check: str, address: str) -> Finding:
    """A connection is accepted; all that can be asked without a health endpoint."""
    try:
        socket.create_connection(host_port(address), TIMEOUT_S).close()
    except OSError as error:
        return _unreachable(check, address, error)
    return Finding(
        check=check,
        level="warn",
        text=f"{check} at {address} accepts connections; through a proxy that proves little.",
        remedy="Name target.gateway_http, so that its health can be asked.",
    )


def toxiproxy_answers(address: str) -> Finding:
    """Its version, over HTTP."""
    try:
        status, body = get_json(address, "/version", TIMEOUT_S)
    except (OSError, http.client.HTTPException) as error:
        return _unreachable("toxiproxy", address, error)
    if status != 200:
        return _unreachable("toxiproxy", address, f"/version said status {status}")
    version = body.get("version", "?") if isinstance(body, dict) else "?"
    text = (
        f"toxiproxy at {address} answers (version {version}). Its API asks for no login: whoever reaches it can cut"
        " and lead away its links, and read what passes (docs/security.md)."
    )
    return Finding(check="toxiproxy", level="ok", text=text)


def role_is_read_only(services: Services, *, needed: bool) -> Iterator[Finding]:
    """Reading works, and each kind of writing is refused for want of privilege; another error proves nothing."""
    host, port = host_port(services.postgres)
    password = database_password(services.postgres, services.read_user, os.environ)
    options: dict[str, Any] = {"password": password} if password else {}
    try:
        connection = psycopg2.connect(
            host=host,
            port=port,
            dbname=services.database,
            user=services.read_user,
            connect_timeout=round(TIMEOUT_S),
            application_name="tickstorm-doctor",
            **options,
        )
    except psycopg2.Error as error:
        yield _unreachable("postgres", services.postgres, error, "bad" if needed else "warn")
        return
    try:
        count = _ask(connection, "SELECT count(*) FROM symbols")
        if not isinstance(count, int):
            yield Finding(
                check="postgres",
                level="bad" if needed else "warn",
                text=f"postgres at {services.postgres}: {services.read_user} cannot read table symbols ({count}).",
                remedy="Apply the schema (`python -m reference_target.schema`), or grant SELECT.",
            )
            return
        yield Finding(
            check="postgres",
            level="ok",
            text=f"postgres at {services.postgres} answers; {services.read_user} reads {count} symbols.",
        )
        yield _writes_refused(connection, services, needed=needed)
    finally:
        connection.close()


def _writes_refused(connection: Any, services: Services, *, needed: bool) -> Finding:
    tries = list(_FORBIDDEN)
    other = services.write_user
    if _ask(
        connection, "SELECT count(*) FROM pg_roles WHERE rolname = %s", other
    ):  # a role that is not there is no door
        tries.append(("SET ROLE", f'SET ROLE "{other.replace(chr(34), chr(34) * 2)}"'))
    open_doors = []
    for name, statement in tries:
        code = _ask(connection, statement)
        if code != INSUFFICIENT_PRIVILEGE:
            open_doors.append(f"{name} ({'allowed' if code is None or isinstance(code, int) else f'SQLSTATE {code}'})")
    if not open_doors:
        return Finding(
            check="read-only role",
            level="ok",
            text=f"{services.read_user} may not {', '.join(name for name, _ in tries)}: "
            f"SQLSTATE {INSUFFICIENT_PRIVILEGE} each time.",
        )
    return Finding(
        check="read-only role",
        level="bad" if needed else "warn",
        text=f"{services.read_user} is no read-only role: {', '.join(open_doors)} instead of SQLSTATE "
        f"{INSUFFICIENT_PRIVILEGE}.",
        remedy="Name another target.read_user, or revoke what it has.",
    )


def _ask(connection: Any, statement: str, *values: str) -> int | str | None:
    """The first value of a result, None where there is none, or the SQLSTATE; always rolled back."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            row = cursor.fetchone() if cursor.description else None
    except psycopg2.Error as error:
        return str(error.pgcode or type(error).__name__)
    finally:
        if not connection.closed:
            connection.rollback()
    return None if row is None else int(row[0])
