"""What do the target's servers say about themselves?  One reader per source; a failed reading is None, no exception.

Runs in the sampler's own process, so it may block: each reader has a thread of its own there.
"""

from __future__ import annotations

import http.client
import itertools
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psutil
import psycopg2

from loadtests.capture.bounded_clients import AskedPostgres, AskedRedis, BadAnswer, get_json
from loadtests.model.words import plain

Reading = dict[str, float]
"""Metric -> value."""

MOST_REPLY = 1 << 24
"""Bytes of one reply of Redis: that many hold a list of forty thousand clients."""
MOST_NUMBERS = 500
"""Of the statistics of a service: more are no statistics."""
MOST_TEXT = 120
"""Characters of what a server calls a thing."""

INFO_METRICS = (
    "used_memory",
    "used_memory_rss",
    "used_memory_peak",
    "maxmemory",
    "mem_clients_normal",
    "connected_clients",
    "blocked_clients",
    "client_recent_max_output_buffer",
    "pubsub_channels",
    "pubsub_patterns",
    "pubsub_clients",
    "total_commands_processed",
    "total_net_input_bytes",
    "total_net_output_bytes",
    "instantaneous_output_kbps",
    "client_output_buffer_limit_disconnections",
    "client_query_buffer_limit_disconnections",
    "rejected_connections",
    "evicted_keys",
)

_POSTGRES = """
    SELECT numbackends, temp_files, temp_bytes, deadlocks, xact_commit, xact_rollback,
           (SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables),
           (SELECT coalesce(sum(n_live_tup), 0) FROM pg_stat_user_tables)
    FROM pg_stat_database WHERE datname = current_database()
"""
_POSTGRES_METRICS = (
    "connections",
    "temp_files",
    "temp_bytes",
    "deadlocks",
    "commits",
    "rollbacks",
    "dead_rows",
    "live_rows",
)


class ProcessReader:
    """Memory and CPU of one process and its children, added up."""

    def __init__(self) -> None:
        self._spent: dict[tuple[int, float], float] = {}
        self._at = 0.0

    def read(self, pid: int) -> Reading | None:
        """rss_bytes, uss_bytes where allowed, cpu_percent (from the second reading on), processes, threads."""
        try:
            root = psutil.Process(pid)
            family = [root, *root.children(recursive=True)]
        except psutil.Error:
            return None
        now = time.monotonic()
        rss = threads = count = 0
        uss: int | None = 0
        spent: dict[tuple[int, float], float] = {}
        for process in family:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    rss += process.memory_info().rss
                    threads += process.num_threads()
                    spent[process.pid, process.create_time()] = times.user + times.system
            except psutil.Error:
                continue  # it ended while we looked
            count += 1
            uss = _add_uss(process, uss)
        if not count:
            return None
        reading: Reading = {"rss_bytes": rss, "processes": count, "threads": threads}
        if uss:
            reading["uss_bytes"] = uss
        if self._spent and now > self._at:
            # a child that came since has all its time in this interval; one that went takes its last share along
            used = sum(total - self._spent.get(key, 0.0) for key, total in spent.items())
            reading["cpu_percent"] = 100.0 * max(0.0, used) / (now - self._at)
        self._spent, self._at = spent, now
        return reading


def _add_uss(process: psutil.Process, total: int | None) -> int | None:
    """None once one of them may not be read: a part of the sum would look like the whole."""
    if total is None:
        return None
    try:
        return total + int(process.memory_full_info().uss)
    except psutil.Error:
        return None


class RedisReader:
    """INFO and the output buffers of the subscribers, from the server itself; one deadline for both answers."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._server: AskedRedis | None = None

    def read(self) -> Reading | None:
        """INFO's numbers under INFO's names, and subscriber_buffers_bytes (all, max) of its client list."""
        deadline = time.monotonic() + self._timeout_s
        try:
            if self._server is None:
                self._server = AskedRedis(self._address, deadline, MOST_REPLY)
                self._server.ask(deadline, b"CLIENT", b"SETNAME", b"tickstorm-probe")
            info = dict(line.partition(":")[::2] for line in self._server.ask(deadline, b"INFO").splitlines())
            clients = self._server.ask(deadline, b"CLIENT", b"LIST", b"TYPE", b"pubsub").splitlines()
        except (OSError, BadAnswer):
            self.close()
            return None
        reading = {name: n for name in INFO_METRICS if (n := _read_number(info.get(name, ""))) is not None}
        buffers = [n for c in clients if (n := _read_number(c.partition(" omem=")[2].partition(" ")[0])) is not None]
        reading["subscribers"] = len(clients)
        reading["subscriber_buffers_bytes"] = sum(buffers)
        reading["subscriber_buffer_max_bytes"] = max(buffers, default=0)
        return reading

    def close(self) -> None:
        """Give the connection back to the server."""
        if self._server is not None:
            self._server.close()
            self._server = None


def _read_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class PostgresReader:
    """Connections, temporary files and dead rows of the target's database; one deadline for all of an exchange."""

    def __init__(self, address: str, *, database: str, user: str, timeout_s: float) -> None:
        self._address, self._database, self._user = address, database, user
        self._timeout_s = timeout_s
        self._server: AskedPostgres | None = None

    def read(self) -> Reading | None:
        """connections without our own, temp_files, temp_bytes, deadlocks, commits, rollbacks, dead_rows, live_rows."""
        deadline = time.monotonic() + self._timeout_s
        try:
            if self._server is None or self._server.closed:
                self._server = AskedPostgres(
                    self._address,
                    deadline,
                    database=self._database,
                    user=self._user,
                    name="tickstorm-probe",
                    options=f"-c statement_timeout={round(self._timeout_s * 1000)}",
                )
            row = self._server.ask(deadline, _POSTGRES) or ()
            reading = dict(zip(_POSTGRES_METRICS, map(float, row), strict=True))
        except (psycopg2.Error, OSError, BadAnswer, TypeError, ValueError):  # the last two: a row that is none of ours
            self.close()
            return None
        reading["connections"] -= 1
        return reading

    def close(self) -> None:
        """Give the connection back to the server."""
        if self._server is not None:
            self._server.close()
            self._server = None


class StatsReader:
    """A service's own word on itself: the numbers of `/stats`, nested ones as `clients.plain`, each behind `stats.`.

    Numbers that no float holds are left out, and so is everything where there are more than belong there, in one page
    or, by ever new names, in all that were read.
    """

    def __init__(self, address: str, *, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._names: set[str] = set()

    def read(self) -> Reading | None:
        """The numbers now."""
        try:
            status, body = get_json(self._address, "/stats", self._timeout_s)
        except (OSError, http.client.HTTPException):
            return None
        if status != 200 or not isinstance(body, dict):
            return None
        found = dict(itertools.islice(_numbers(body, "stats"), MOST_NUMBERS + 1))
        if len(self._names | found.keys()) > MOST_NUMBERS:
            return None
        self._names |= found.keys()
        return found


def _numbers(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in table.items():
        name = f"{prefix}.{plain(key, MOST_TEXT)}"
        if len(name) > MOST_TEXT:
            continue
        if isinstance(value, dict):
            yield from _numbers(value, name)
        elif isinstance(value, int | float) and (number := _number(value)) is not None:
            yield name, number


def _number(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def time_health(address: str, timeout_s: float) -> tuple[int, bool, str]:
    """How long `/health` took in ns (-1: no answer in time), whether it was 200, and what it said or why not."""
    began = time.monotonic_ns()
    try:
        status, body = get_json(address, "/health", timeout_s)
    except (OSError, http.client.HTTPException) as error:
        return -1, False, type(error).__name__
    took = time.monotonic_ns() - began
    word = plain(str(body.get("status", "")), MOST_TEXT) if isinstance(body, dict) else ""
    return took, status == 200, word or f"status {status}"
