"""What do the target's servers say about themselves?  One reader per source; a failed reading is None, no exception.

Runs in the sampler's own process, so it may block: each reader has a thread of its own there.
"""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psutil
import psycopg2
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from loadtests.capture.asking import get_json
from loadtests.model.address import host_port

Reading = dict[str, float]
"""Metric -> value."""

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
    """INFO and the output buffers of the subscribers, from the server itself."""

    def __init__(self, address: str, timeout_s: float) -> None:
        host, port = host_port(address)
        self._client = redis.Redis(
            host=host,
            port=port,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            client_name="tickstorm-probe",
        )

    def read(self) -> Reading | None:
        """INFO's numbers under INFO's names, and subscriber_buffers_bytes (all, max) of its client list."""
        try:
            info: Mapping[str, Any] = self._client.info()
            subscribers = self._client.client_list(_type="pubsub")
        except (redis.RedisError, OSError):
            return None
        reading = {name: float(info[name]) for name in INFO_METRICS if isinstance(info.get(name), int | float)}
        buffers = [int(client.get("omem", 0)) for client in subscribers]
        reading["subscribers"] = len(buffers)
        reading["subscriber_buffers_bytes"] = sum(buffers)
        reading["subscriber_buffer_max_bytes"] = max(buffers, default=0)
        return reading

    def close(self) -> None:
        """Give the connection back to the server."""
        self._client.close()


class PostgresReader:
    """Connections, temporary files and dead rows of the target's database."""

    def __init__(self, address: str, *, database: str, user: str, timeout_s: float) -> None:
        host, port = host_port(address)
        self._options: dict[str, Any] = {
            "host": host,
            "port": port,
            "dbname": database,
            "user": user,
            "connect_timeout": max(2, round(timeout_s)),
            "application_name": "tickstorm-probe",
            "options": f"-c statement_timeout={round(timeout_s * 1000)}",
        }
        if password := os.environ.get("TEST_DB_PASSWORD"):
            self._options["password"] = password
        self._connection: Any = None

    def read(self) -> Reading | None:
        """connections without our own, temp_files, temp_bytes, deadlocks, commits, rollbacks, dead_rows, live_rows."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg2.connect(**self._options)
                self._connection.autocommit = True
            with self._connection.cursor() as cursor:
                cursor.execute(_POSTGRES)
                row = cursor.fetchone()
        except psycopg2.Error:
            self.close()
            return None
        if row is None:
            return None
        reading = dict(zip(_POSTGRES_METRICS, map(float, row), strict=True))
        reading["connections"] -= 1
        return reading

    def close(self) -> None:
        """Give the connection back to the server."""
        if self._connection is not None:
            try:
                self._connection.close()
            except psycopg2.Error:
                pass  # it was gone already, which is all that is wanted
            self._connection = None


def read_stats(address: str, timeout_s: float) -> Reading | None:
    """The numbers of `/stats`, nested ones as `clients.plain`, each behind `stats.`: a service's own word on itself."""
    try:
        status, body = get_json(address, "/stats", timeout_s)
    except (OSError, http.client.HTTPException):
        return None
    if status != 200 or not isinstance(body, dict):
        return None
    return dict(_numbers(body, "stats"))


def _numbers(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}.{key}")
        elif isinstance(value, int | float):
            yield f"{prefix}.{key}", float(value)


def time_health(address: str, timeout_s: float) -> tuple[int, bool, str]:
    """How long `/health` took in ns (-1: no answer in time), whether it was 200, and what it said or why not."""
    began = time.monotonic_ns()
    try:
        status, body = get_json(address, "/health", timeout_s)
    except (OSError, http.client.HTTPException) as error:
        return -1, False, type(error).__name__
    took = time.monotonic_ns() - began
    word = str(body.get("status", "")) if isinstance(body, dict) else ""
    return took, status == 200, word or f"status {status}"
