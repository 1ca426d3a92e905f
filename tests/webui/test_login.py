"""Do strangers get few tries, and does none of theirs keep out who opened the printed address?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from served import Served

from loadtests.webui.access_guard import AGAIN_S, HEADER, LOGIN_PATH, attach_login

PASSWORD = "canary-password"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "argv", ["locust"])
    made = Served(tmp_path, web_login=True)
    yield made
    made.close()


def log_in(served: Served, password: str, **headers: str) -> Any:
    return served.client.post(LOGIN_PATH, data={"username": "me", "password": password}, headers=headers)


def test_a_stranger_has_one_try_a_second_and_keeps_nobody_out_who_has_the_token(served: Served) -> None:
    now_s = [0.0]
    attach_login(served.ui, PASSWORD, now_s=lambda: now_s[0])
    served.guard._login = LOGIN_PATH
    mine = {HEADER: served.guard.token}
    for _ in range(12):
        assert log_in(served, "wrong").location == "/login"
        assert log_in(served, PASSWORD).location == "/login"  # a stranger's right one is not looked at either
        assert log_in(served, PASSWORD, **mine).location == "/"
        now_s[0] += AGAIN_S
    assert log_in(served, PASSWORD).location == "/"
    for strange in ("", "\xfc", PASSWORD + "x"):
        assert log_in(served, strange, **mine).location == "/login"
