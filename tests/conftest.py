"""What do tests of all folders share?  The local stack: started once, for the tests that need real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtests.stack import LocalStack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A running stack with free ports. Whoever breaks it mends it: every service is ready again when a test ends."""
    with LocalStack.up(tmp_path_factory.mktemp("stack"), progress=print) as running:
        yield running
