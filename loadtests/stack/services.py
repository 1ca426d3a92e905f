"""With which command does each service of the stack start, and what must it answer?  Starts nothing itself."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtests.model.address import host_port
from loadtests.model.logins import TOKEN_SECRET
from loadtests.model.stackwire import LinkAddress
from loadtests.stack import postgresql, ready
from loadtests.stack.child import Command, ProcessOwner
from loadtests.stack.folder import StackFolder, open_to_all, write_private
from loadtests.stack.links import HOST, addresses, links
from loadtests.stack.passwords import Passwords
from loadtests.stack.servers import Program, Servers

COPY = "programs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One service before it is started."""

    name: str
    address: str
    origin: str
    command: Command
    probe: Callable[[], Awaitable[str]]  # the service's version, or ready.NotReady
    ports: tuple[str, ...]  # of the service and, for Toxiproxy, of its links


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where PostgreSQL's programs and data lie, and the private folder that was needed for it, if any."""

    programs: Path
    data: Path
    owner: ProcessOwner | None
    private: Path | None


def place_postgres(folder: StackFolder, program: Program) -> Place:
    """In the stack's folder; where `nobody` must run it and cannot get there, in a private temporary folder."""
    owner = postgresql.login()
    if owner is None or (open_to_all(folder.data) and open_to_all(program.path)):
        return Place(programs=program.path, data=folder.data / "postgres", owner=owner, private=None)
    private = postgresql.make_private(owner)
    programs = program.path if open_to_all(program.path) else postgresql.programs_of(private / COPY)
    return Place(programs=programs, data=private / "data", owner=owner, private=private)


def lay_postgres(place: Place, template: Path, passwords: Passwords) -> None:
    """Copy the template to its place, and the programs where their own place cannot be reached; set the passwords."""
    postgresql.clone(template, place.data, place.owner)
    if place.private is not None and place.private in place.programs.parents:
        postgresql.copy_carried(place.private / COPY)
    postgresql.set_passwords(place.programs, place.data, place.owner, "".join(passwords.statements()))


def redis_config(folder: StackFolder, port: int) -> Path:
    """What the Redis on a port is told; in a file, since everybody can read a command line."""
    return folder.data / f"redis-{port}.conf"


def lay_redis(folder: StackFolder, port: int, passwords: Passwords) -> None:
    """Write what the Redis on a port is told."""
    options = {"bind": HOST, "port": str(port), "save": '""', "appendonly": "no", "daemonize": "no", "logfile": '""'}
    lines = [f"{name} {value}" for name, value in options.items()] + list(passwords.redis_users())
    write_private(redis_config(folder, port), "".join(f"{line}\n" for line in lines).encode("ascii"))


def plans(
    *,
    folder: StackFolder,
    servers: Servers,
    ports: Mapping[str, int],
    place: Place,
    gateway_env: Mapping[str, str],
    passwords: Passwords,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Plan]:
    """Every service, in the order in which they start."""
    at = addresses(ports)
    table = links(ports)
    server_env = {"PATH": os.defpath, "HOME": str(folder.data), "LC_ALL": "C", "TZ": "UTC"}
    python = postgresql.python_environment(environ)
    secret = python.pop(TOKEN_SECRET, "")
    gateway = _target_env(table, "gateway", "app_readonly", passwords) | {
        "GATEWAY_HOST": HOST,
        "GATEWAY_PORT": str(ports["gateway"]),
        "GATEWAY_ALLOW_SWITCHES": "1",  # the stack is a test system
        "GATEWAY_SWITCH_TOKEN": passwords.switches,
        "GATEWAY_TOKEN_SECRET": secret,
    }
    producer = _target_env(table, "producer", "app_readwrite", passwords) | {
        "PRODUCER_HOST": HOST,
        "PRODUCER_PORT": str(ports["producer"]),
    }
    return {
        "redis": Plan(
            name="redis",
            address=at["redis"],
            origin=servers.redis.origin,
            command=Command(
                argv=[str(servers.redis.path), str(redis_config(folder, ports["redis"]))],
                env=server_env, cwd=folder.data, log=folder.log("redis"),
            ),
            probe=functools.partial(ready.redis, at["redis"]),
            ports=("redis",),
        ),
        "postgres": Plan(
            name="postgres",
            address=at["postgres"],
            origin=servers.postgres.origin,
            command=Command(
                argv=[str(place.programs / "postgres"), "-D", str(place.data), "-p", str(ports["postgres"])],
                env=postgresql.environment(place.data),
                cwd=place.data,
                log=folder.log("postgres"),
                login=place.owner,
                stop_signal=signal.SIGINT,  # SIGTERM would wait until all clients have left
            ),
            probe=functools.partial(ready.postgres, at["postgres"], passwords.app_readonly),
            ports=("postgres",),
        ),
        "toxiproxy": Plan(
            name="toxiproxy",
            address=at["toxiproxy"],
            origin=servers.toxiproxy.origin,
            command=Command(
                argv=[str(servers.toxiproxy.path), "-host", HOST, "-port", str(ports["toxiproxy"]),
                      "-config", str(folder.links_config)],
                env=server_env | {"LOG_LEVEL": "info"}, cwd=folder.data, log=folder.log("toxiproxy"),
            ),
            probe=functools.partial(ready.toxiproxy, at["toxiproxy"], table),
            ports=("toxiproxy", *table),
        ),
        "gateway": Plan(
            name="gateway",
            address=at["gateway"],
            origin="ours",
            command=Command(
                argv=[sys.executable, "-P", "-m", "reference_target.gateway"],
                env=python | gateway | dict(gateway_env), cwd=folder.data, log=folder.log("gateway"),
            ),
            probe=functools.partial(ready.target, at["gateway"]),
            ports=("gateway",),
        ),
        "producer": Plan(
            name="producer",
            address=at["producer"],
            origin="ours",
            command=Command(
                argv=[sys.executable, "-P", "-m", "reference_target.producer"],
                env=python | producer, cwd=folder.data, log=folder.log("producer"),
            ),
            probe=functools.partial(ready.target, at["producer"]),
            ports=("producer",),
        ),
    }  # fmt: skip


def _target_env(table: Mapping[str, LinkAddress], who: str, user: str, passwords: Passwords) -> dict[str, str]:
    """A process of the target reaches Redis and PostgreSQL through its own links only."""
    redis_host, redis_port = host_port(table[f"{who}-redis"].listen)
    pg_host, pg_port = host_port(table[f"{who}-postgres"].listen)
    return {
        "REDIS_HOST": redis_host,
        "REDIS_PORT": str(redis_port),
        "PG_HOST": pg_host,
        "PG_PORT": str(pg_port),
        "PG_DATABASE": postgresql.DATABASE,
        "PG_USER": user,
        "PG_PASSWORD": str(getattr(passwords, user)),
        "REDIS_USER": who,
        "REDIS_PASSWORD": str(getattr(passwords, who)),
    }
