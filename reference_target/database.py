"""What does PostgreSQL say, without the event loop ever waiting for it?  One thread and one connection per lane."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

import psycopg2

from reference_target.settings import PostgresSettings

T = TypeVar("T")
CONNECT_S = 2
STATEMENT_MS = 5_000
MOST_WAITING = 64


class DatabaseDownError(Exception):
    """PostgreSQL did not answer in time, or not at all."""


def asked_by(password: str | None) -> str:
    """How a server may ask for it (libpq 16 or newer): never in clear, and it has to know it too. No password: not."""
    return "scram-sha-256" if password else "none"


def connect(settings: PostgresSettings, *, name: str) -> Any:
    """A connection of psycopg2. Raises psycopg2.OperationalError."""
    return psycopg2.connect(
        host=settings.host,
        port=settings.port,
        dbname=settings.database,
        user=settings.user,
        password=settings.password or None,
        require_auth=asked_by(settings.password),
        application_name=name,
        connect_timeout=CONNECT_S,
        options=f"-c statement_timeout={STATEMENT_MS} -c timezone=UTC",
    )


def shut_down(connection: Any) -> None:
    """Cut a connection under a thread that waits for it; that thread gets an OperationalError. Safe to repeat.

    The caller sees to it that nobody closes the connection meanwhile.
    """
    if connection is None or connection.closed:
        return
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as sock:
            sock.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg2.InterfaceError):
        return  # already gone, which is what is wanted


class Lane:
    """One connection with one thread; calls wait for each other. A lane that hangs harms no other lane."""

    def __init__(self, settings: PostgresSettings, *, name: str) -> None:
        self._settings = settings
        self._name = name
        self._calls: SimpleQueue[tuple[Callable[[Any], Any], Future[Any]] | None] = SimpleQueue()
        # a daemon, so that a call that hangs does not keep the process from ending
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        self._lock = threading.Lock()
        self._connection: Any = None
        self._ever = False
        self._waiting = 0
        self.reconnects = 0  # connections made after the first one

    async def run(self, work: Callable[[Any], T], *, timeout_s: float) -> T:
        """`work(connection)` in the lane's thread. Raises DatabaseDownError; a statement's own error comes as it is.

        On a timeout the connection's socket is shut down, or the thread would wait for ever behind a silent link.
        """
        if self._waiting >= MOST_WAITING:
            raise DatabaseDownError("too many calls wait")
        self._waiting += 1
        outcome: Future[T] = Future()
        self._calls.put((work, outcome))
        call = asyncio.wrap_future(outcome)
        call.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(asyncio.shield(call), timeout_s)
        except TimeoutError:
            self._break()
            raise DatabaseDownError(f"no answer in {timeout_s} s") from None

    def _done(self, call: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not call.cancelled():
            call.exception()  # looked at, so that a late failure is not reported as forgotten

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            work, outcome = item
            if not outcome.set_running_or_notify_cancel():
                continue
            try:
                outcome.set_result(self._work(work))
            except BaseException as error:  # noqa: BLE001 - not swallowed: the caller gets it
                outcome.set_exception(error)

    def _work(self, work: Callable[[Any], T]) -> T:
        try:
            connection = self._connected()
            with connection:
                return work(connection)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            self._drop()
            raise DatabaseDownError(str(error).strip()) from error

    def _connected(self) -> Any:
        if self._connection is None or self._connection.closed:
            connection = connect(self._settings, name=self._name)
            with self._lock:
                self._connection = connection
            if self._ever:
                self.reconnects += 1
            self._ever = True
        return self._connection

    def _drop(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _break(self) -> None:
        with self._lock:
            shut_down(self._connection)

    def close(self) -> None:
        """End without waiting for a call that hangs."""
        self._calls.put(None)
        self._break()
