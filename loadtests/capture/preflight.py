"""What would spoil a run here?  Asked by `tickstorm doctor`, and by `tickstorm run` before it begins.

A run is refused only where it could not be carried out or would be judged wrongly; the rest are warnings. `machine`
looks at this machine; here the target's services are asked, past the links: do they answer, and is the readers' role
really read-only?
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from loadtests.capture.bounded_clients import AskedPostgres, AskedRedis, BadAnswer, Row, get_json
from loadtests.capture.machine import Finding, Level, descriptors, machine_findings, refusals
from loadtests.model.address import host_port
from loadtests.model.errors import BadInput
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.tables import Target
from loadtests.model.stackwire import SERVICES, Status
from loadtests.model.words import plain

REPORTS = Path(__file__).resolve().parents[2] / "reports"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
TIMEOUT_S = 2.0
ROLE_S = 10.0
"""For all that a role is asked: a count, and writing in every way."""
MOST_REPLY = 1 << 16
"""Bytes of one reply of Redis."""
MOST_WORD = 60
"""Characters of a state or version that a service tells."""
INSUFFICIENT_PRIVILEGE = "42501"

_FORBIDDEN: tuple[tuple[str, str], ...] = (
    # none of them would change a row even where it is allowed
    ("INSERT", "INSERT INTO symbols (symbol, name) SELECT symbol, name FROM symbols WHERE false"),
    ("UPDATE", "UPDATE symbols SET name = name WHERE false"),
    ("DELETE", "DELETE FROM symbols WHERE false"),
    ("CREATE TABLE", "CREATE TABLE tickstorm_may_not (id int)"),
)


def doctor(profile: Profile | None, where: Status | Services | None, *, reports: Path = REPORTS) -> list[Finding]:
    """Every finding. `where`: the local stack's status, addresses to ask, or None where no local stack is up."""
    return [*machine_findings(profile, reports), *_target_findings(profile, where)]


def refuse(profile: Profile, where: Status | Services | None) -> None:
    """Raise BadInput with every reason why this run cannot begin: a silent target, a wrong role, a dead service."""
    reasons = refusals(_target_findings(profile, where))
    if reasons:
        raise BadInput(reasons)


def refuse_few_descriptors(profile: Profile, users: int | None = None, *, processes: int = 1) -> None:
    """Raise BadInput where a process cannot open enough; before anything is started, so that all inherit the limit."""
    reasons = refusals([descriptors(profile, users, processes)])
    if reasons:
        raise BadInput(reasons)


def _target_findings(profile: Profile | None, where: Status | Services | None) -> Iterator[Finding]:
    if isinstance(where, Services):
        yield from service_findings(where, profile)
        return
    target = Target() if profile is None else profile.target
    if target.kind == "local":
        if where is None:
            yield Finding(
                check="stack",
                level="ok",
                text="No local stack is up: a run starts one for itself, and stops it.",
            )
            return
        for name in SERVICES:
            service = where.services.get(name)
            state = "missing" if service is None else service.state
            if state != "ready":
                yield Finding(
                    check=name,
                    level="bad",
                    text=f"{name} of the local stack is {state}.",
                    remedy="`tickstorm stack status` says more; `tickstorm stack up` starts it again.",
                )
    yield from service_findings(services_of(target, where), profile)


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


def _unreachable(check: str, address: str, why: object, level: Level = "bad") -> Finding:
    first = plain(str(why).strip().partition("\n")[0]) or type(why).__name__
    return Finding(
        check=check,
        level=level,
        text=f"{check} at {address} does not answer: {first}.",
        remedy="Start it, or correct its address (`tickstorm stack status`, or the profile's [target]).",
    )


def _word(said: object) -> str:
    return plain(str(said), MOST_WORD)


def redis_answers(address: str) -> Finding:
    """PING and the version, past the link."""
    deadline = time.monotonic() + TIMEOUT_S
    try:
        server = AskedRedis(address, deadline, MOST_REPLY)
        try:
            said = server.ask(deadline, b"PING")
            if said != "PONG":
                raise BadAnswer(f"it answered PING with {said}")
            lines = server.ask(deadline, b"INFO", b"server").splitlines()
        finally:
            server.close()
    except (OSError, BadAnswer) as error:
        return _unreachable("redis", address, error)
    info = dict(line.partition(":")[::2] for line in lines)
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = plain(info.get("valkey_version") or info.get("redis_version", "?"), MOST_WORD)
    return Finding(check="redis", level="ok", text=f"redis at {address} answers PING ({name} {version}).")


def gateway_answers(address: str) -> Finding:
    """`/health`: ready, or degraded, which would spoil a baseline."""
    try:
        status, body = get_json(address, "/health", TIMEOUT_S)
    except (OSError, http.client.HTTPException) as error:
        return _unreachable("gateway", address, error)
    if status != 200:
        return _unreachable("gateway", address, f"/health said status {status}")
    word = _word(body.get("status", "ready")) if isinstance(body, dict) else "ready"
    if word == "ready":
        return Finding(check="gateway", level="ok", text=f"gateway at {address} answers /health: ready.")
    parts = ", ".join(f"{key} {_word(body[key])}" for key in ("redis", "postgres") if key in body)
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
    version = _word(body.get("version", "?")) if isinstance(body, dict) else "?"
    text = f"toxiproxy at {address} answers (version {version})"
    if host_port(address)[0] in LOOPBACK:
        text += ", on this machine alone and without a login (docs/security.md)."
    else:
        text += (
            ". Its API asks for no login: whoever reaches it can cut and lead away its links, and read what passes"
            " (docs/security.md)."
        )
    return Finding(check="toxiproxy", level="ok", text=text)


def role_is_read_only(services: Services, *, needed: bool) -> Iterator[Finding]:
    """Reading works, and each kind of writing is refused for want of privilege; another error proves nothing."""
    level: Level = "bad" if needed else "warn"
    deadline = time.monotonic() + ROLE_S
    try:
        server = AskedPostgres(
            services.postgres,
            min(deadline, time.monotonic() + TIMEOUT_S),
            database=services.database,
            user=services.read_user,
            name="tickstorm-doctor",
        )
        try:
            yield from _of_role(lambda statement, *values: _ask(server, deadline, statement, *values), services, level)
        finally:
            server.close()
    except (psycopg2.Error, OSError, BadAnswer) as error:
        yield _unreachable("postgres", services.postgres, error, level)


def _of_role(ask: Callable[..., int | str | None], services: Services, level: Level) -> Iterator[Finding]:
    count = ask("SELECT count(*) FROM symbols")
    if not isinstance(count, int):
        yield Finding(
            check="postgres",
            level=level,
            text=f"postgres at {services.postgres}: {services.read_user} cannot read table symbols ({count}).",
            remedy="Apply the schema (`python -m reference_target.schema`), or grant SELECT.",
        )
        return
    yield Finding(
        check="postgres",
        level="ok",
        text=f"postgres at {services.postgres} answers; {services.read_user} reads {count} symbols.",
    )
    yield _writes_refused(ask, services, level)


def _writes_refused(ask: Callable[..., int | str | None], services: Services, level: Level) -> Finding:
    tries = list(_FORBIDDEN)
    other = services.write_user
    if ask("SELECT count(*) FROM pg_roles WHERE rolname = %s", other):  # a role that is not there is no door
        tries.append(("SET ROLE", f'SET ROLE "{other.replace(chr(34), chr(34) * 2)}"'))
    open_doors = []
    for name, statement in tries:
        code = ask(statement)
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
        level=level,
        text=f"{services.read_user} is no read-only role: {', '.join(open_doors)} instead of SQLSTATE "
        f"{INSUFFICIENT_PRIVILEGE}.",
        remedy="Name another target.read_user, or revoke what it has.",
    )


def _ask(server: AskedPostgres, deadline: float, statement: str, *values: str) -> int | str | None:
    """The first value of a result, None where there is none, or the SQLSTATE; always rolled back."""
    server.ask(deadline, "BEGIN")
    try:
        row = server.ask(deadline, statement, *values)
    except psycopg2.Error as error:
        if server.closed:
            raise
        row, code = None, _word(error.pgcode or type(error).__name__)
    else:
        code = ""
    server.ask(deadline, "ROLLBACK")
    return code or (None if row is None else _count(row))


def _count(row: Row) -> int:
    """Raises BadAnswer."""
    if not row or type(row[0]) is not int or not 0 <= row[0] < 1 << 63:
        raise BadAnswer("what it counted is no number")
    return row[0]
