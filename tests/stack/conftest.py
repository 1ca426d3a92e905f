"""What does a test of the stack have for itself where several go side by side?  A folder."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from beside import begun

ABREAST = 3  # each starts a stack


@dataclass(kw_only=True)
class Place:
    tmp_path: Path


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """Of the module's tests that are played beside each other."""
    folder, numbers = tmp_path_factory.mktemp("beside"), count()

    @contextmanager
    def place() -> Iterator[Place]:
        own = folder / str(next(numbers))
        own.mkdir()
        yield Place(tmp_path=own)

    with begun(request, place, ("tmp_path",), ABREAST) as outcomes:
        yield outcomes
