"""Real servers for the tests that ask them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import locust  # noqa: F401  (the first folder of its process: patches before anything holds on to ssl)
import pytest

# The servers' helpers lie beside the target's tests; behind the root, since that folder is named as the package is.
sys.path.append(str(Path(__file__).parents[1] / "reference_target"))

from target_servers import Gateway, Postgres, Redis

from reference_target import schema


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        schema.apply(host="127.0.0.1", port=server.port, user="postgres", password=None, database="tickstock_test")
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def gateway(redis_server: Redis, postgres: Postgres) -> Iterator[Gateway]:
    with Gateway(redis_port=redis_server.port, pg_port=postgres.port) as process:
        process.await_ready()
        yield process
