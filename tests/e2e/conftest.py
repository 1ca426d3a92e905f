"""What do the end-to-end tests share?  One bench on the session's stack, and a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from launching import Bench

from loadtests.stack import LocalStack

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def bench(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Children of this module; all of them are gone after it."""
    made = Bench(stack, tmp_path_factory.mktemp("e2e"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium with an empty profile; skips where there is none, unless TICKSTORM_REQUIRE_BROWSER=1."""
    refuse = pytest.fail if os.environ.get("TICKSTORM_REQUIRE_BROWSER") == "1" else pytest.skip
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        refuse("no Chromium on PATH")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()
