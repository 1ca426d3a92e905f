"""What do the end-to-end tests share?  One bench on the session's stack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from launching import Bench, alone

from loadtests.stack.local import LocalStack


@pytest.fixture(scope="module")
def bench(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Children of this module; all of them are gone after it."""
    made = Bench(stack, tmp_path_factory.mktemp("e2e"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack for this module alone: the lying gateway hears every run on its Redis."""
    with alone(tmp_path_factory.mktemp("prove-stack")) as stack:
        yield stack
