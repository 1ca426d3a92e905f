"""Redis for the tests of the lying gateway."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nursery
import pytest

# This folder has the name of the package: on a path that holds only `tests`, it would be taken for it.
sys.path.insert(0, str(Path(__file__).parents[2]))

from lying import LyingGateway, RedisServer

Start = Callable[[dict[str, Any]], LyingGateway]


@pytest.fixture(scope="session", autouse=True)
def nurseries() -> Iterator[None]:
    yield
    nursery.end_all()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def start(redis_server: RedisServer, tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway with a plan."""
    started: list[LyingGateway] = []

    def begin(plan: dict[str, Any]) -> LyingGateway:
        started.append(LyingGateway(redis_server.port, plan, tmp_path / f"{len(started)}"))
        return started[-1]

    yield begin
    for gateway in started:
        gateway.kill()
