"""Real servers for the tests of the reference target."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# This folder has the name of the package: on a path that holds only `tests`, it would be taken for it.
sys.path.insert(0, str(Path(__file__).parents[2]))

from target_servers import Gateway, Postgres, Redis

from reference_target import schema


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        for _ in range(2):  # the schema may be applied again and again
            schema.apply(host="127.0.0.1", port=server.port, user="postgres", password=None, database="tickstock_test")
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def gateway(redis_server: Redis, postgres: Postgres) -> Iterator[Gateway]:
    """A gateway whose counters a test compares with those of before, and whose switches it puts back."""
    with Gateway(redis_port=redis_server.port, pg_port=postgres.port, GATEWAY_ALLOW_SWITCHES="1") as process:
        process.await_ready()
        yield process
