"""How is a PostgreSQL asked, whatever it answers?  Each exchange has a deadline, however slowly the server speaks."""

from __future__ import annotations

import os
import select
from typing import Any

import psycopg2
from psycopg2 import extensions

from loadtests.capture.asking import BadAnswer, left_s
from loadtests.model.address import host_port
from loadtests.model.logins import database_options

Row = tuple[Any, ...]


class AskedPostgres:
    """One connection of a role. Every method raises psycopg2.Error, OSError or BadAnswer.

    It begins no transaction by itself, and after an OSError it is of no more use.
    """

    def __init__(
        self, address: str, deadline: float, *, database: str, user: str, name: str, options: str = ""
    ) -> None:
        host, port = host_port(address)
        self._connection: Any = psycopg2.connect(
            host=host,
            port=port,
            dbname=database,
            user=user,
            async_=1,
            application_name=name,
            options=options,
            **database_options(address, user, os.environ),
        )
        try:
            self._wait(deadline)
        except (psycopg2.Error, OSError, BadAnswer):
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """The connection is gone."""
        return bool(self._connection.closed)

    def ask(self, deadline: float, statement: str, *values: str) -> Row | None:
        """The first row that answers a statement; None where there is none."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            self._wait(deadline)
            try:
                return cursor.fetchone() if cursor.description else None
            except (ValueError, TypeError, ArithmeticError) as error:  # a value that is none of the type it claims
                raise BadAnswer(f"a row that cannot be read: {error}") from error

    def _wait(self, deadline: float) -> None:
        """Until the connection is done with what it does."""
        while (state := self._poll()) != extensions.POLL_OK:
            wanted = select.POLLIN if state == extensions.POLL_READ else select.POLLOUT
            poll = select.poll()
            poll.register(self._connection.fileno(), wanted)
            poll.poll(left_s(deadline) * 1000)

    def _poll(self) -> int:
        try:
            return int(self._connection.poll())
        except ValueError as error:  # words that are no text
            raise BadAnswer("no PostgreSQL answers there") from error

    def close(self) -> None:
        """Give the connection back to the server."""
        try:
            self._connection.close()
        except psycopg2.Error:
            pass  # it was gone already, which is all that is wanted
