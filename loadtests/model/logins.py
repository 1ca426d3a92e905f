"""As whom does one log in to a Redis or PostgreSQL?  By its address, as the local stack says; else by the environment.

Never by argument, never from a file that a profile names. A name without a password is no login.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

TOKEN_SECRET = "TICKSTORM_TOKEN_SECRET"
"""The secret that the target's tokens are signed with."""
DB_PASSWORD = "TEST_DB_PASSWORD"
"""Of the role by which readers and probes log in to PostgreSQL."""
DB_ADMIN_PASSWORD = "PG_ADMIN_PASSWORD"
"""Of PostgreSQL's administrator, whom faults of the database need."""


LOGINS = "TICKSTORM_LOGINS"
"""JSON: address of a Redis, or role@address of a PostgreSQL -> [user, password], of the local stacks that this process
knows."""
REDIS_USER, REDIS_PASSWORD = "TICKSTORM_REDIS_USER", "TICKSTORM_REDIS_PASSWORD"
"""Of every other Redis; without a user it is `default`."""


class Login(NamedTuple):
    """A user and a password."""

    user: str
    password: str


def redis_login(address: str, environ: Mapping[str, str]) -> Login | None:
    """Of the Redis at host:port; None where none is known."""
    if (known := _known(environ).get(address)) is not None:
        return Login(*known)
    password = environ.get(REDIS_PASSWORD)
    return Login(environ.get(REDIS_USER) or "default", password) if password else None


def client_options(address: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """What `redis.Redis` needs to log in there."""
    login = redis_login(address, environ)
    return {} if login is None else {"username": login.user, "password": login.password}


def database_password(address: str, role: str, environ: Mapping[str, str], name: str = DB_PASSWORD) -> str | None:
    """Of a role of the PostgreSQL at host:port; `name` is the variable that has it where no local stack tells it."""
    known = _known(environ).get(f"{role}@{address}")
    return Login(*known).password if known is not None else environ.get(name) or None


def database_options(address: str, role: str, environ: Mapping[str, str], name: str = DB_PASSWORD) -> dict[str, Any]:
    """What `psycopg2.connect` needs to log in there. No server is answered with a password in clear.

    A local stack's server has to prove that it knows the password too (SCRAM). Another one may ask as it likes, but for
    the password itself; where it must (PAM, LDAP, a token), the user says so by libpq's PGREQUIREAUTH. A libpq older
    than 16 does not know the option and refuses to connect.
    """
    password = database_password(address, role, environ, name)
    local = f"{role}@{address}" in _known(environ)
    how = "scram-sha-256" if local else environ.get("PGREQUIREAUTH") or "!password"
    return {"require_auth": how} | ({} if password is None else {"password": password})


def learn(logins: Mapping[str, Login], environ: MutableMapping[str, str]) -> None:
    """Keep the logins at these addresses for this process and its children; several stacks may be up."""
    environ[LOGINS] = json.dumps(_known(environ) | dict(logins))


def _known(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(environ.get(LOGINS) or "{}")
    return found
