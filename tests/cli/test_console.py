"""Does a verdict's exit status survive every console?  The same stored runs, told to consoles that cannot take it."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from loadtests.cli.analyze_command import analyze_run
from tests.cli.storing import store
from tests.measure.simulate import World, profile

ANALYZE = [sys.executable, "-m", "loadtests.cli", "analyze"]


def rarely(*cases: object) -> list[object]:
    """Cases that `make prove-all` plays."""
    return [pytest.param(case, marks=pytest.mark.prove_all) for case in cases]


ENCODINGS = ("latin-1", *rarely("ascii:strict", "utf-16", "idna"))
SIZES = ("1", "-1", "99999999999999999999", "\u00b2", "wide", "")


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that passes; its name holds what few consoles can show."""
    folder = tmp_path_factory.mktemp("run") / "run-\u65e5\u2264"
    store(folder, World(profile()).calm())
    assert analyze_run(str(folder), [], out=None, quiet=True, html=False) == 0
    return folder


def analyze(folder: Path, *shell: str, **environment: str) -> int:
    command = [*ANALYZE, str(folder), "--no-html"]
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONIOENCODING", "PYTHONUTF8", "LC_ALL")}
    if shell:
        command = ["bash", "-c", f'"$@" {shell[0]}', "bash", *command]
    return subprocess.run(
        command, env={**kept, **environment}, stdin=subprocess.DEVNULL, capture_output=True, check=False
    ).returncode


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_encoding_that_cannot_show_it_changes_nothing(passed: Path, encoding: str) -> None:
    assert analyze(passed, PYTHONIOENCODING=encoding) == 0


@pytest.mark.prove_all
def test_a_locale_without_letters_changes_nothing(passed: Path) -> None:
    assert analyze(passed, LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0") == 0


@pytest.mark.parametrize(
    "where",
    [
        ">&-",
        ">/dev/full",
        *rarely("2>&-", ">&- 2>&- <&-", ">/dev/full 2>&1"),
        *rarely("| head -c 1; exit ${PIPESTATUS[0]}", "2>&1 | true; exit ${PIPESTATUS[0]}"),
    ],
)
def test_a_console_that_takes_nothing_changes_nothing(passed: Path, where: str) -> None:
    assert analyze(passed, where) == 0


@pytest.mark.parametrize(
    "environment",
    [
        {"COLUMNS": "0", "LINES": "0"},
        *rarely(*({"COLUMNS": size, "LINES": size} for size in SIZES), {"TERM": ""}, {"TERM": "no-such-terminal"}),
    ],
    ids=str,
)
@pytest.mark.prove_all
def test_absurd_terminals_change_nothing(passed: Path, environment: dict[str, str]) -> None:
    assert analyze(passed, **{"TERM": "xterm-256color", "FORCE_COLOR": "1", **environment}) == 0


@pytest.mark.prove_all
def test_a_terminal_of_one_column_changes_nothing(passed: Path) -> None:
    leader, follower = pty.openpty()
    try:
        termios.tcsetwinsize(follower, (1, 1))
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        child = subprocess.Popen(
            [*ANALYZE, str(passed), "--no-html"], env=environment, stdin=follower, stdout=follower, stderr=follower
        )
        os.close(follower)
        os.set_blocking(leader, False)
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            select.select([leader], [], [], 0.2)
            with contextlib.suppress(BlockingIOError, OSError):
                os.read(leader, 65_536)
        assert child.wait(0.1) == 0
    finally:
        os.close(leader)


def test_what_nobody_foresaw_is_never_a_failure_of_the_target(passed: Path, tmp_path: Path) -> None:
    """Python's own status for an error is 1, which would say FAIL."""
    folder = tmp_path / "copy"
    shutil.copytree(passed, folder)
    (folder / "junit.xml").unlink()
    (folder / "junit.xml").mkdir()
    assert analyze(folder) == 3
