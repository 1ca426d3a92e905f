"""Which passwords has a stack?  Drawn anew at each start, no two alike, in one file that only its user can read.

The servers get verifiers or their own environment, our own processes find the passwords in their environment: nothing
of it is an argument, a log line or a record.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

import msgspec

from loadtests.model.logins import LOGINS, Login, learn
from loadtests.stack.folder import PASSWORDS, write_private
from loadtests.stack.links import HOST, PREFERRED

_ITERATIONS = 4096  # as PostgreSQL's own


def _drawn() -> str:
    return secrets.token_urlsafe(24)


ADMIN, PUBLISHER, GATEWAY, PRODUCER = "admin", "publisher", "gateway", "producer"
"""Users of Redis, each with a password of its own: a user who leads a link elsewhere reads what passes there."""
_MAY = {
    ADMIN: "~* &* +@all",
    PUBLISHER: "resetkeys &* +publish +ping +echo +auth +hello +client|setname +client|setinfo",
    GATEWAY: "resetkeys &* +@pubsub +ping +auth +hello +client|setname +client|setinfo",
    PRODUCER: "resetkeys &* +@pubsub +ping +auth +hello +client|setname +client|setinfo",
}
ROLES = ("postgres", "app_readonly", "app_readwrite")
"""Of PostgreSQL."""
_LINK_USERS = {"publisher-redis": PUBLISHER, "gateway-redis": GATEWAY, "producer-redis": PRODUCER}


class Passwords(msgspec.Struct, frozen=True, kw_only=True):
    """One for each role of PostgreSQL and each user of Redis, and one for the switches of the gateway."""

    postgres: str = msgspec.field(default_factory=_drawn)
    app_readonly: str = msgspec.field(default_factory=_drawn)
    app_readwrite: str = msgspec.field(default_factory=_drawn)
    admin: str = msgspec.field(default_factory=_drawn)
    publisher: str = msgspec.field(default_factory=_drawn)
    gateway: str = msgspec.field(default_factory=_drawn)
    producer: str = msgspec.field(default_factory=_drawn)
    switches: str = msgspec.field(default_factory=_drawn)

    def logins(self, ports: Mapping[str, int]) -> dict[str, Login]:
        """Address of Redis, or role@address of PostgreSQL -> as whom one logs in there, past and through the links."""
        users = {"redis": ADMIN} | _LINK_USERS
        found = {f"{HOST}:{ports[place]}": Login(user, getattr(self, user)) for place, user in users.items()}
        for place in ("postgres", "gateway-postgres", "producer-postgres"):
            for role in ROLES:
                found[f"{role}@{HOST}:{ports[place]}"] = Login(role, getattr(self, role))
        return found

    def redis_users(self) -> Iterator[str]:
        """Lines of Redis' configuration. Who comes without a name may do what our pings through links do, no more."""
        yield "user default on nopass resetkeys resetchannels ~tickstorm:* -@all +ping +echo +exists +info +auth +hello"
        for user, may in _MAY.items():
            digest = hashlib.sha256(getattr(self, user).encode("ascii")).hexdigest()
            yield f"user {user} on #{digest} {may}"

    def statements(self) -> Iterator[str]:
        """SQL that gives each role its password; it holds verifiers, of which nobody can make the passwords."""
        for role in ROLES:
            yield f"ALTER ROLE {role} LOGIN PASSWORD '{scram(getattr(self, role))}';\n"

    def keep(self, folder: Path, ports: Mapping[str, int]) -> None:
        """Write them down in a stack's folder, for its user alone."""
        write_private(folder / PASSWORDS, msgspec.json.encode(Kept(passwords=self, logins=self.logins(ports))))

    def environment(self) -> dict[str, str]:
        """What docker-compose.yml is filled in with, and the logins for our own commands."""
        return {
            "REDIS_USERS": ";".join(self.redis_users()),
            "POSTGRES_PASSWORD": self.postgres,
            "APP_READONLY_PASSWORD": self.app_readonly,
            "APP_READWRITE_PASSWORD": self.app_readwrite,
            "GATEWAY_REDIS_PASSWORD": self.gateway,
            "PRODUCER_REDIS_PASSWORD": self.producer,
            "GATEWAY_SWITCH_TOKEN": self.switches,
            LOGINS: msgspec.json.encode(self.logins(PREFERRED)).decode("ascii"),
        }


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The file."""

    passwords: Passwords
    logins: dict[str, Login]


def kept(folder: Path) -> Kept | None:
    """That of the stack in a folder; None where it has none that we may read."""
    try:
        return msgspec.json.decode((folder / PASSWORDS).read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError):
        return None


def adopt(folder: Path, environ: MutableMapping[str, str] = os.environ) -> None:
    """Put the passwords of a stack into this process's environment, where all that speaks to its servers looks."""
    if (found := kept(folder)) is not None:
        learn(found.logins, environ)


def scram(password: str, salt: bytes | None = None) -> str:
    """A verifier of SCRAM-SHA-256 as PostgreSQL keeps it (RFC 5802 and RFC 7677)."""
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    in_base64 = [base64.b64encode(part).decode("ascii") for part in (salt, stored, server)]
    return "SCRAM-SHA-256${}:{}${}:{}".format(_ITERATIONS, *in_base64)
