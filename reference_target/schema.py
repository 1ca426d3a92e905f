"""Is the database as the target needs it?  `python -m reference_target.schema` makes it so, as often as one likes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import psycopg2
from psycopg2 import errors, sql

from reference_target.database import asked_by

CONNECT_S = 5


def statements() -> str:
    """The text of schema.sql."""
    return files("reference_target").joinpath("schema.sql").read_text(encoding="utf-8")


def apply(*, host: str, port: int, user: str, password: str | None, database: str) -> None:
    """Create the database where it is missing, then tables, symbols and roles. Raises psycopg2.Error."""
    where: dict[str, Any] = {
        "host": host,
        "port": port,
        "user": user,
        "password": password,
        "require_auth": asked_by(password),
        "connect_timeout": CONNECT_S,
    }
    try:
        connection = psycopg2.connect(dbname=database, **where)
    except psycopg2.OperationalError:
        _create(database, where)
        connection = psycopg2.connect(dbname=database, **where)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statements())
    finally:
        connection.close()


def _create(database: str, where: dict[str, Any]) -> None:
    connection = psycopg2.connect(dbname="postgres", **where)
    try:
        connection.autocommit = True  # CREATE DATABASE runs in no transaction
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    except (errors.DuplicateDatabase, errors.UniqueViolation):
        return  # someone else was faster
    finally:
        connection.close()


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Apply the schema as PG_ADMIN_USER; returns the exit status."""
    database = environ.get("PG_DATABASE", "tickstock_test")
    try:
        apply(
            host=environ.get("PG_HOST", "127.0.0.1"),
            port=int(environ.get("PG_PORT", "5432")),
            user=environ.get("PG_ADMIN_USER", "postgres"),
            password=environ.get("PG_ADMIN_PASSWORD") or environ.get("PG_PASSWORD") or None,
            database=database,
        )
    except (psycopg2.Error, ValueError) as error:
        sys.stderr.write(f"the schema was not applied: {error}".strip() + "\n")
        return 1
    sys.stdout.write(f"schema applied to {database}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
