"""Is a leftover at a real server seen, whoever put it there?  Planted past the code that injects, one of each kind."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import psycopg2
import pytest
import redis

from loadtests.model.logins import client_options, database_password
from loadtests.model.stackwire import Ask
from loadtests.stack.local import LocalStack
from proof.bench import wait_for
from proof.stack_state import look, standing

Plant = Callable[[LocalStack], contextlib.AbstractContextManager[object]]


def address(stack: LocalStack, service: str) -> tuple[str, int]:
    host, _, port = stack.status().services[service].address.rpartition(":")
    return host, int(port)


@contextmanager
def setting(stack: LocalStack) -> Iterator[None]:
    host, port = address(stack, "redis")
    with contextlib.closing(
        redis.Redis(host=host, port=port, **client_options(f"{host}:{port}", os.environ))
    ) as client:
        was = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", 64_000_000)
        yield
        client.config_set("maxmemory", was)


@contextmanager
def key(stack: LocalStack) -> Iterator[None]:
    host, port = address(stack, "redis")
    with contextlib.closing(
        redis.Redis(host=host, port=port, **client_options(f"{host}:{port}", os.environ))
    ) as client:
        client.set("tickstorm:probe:planted", "x", ex=60)
        yield
        client.delete("tickstorm:probe:planted")


def client_of(host: str, port: int) -> redis.Redis:
    return redis.Redis(host=host, port=port, **client_options(f"{host}:{port}", os.environ))


def admin(where: str) -> str | None:
    return database_password(where, "postgres", os.environ)


@contextmanager
def lock(stack: LocalStack) -> Iterator[None]:
    host, port = address(stack, "postgres")
    with contextlib.closing(
        psycopg2.connect(
            host=host, port=port, dbname="tickstock_test", user="postgres", password=admin(f"{host}:{port}")
        )
    ) as holder:
        holder.cursor().execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        yield
        holder.rollback()


@contextmanager
def session(stack: LocalStack) -> Iterator[None]:
    host, port = address(stack, "postgres")
    name = "tickstorm-fault-1-planted"
    with contextlib.closing(
        psycopg2.connect(
            host=host,
            port=port,
            dbname="tickstock_test",
            user="postgres",
            password=admin(f"{host}:{port}"),
            application_name=name,
        )
    ):
        yield


@contextmanager
def pause(stack: LocalStack) -> Iterator[None]:
    pid = stack.status().services["producer"].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: standing(pid), 5, "it stands still")
    yield
    os.kill(pid, signal.SIGCONT)


@contextmanager
def limit(stack: LocalStack) -> Iterator[None]:
    process = psutil.Process(stack.status().services["gateway"].pid)
    was = process.rlimit(psutil.RLIMIT_AS)
    process.rlimit(psutil.RLIMIT_AS, (1 << 40, was[1]))
    yield
    process.rlimit(psutil.RLIMIT_AS, was)


@contextmanager
def switch(stack: LocalStack) -> Iterator[None]:
    assert stack.ask(Ask(do="switch", settings={"drop_every": "1000000"})).ok
    yield
    assert stack.ask(Ask(do="switch", settings={"drop_every": "0"})).ok


@contextmanager
def spare(stack: LocalStack) -> Iterator[None]:
    assert stack.ask(Ask(do="spare", service="redis")).ok
    yield
    assert stack.ask(Ask(do="end-spare", service="redis")).ok


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (setting, "redis setting maxmemory: 0 -> 64000000"),
        (key, "redis key tickstorm:probe:planted"),
        (lock, "postgres lock on events"),
        (session, "postgres session tickstorm-fault-1-planted"),
        (pause, "producer stands still"),
        (limit, f"gateway max address space: unlimited/unlimited -> {1 << 40}/unlimited"),
        (switch, "gateway switch drop_every: 0 -> 1000000"),
        (spare, "stack spare redis"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_leftover_is_seen_and_afterwards_gone(stack: LocalStack, plant: Plant, words: str) -> None:
    if plant is limit and not hasattr(psutil, "RLIMIT_AS"):
        pytest.skip("this system cannot limit a process that runs")
    before = look(stack.status())
    assert not before.unread
    with plant(stack):
        found = before.left(look(stack.status()))
    assert any(words in text for text in found), found
    wait_for(lambda: before.left(look(stack.status())) == [], 10, "nothing is left")
