"""What do tests of all folders share?  The local stack, started once for whoever needs real servers, and a browser."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from loadtests.stack.local import LocalStack

# A fresh checkout builds Hypothesis' tables first, and other groups of tests run beside: neither is a failure.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_configure() -> None:
    """No test, and no process that one starts, leaves anything in the state folder of whoever plays them."""
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="tickstorm-state-")


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["XDG_STATE_HOME"], ignore_errors=True)


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A running stack with free ports. Whoever breaks it mends it: every service is ready again when a test ends."""
    with LocalStack.up(tmp_path_factory.mktemp("stack"), progress=print) as running:
        yield running


@pytest.fixture(scope="session")
def asked(request: pytest.FixtureRequest) -> frozenset[str]:
    """Names and parameters of the tests that are played: what prepares many at once prepares no other."""
    return frozenset(word for item in request.session.items for word in item.keywords)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium with an empty profile; skips where there is none, unless TICKSTORM_REQUIRE_BROWSER=1."""
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        if os.environ.get("TICKSTORM_REQUIRE_BROWSER") == "1":
            pytest.fail("no Chromium on PATH, and TICKSTORM_REQUIRE_BROWSER=1 wants one")
        pytest.skip("no Chromium on PATH")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()
