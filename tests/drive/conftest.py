"""Locust patches the standard library before anything else of these tests holds on to ssl."""

import locust  # noqa: F401  # isort: skip
from collections.abc import Iterator

import nursery
import pytest


@pytest.fixture(scope="session", autouse=True)
def nurseries() -> Iterator[None]:
    """Started by whoever needs them first, ended behind the last test."""
    yield
    nursery.end_all()
