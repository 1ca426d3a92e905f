"""Is a foreign set-up of Locust shut out of `tickstorm run`, and named where plain Locust heeds it?"""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from loadtests.harness.locust_main import ruled
from loadtests.harness.setup import Override, effective, of_the_users, told_to_locust
from loadtests.model.registry import USERS

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    ".locust.conf": "version = true\n",
    "locust.conf": "version = true\n",
    "pyproject.toml": '[tool.locust]\nversion = "true"\n',
}


def list_users(module: str, folder: Path) -> str:
    """What Locust says that is asked for its users, among files that ask for its version."""
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    kept, _ = ruled(os.environ)
    done = subprocess.run(
        [sys.executable, "-m", module, "-f", str(ROOT / "locustfile.py"), "--list"],
        cwd=folder, env={**kept, "HOME": str(folder), "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout


@pytest.mark.prove_all
def test_no_file_of_another_set_up_rules_a_run(tmp_path: Path) -> None:
    assert "EventPublisher" in list_users("loadtests.harness.locust_main", tmp_path)
    assert "EventPublisher" not in list_users("locust", tmp_path), "else this test shows nothing"


def test_locusts_variables_are_taken_away_by_name_and_ours_stay() -> None:
    kept, foreign = ruled({"LOCUST_RUN_TIME": "4s", "LOCUST_TAGS": "x", "TICKSTORM_SET": "a=1", "PATH": "/bin"})
    assert kept == {"TICKSTORM_SET": "a=1", "PATH": "/bin"}
    assert foreign == ["LOCUST_RUN_TIME", "LOCUST_TAGS"]


def test_what_plain_locust_heeds_is_named_with_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "locust.conf").write_text("users = 3\n", encoding="utf-8")
    monkeypatch.setenv("LOCUST_RUN_TIME", "4s")
    monkeypatch.setenv("LOCUST_USER_CLASSES", "WebSocketClient")
    assert told_to_locust(argv=["--exclude-tags", "slow", "--headless"]) == [
        Override("locust.users", "3", "file locust.conf"),
        Override("locust.run_time", "4", "environment LOCUST_RUN_TIME"),
        Override("locust.user_classes", '["WebSocketClient"]', "environment LOCUST_USER_CLASSES"),
        Override("locust.exclude_tags", '["slow"]', "option"),
    ]
    asked = Namespace(run_time=9, num_users=54)
    assert Override("locust.run_time", "9", "start form") in told_to_locust(asked, argv=[])
    for name in ("LOCUST_RUN_TIME", "LOCUST_USER_CLASSES"):
        monkeypatch.delenv(name)
    (tmp_path / "locust.conf").unlink()
    assert told_to_locust(argv=["--headless"]) == []


def test_classes_that_were_not_chosen_are_of_the_users() -> None:
    planned = {"publisher": 4, "consumer": 50, "reader": 0}
    everybody = [kind.user_class for kind in USERS.values()]
    assert of_the_users(planned, everybody, None) == []
    assert of_the_users(planned, everybody, 7) == [Override("consumers", "7", "option")]
    assert of_the_users(planned, ["WebSocketClient"], None) == [Override("publishers", "0", "option")]
    assert of_the_users(planned, ["EventPublisher"], 7) == [Override("consumers", "0", "option")]
    assert effective([]) == []
