"""Does one run at a time use a stack, and does the lock go with its process?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.harness.stack_lock import StackHold, user_of
from loadtests.model.errors import BadInput


def test_a_second_run_is_refused_by_the_name_of_the_first(tmp_path: Path) -> None:
    assert user_of(tmp_path) is None
    hold = StackHold(tmp_path, "run-one")
    assert user_of(tmp_path) == "run-one"
    with pytest.raises(BadInput, match="run-one is using"):
        StackHold(tmp_path, "run-two")
    hold.release()
    hold.release()
    assert user_of(tmp_path) is None
    StackHold(tmp_path, "run-three").release()


def test_no_other_user_keeps_runs_away_by_locking_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    for _ in ("made", "made by an earlier version"):
        StackHold(folder, "run").release()
        assert (folder / "run.lock").stat().st_mode & 0o777 == 0o600
        (folder / "run.lock").chmod(0o644)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from loadtests.harness.stack_lock import StackHold\n"
        "hold = StackHold(Path(sys.argv[1]), 'killed')\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    assert user_of(tmp_path) == "killed"
    child.kill()
    child.communicate()
    assert user_of(tmp_path) is None
