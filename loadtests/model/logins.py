"""As whom does one log in to a Redis or PostgreSQL?  By its address, as the local stack says; else by the environment.

Never by argument, never from a file that a profile names. A name without a password is nobody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

from loadtests.model.environment import DB_PASSWORD

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


def learn(logins: Mapping[str, Login], environ: MutableMapping[str, str]) -> None:
    """Remember whom to be at these addresses, in this process and its children; several stacks may be up."""
    environ[LOGINS] = json.dumps(_known(environ) | dict(logins))


def _known(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(environ.get(LOGINS) or "{}")
    return found
