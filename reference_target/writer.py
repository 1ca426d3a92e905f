"""How does a detected pattern get into the table, exactly once, whatever happens to the connection?

Rows go in batches, one transaction each. A batch whose COMMIT got no answer is looked up by its transaction id before
it is sent again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg2
from psycopg2.extras import execute_values

from reference_target.database import connect, shut_down
from reference_target.events import PatternDetected
from reference_target.settings import PostgresSettings

log = logging.getLogger(__name__)
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 0.5
ALIVE_S = 1.0
REFUSALS = (psycopg2.DataError, psycopg2.IntegrityError, ValueError)  # the row's own fault
_INSERT = """
WITH written AS (INSERT INTO events (symbol, pattern, timestamp, details, run) VALUES %s RETURNING 1)
SELECT pg_current_xact_id()::text, count(*) FROM written
"""
_ROW = "(%s, %s, %s, %s::jsonb, %s)"
_OWN_COLUMNS = ("event_type", "symbol", "pattern", "timestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of `events`."""

    symbol: str
    pattern: str
    at: datetime
    details: str
    run: str | None

    def values(self) -> tuple[object, ...]:
        """In the order of the statement."""
        return (self.symbol, self.pattern, self.at, self.details, self.run)


def row_of(event: PatternDetected, payload: bytes, *, identity_key: str, now: datetime) -> Row:
    """The row of an event; keys without a column of their own go into the details. `now` stands for a missing time."""
    extra: dict[str, Any] = msgspec.json.decode(payload)
    for key in _OWN_COLUMNS:
        extra.pop(key, None)
    return Row(
        symbol=event.symbol,
        pattern=event.pattern,
        at=_time_of(event.timestamp, now),
        details=msgspec.json.encode(extra).decode(),
        run=_run_of(extra.get(identity_key)),
    )


def _time_of(given: datetime | float | int | None, now: datetime) -> datetime:
    if isinstance(given, datetime):
        return given if given.tzinfo else given.replace(tzinfo=UTC)
    if given is None:
        return now
    try:
        return datetime.fromtimestamp(given, UTC)
    except (ValueError, OverflowError, OSError):
        return now  # a clock that counts in another unit


def _run_of(identity: object) -> str | None:
    """The run's name: the first string of an object, or what stands before the first separator of a text."""
    if isinstance(identity, dict):
        return next((value for value in identity.values() if isinstance(value, str)), None)
    if isinstance(identity, str):
        return identity.split(":", 1)[0].split("|", 1)[0]
    return None


class Writer(threading.Thread):
    """Takes rows and writes them in the background. `offer` never waits."""

    def __init__(self, settings: PostgresSettings, *, flush_s: float, batch_rows: int, queue_rows: int) -> None:
        super().__init__(name="writer", daemon=True)
        self._settings = settings
        self._flush_s = flush_s
        self._batch_rows = batch_rows
        self._queue_rows = queue_rows
        self._rows: deque[Row] = deque()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._connection: Any = None
        self._ever = False
        self._lock = threading.Lock()
        self._heard_at = 0.0
        self._asked_at: float | None = None  # when the call to PostgreSQL that is under way began
        self.written = 0
        self.failed = 0  # rows that PostgreSQL refused
        self.overflowed = 0  # rows that found the queue full
        self.reconnects = 0  # connections made after the first one
        self.connected = False

    @property
    def waiting(self) -> int:
        """Rows that are not written yet."""
        return len(self._rows)

    def offer(self, row: Row) -> None:
        """Queue a row, or count it where the queue is full."""
        if len(self._rows) >= self._queue_rows:
            self.overflowed += 1
            return
        self._rows.append(row)
        if len(self._rows) == self._batch_rows:
            self._wake.set()

    def stop(self, timeout_s: float) -> None:
        """Write what waits, for at most so long."""
        self._stopping.set()
        self._wake.set()
        self.join(timeout_s)

    def run(self) -> None:
        """The thread."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                self._connect()
                pause_s = FIRST_PAUSE_S
                while self._rows:
                    self._write_next()
                self._alive()
            except psycopg2.Error as error:  # also a schema that is not there yet: no fault of the rows
                log.debug("PostgreSQL is away: %s", error)
                self._asked_at = None
                self._drop()
                if self._stopping.wait(pause_s):
                    return
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                continue
            if self._stopping.is_set():
                self._drop()
                return
            self._wake.wait(self._flush_s)
            self._wake.clear()

    def _connect(self) -> None:
        if self._connection is None:
            self._connection = connect(self._settings, name="producer")
            self.reconnects += self._ever
            self._ever = True
        self.connected = True

    def _drop(self) -> None:
        self.connected = False
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _alive(self) -> None:
        now = time.monotonic()
        if now - self._heard_at >= ALIVE_S:
            self._asked_at = now
            with self._connection, self._connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            self._heard()

    def _heard(self) -> None:
        self._asked_at, self._heard_at = None, time.monotonic()

    def unstick(self, limit_s: float) -> None:
        """Cut a connection that has been silent for so long; another thread calls this now and then."""
        asked_at = self._asked_at
        if asked_at is not None and time.monotonic() - asked_at > limit_s:
            self.connected = False
            with self._lock:
                shut_down(self._connection)

    def _write_next(self) -> None:
        batch = [self._rows[i] for i in range(min(len(self._rows), self._batch_rows))]
        try:
            self._transact(batch)
        except REFUSALS as error:
            self._connection.rollback()
            self._heard()
            log.warning("a batch of %d rows was refused: %s", len(batch), str(error).strip())
            for row in batch:
                self._write_alone(row)
        else:
            self._done(len(batch))

    def _write_alone(self, row: Row) -> None:
        """One row by itself, so that a bad one does not take its neighbours along."""
        try:
            self._transact([row])
        except REFUSALS:
            self._connection.rollback()
            self._heard()
            self.failed += 1
            self._rows.popleft()
        else:
            self._done(1)

    def _done(self, count: int) -> None:
        for _ in range(count):
            self._rows.popleft()
        self.written += count

    def _transact(self, batch: list[Row]) -> None:
        """Write rows in one transaction. Raises psycopg2.OperationalError only where they are surely not written."""
        self._asked_at = time.monotonic()
        with self._connection.cursor() as cursor:
            ((transaction, _),) = execute_values(
                cursor, _INSERT, [row.values() for row in batch], _ROW, page_size=len(batch), fetch=True
            )
        try:
            self._connection.commit()
            self._heard()
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            self._drop()
            if not self._was_committed(transaction):
                raise

    def _was_committed(self, transaction: str) -> bool:
        """Asks until PostgreSQL says how a transaction ended; while stopping, at most once."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                self._connect()
                self._asked_at = time.monotonic()
                with self._connection, self._connection.cursor() as cursor:
                    cursor.execute("SELECT pg_xact_status(%s::xid8)", (transaction,))
                    status = cursor.fetchone()[0]
                self._heard()
                if status in ("committed", "aborted"):
                    return bool(status == "committed")
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                self._drop()
            if self._stopping.wait(pause_s):
                return False
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
