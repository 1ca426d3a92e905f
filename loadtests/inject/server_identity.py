"""Which server answers behind a link?  By what the server says of itself, else by whom the kernel shows connected.

Asks for nothing that changes the target: INFO, one SELECT, GET /health.
"""

from __future__ import annotations

import re

import msgspec

from loadtests.inject.connections import open_connections
from loadtests.inject.database import Database
from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError
from loadtests.inject.link import Link
from loadtests.inject.probe import Probe
from loadtests.inject.probe_protocols import DIALECTS, redis_info
from loadtests.model.address import host_port, written

_RUN_ID = re.compile(rb"run_id:([0-9a-f]+)")
_SERVER = "SELECT system_identifier, inet_server_port(), pg_postmaster_start_time()::text FROM pg_control_system()"
_HERE = ("127.0.0.1", "localhost", "::1")


def named_by_itself(link: Link, probe: Probe, database: Database | None, watch: Watch) -> str | None:
    """What the server behind the link calls itself, on a connection opened for it; None where it does not say.

    Redis: its run id. PostgreSQL: system identifier, port and start, for which a login is needed. Gateway: its process.
    """
    if link.speaks == "redis":
        answer = probe.ask(redis_info("server"), watch)
        found = _RUN_ID.search(answer or b"")
        return f"run_id {found.group(1).decode()}" if found else None
    if link.speaks == "postgres" and database is not None:
        host, port = link.address()
        try:
            ((identifier, own_port, since),) = Database(
                written(host, port), database=database.database, user=database.user, own=link.own
            ).ask(_SERVER, admin=False)
        except ControlError:
            return None
        return f"system {identifier} on port {own_port} since {since}"
    if link.speaks == "gateway":
        dialect = DIALECTS["gateway"]
        answer = probe.ask((dialect.ping, dialect.complete), watch) or b""
        try:
            pid = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=dict[str, object]).get("pid")
        except msgspec.MsgspecError:
            return None
        return None if pid is None else f"pid {pid}"
    return None


def reached(probe: Probe, upstreams: tuple[str, ...], watch: Watch) -> str | None:
    """Which of these servers of this machine a new connection through the link ends at; None where it cannot be known.

    Others may connect in the same instant: an answer is only given where one of the servers alone was connected to.
    """
    ports = {upstream: _local_port(upstream) for upstream in upstreams}
    before = {upstream: None if port is None else open_connections(port) for upstream, port in ports.items()}
    held = probe.ping(watch, fresh=True)
    if held is None or held.seen != "answer":
        return None
    grown = []
    for upstream, port in ports.items():
        was, now = before[upstream], None if port is None else open_connections(port)
        if was is None or now is None:
            return None
        if now - was:
            grown.append(upstream)
    return grown[0] if len(grown) == 1 else None


def _local_port(address: str) -> int | None:
    try:
        host, port = host_port(address)
    except ValueError:
        return None
    return port if host in _HERE else None
