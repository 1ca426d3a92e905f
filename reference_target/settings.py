"""With which settings does a process of the target start?  Reads the environment and the command line, nothing else."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from reference_target import __version__

T = TypeVar("T")


def _setting(
    env: str, default: object, help_text: str, parse: Callable[[str], object] = str, *, secret: bool = False
) -> Any:
    """A dataclass field that knows its environment variable; a secret one is no option and never shown."""
    metadata = {"env": env, "help": help_text, "parse": parse, "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise ValueError(f"{value} is not a port")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(f"{value} is not positive")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 86_400:
        raise ValueError(f"{text} is not a sensible number of seconds")
    return value


def _flag(text: str) -> bool:
    return text.strip().lower() in {"1", "true", "yes", "on"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """Where Redis is and when a silent connection counts as dead."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    ping_s: float
    ping_timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings:
    """Where PostgreSQL is and as whom to log in."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common:
    redis_host: str = _setting("REDIS_HOST", "127.0.0.1", "host of Redis")
    redis_port: int = _setting("REDIS_PORT", 6379, "port of Redis", _port)
    redis_user: str = _setting("REDIS_USER", "default", "user of Redis")
    redis_password: str = _setting("REDIS_PASSWORD", "", "its password; empty = none", secret=True)
    redis_ping_s: float = _setting("REDIS_PING_S", 1.0, "seconds between PINGs on the subscription", _seconds)
    redis_ping_timeout_s: float = _setting("REDIS_PING_TIMEOUT_S", 1.0, "seconds that its answer may take", _seconds)
    pg_host: str = _setting("PG_HOST", "127.0.0.1", "host of PostgreSQL")
    pg_port: int = _setting("PG_PORT", 5432, "port of PostgreSQL", _port)
    pg_database: str = _setting("PG_DATABASE", "tickstock_test", "database")
    pg_password: str = _setting("PG_PASSWORD", "", "password; empty = none", secret=True)

    @property
    def redis(self) -> RedisSettings:
        """The part that concerns Redis."""
        return RedisSettings(
            host=self.redis_host,
            port=self.redis_port,
            user=self.redis_user,
            password=self.redis_password,
            ping_s=self.redis_ping_s,
            ping_timeout_s=self.redis_ping_timeout_s,
        )

    def _postgres(self, user: str) -> PostgresSettings:
        return PostgresSettings(
            host=self.pg_host, port=self.pg_port, database=self.pg_database, user=user, password=self.pg_password
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings(_Common):
    """Settings of the gateway."""

    host: str = _setting("GATEWAY_HOST", "127.0.0.1", "address to listen on")
    port: int = _setting("GATEWAY_PORT", 8080, "port to listen on; 0 = any free one", _port)
    queue_messages: int = _setting("GATEWAY_QUEUE", 10_000, "messages that may wait for one client", _positive)
    queue_bytes: int = _setting("GATEWAY_QUEUE_BYTES", 8_000_000, "bytes that may wait for one client", _positive)
    heartbeat_s: float = _setting("GATEWAY_HEARTBEAT_S", 25.0, "seconds of a client's silence before a ping", _seconds)
    allow_switches: bool = _setting("GATEWAY_ALLOW_SWITCHES", False, "1 = POST /switch is allowed", _flag)
    switch_token: str = _setting(
        "GATEWAY_SWITCH_TOKEN", "", "POST /switch needs it as X-Switch-Token; empty = none", secret=True
    )
    switches: str = _setting("GATEWAY_SWITCHES", "", 'switches at start, JSON such as {"drop_every":500}')
    token_secret: str = _setting(
        "GATEWAY_TOKEN_SECRET", "", "clients need a token signed with it; empty = none", secret=True
    )
    pg_user: str = _setting("PG_USER", "app_readonly", "role")

    @property
    def postgres(self) -> PostgresSettings:
        """The part that concerns PostgreSQL."""
        return self._postgres(self.pg_user)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerSettings(_Common):
    """Settings of the producer."""

    host: str = _setting("PRODUCER_HOST", "127.0.0.1", "address to listen on")
    port: int = _setting("PRODUCER_PORT", 8081, "port for health and statistics; 0 = any free one", _port)
    flush_ms: int = _setting("PRODUCER_FLUSH_MS", 200, "milliseconds between two batches", _positive)
    batch_rows: int = _setting("PRODUCER_BATCH", 500, "rows that make a batch at once", _positive)
    queue_rows: int = _setting("PRODUCER_QUEUE", 100_000, "rows that may wait; more are counted and let go", _positive)
    identity_key: str = _setting("PRODUCER_IDENTITY_KEY", "tickstorm", "payload key that names the run")
    pg_user: str = _setting("PG_USER", "app_readwrite", "role")

    @property
    def postgres(self) -> PostgresSettings:
        """The part that concerns PostgreSQL."""
        return self._postgres(self.pg_user)


def load(kind: type[T], argv: Sequence[str], environ: Mapping[str, str] = os.environ, *, about: str = "") -> T:
    """Settings from the environment, overridden by options of the same names (GATEWAY_PORT is --gateway-port).

    A value that does not fit ends the process with status 2 and a sentence that names it.
    """
    parser = argparse.ArgumentParser(description=about, epilog="Each option may also be an environment variable.")
    parser.add_argument("--version", action="version", version=__version__)
    specs = fields(kind)  # type: ignore[arg-type]
    for spec in specs:
        env = spec.metadata["env"]
        if spec.metadata["secret"]:
            continue  # a command line can be read by everybody
        default = "" if spec.default is MISSING else spec.default
        parser.add_argument(
            "--" + env.lower().replace("_", "-"),
            dest=spec.name,
            metavar="VALUE",
            help=f"{spec.metadata['help']} ({env}, default {default!r})".replace("%", "%%"),
        )
    given = vars(parser.parse_args(argv))
    values: dict[str, object] = {}
    for spec in specs:
        env = spec.metadata["env"]
        option = given.get(spec.name)
        text = option if option is not None else environ.get(env)
        if text is None or (text == "" and spec.default != ""):
            continue
        try:
            values[spec.name] = spec.metadata["parse"](text)
        except ValueError as error:
            parser.error(f"{env}={text!r}: {error}")
    return kind(**values)
