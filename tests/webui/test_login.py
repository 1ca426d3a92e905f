"""Is the right password let in, whatever strangers try at the same time, and does a wrong one wait?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from served import Served

PASSWORD = "canary-password"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "argv", ["locust"])
    made = Served(tmp_path, web_login=True)
    yield made
    made.close()


def log_in(served: Served, password: str) -> Any:
    from loadtests.webui.login import PATH

    return served.client.post(PATH, data={"username": "me", "password": password})


def test_the_right_password_is_let_in_while_strangers_try_without_pause(served: Served) -> None:
    from loadtests.webui.login import AGAIN_S, PATH, attach_login

    waited: list[float] = []

    def pause(seconds: float) -> None:
        """Before a wrong password is answered, the right one comes."""
        waited.append(seconds)
        assert log_in(served, PASSWORD).location == "/"

    attach_login(served.ui, PASSWORD, pause=pause)
    served.doors._login = PATH
    for _ in range(12):
        assert log_in(served, "wrong").location == "/login"
        assert log_in(served, PASSWORD).location == "/"
    assert waited == [AGAIN_S] * 12
    for strange in ("", "\xfc", PASSWORD + "x"):
        assert log_in(served, strange).location == "/login"
