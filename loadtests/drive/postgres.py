"""How is PostgreSQL read without stopping the hub?  Connections of the read-only role, queries by their names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gevent
import psycopg2
import psycopg2.extensions

from loadtests.model.address import written
from loadtests.model.logins import database_options

QUERIES: Mapping[str, str] = {
    "symbols_count": "SELECT COUNT(*) FROM symbols",
    "symbols_first": "SELECT symbol, name FROM symbols ORDER BY symbol LIMIT 10",
    "events_last": "SELECT symbol, pattern, timestamp, details FROM events ORDER BY timestamp DESC LIMIT 5",
    "patterns_distinct": "SELECT DISTINCT pattern FROM events",
}
"""What the named queries of a profile ask; each reads only."""


class QueryError(Exception):
    """A connect or query failed; its text begins with the SQLSTATE, else with `timeout`, `connect` or `lost`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseLogin:
    """Where to read, as whom, and for how long at most."""

    address: tuple[str, int]
    database: str
    user: str
    timeout_s: float


def make_cooperative() -> None:
    """Let psycopg2 wait in the hub instead of stopping it. Call once in every process that reads; safe to repeat."""
    from psycogreen.gevent import patch_psycopg

    patch_psycopg()  # type: ignore[no-untyped-call]


def is_cooperative() -> bool:
    """Whether psycopg2 waits in the hub."""
    return psycopg2.extensions.get_wait_callback() is not None


def connect(account: DatabaseLogin) -> Any:
    """A connection that can only read, each statement a transaction of its own, cancelled at the timeout.

    The password, if there is one, comes from the local stack or TEST_DB_PASSWORD, else from libpq's own environment
    (PGPASSWORD). Raises QueryError.
    """
    host, port = account.address
    try:
        with gevent.Timeout(account.timeout_s, QueryError(f"connect: no answer within {account.timeout_s:g} s")):
            connection = psycopg2.connect(
                host=host,
                port=port,
                dbname=account.database,
                user=account.user,
                application_name="tickstorm-reader",
                options=f"-c default_transaction_read_only=on -c statement_timeout={round(account.timeout_s * 1000)}",
                **database_options(written(host, port), account.user, os.environ),
            )
    except psycopg2.Error as error:
        raise QueryError(_text(error, "connect")) from error
    connection.autocommit = True
    return connection


def rows(connection: Any, query: str, timeout_s: float) -> list[tuple[Any, ...]]:
    """Rows of a named query.  Raises QueryError; the connection may be broken then: ask `usable`."""
    # The server cancels at the timeout; where it is cut off, only we can notice, a little later.
    patience = timeout_s + 0.5
    try:
        late = QueryError(f"timeout: no answer within {patience:g} s")
        with gevent.Timeout(patience, late), connection.cursor() as cursor:
            cursor.execute(QUERIES[query])
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found
    except QueryError:
        connection.close()
        raise
    except psycopg2.Error as error:
        raise QueryError(_text(error, "lost")) from error


def usable(connection: Any) -> bool:
    """Whether a connection can take another query."""
    return not connection.closed


def _text(error: psycopg2.Error, otherwise: str) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{error.pgcode or otherwise}: {lines[0]}"[:160]
