"""Is what stands still ended when supervisor and keeper are killed together, by whoever comes next?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from stack_peers import until

from loadtests.model.stackwire import Ask
from loadtests.stack.folder import Owned, StackFolder, State
from loadtests.stack.local import LocalStack
from loadtests.stack.orphans import end_left_in, owned_by

pytestmark = pytest.mark.e2e


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def killed_while_paused(folder: Path) -> list[psutil.Process]:
    """What a stack leaves that lost both of its guards while PostgreSQL stood still."""
    stack = LocalStack.up(folder)
    status = stack.status()
    assert stack.ask(Ask(do="pause", service="postgres")).ok
    postgres = psutil.Process(status.services["postgres"].pid)
    family = [postgres, *postgres.children(recursive=True)]
    assert len(family) > 3
    supervisor = psutil.Process(status.supervisor_pid)
    keeper = psutil.Process(supervisor.ppid())
    for process in (keeper, supervisor):
        process.suspend()  # so that neither sees the other die
    for process in (supervisor, keeper):
        process.kill()
    until("both guards are gone", lambda: not alive([supervisor, keeper]))
    until("its first process is gone", lambda: not alive([postgres]))  # the kernel ends it alone
    return family


@pytest.mark.prove_all
def test_stack_heal_ends_what_was_left_standing(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    family = killed_while_paused(folder)
    left = alive(family)
    assert left
    assert {process.status() for process in left} == {psutil.STATUS_STOPPED}
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.cli", "stack", "heal"],
        env=os.environ | {"TICKSTORM_STACK": str(folder), "TICKSTORM_REPORTS": str(tmp_path / "reports")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "which a dead supervisor had left" in done.stdout
    until("nothing is left", lambda: not alive(family))
    assert not StackFolder(root=folder).state.exists()


def test_a_process_that_has_the_pid_of_another_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (born,) = owned_by([stranger.pid])
        wrong = Owned(pid=born.pid, created_s=born.created_s - 60)
        StackFolder(root=tmp_path).write_state(State(owned={"redis": wrong}, frozen=[wrong]))
        assert end_left_in(tmp_path) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_where_a_supervisor_lives_nothing_is_ended(stack: LocalStack) -> None:
    assert end_left_in(stack.folder) == []
    assert stack.status().services["redis"].state == "ready"


def test_a_frozen_family_is_known_with_its_births() -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    os.kill(sleeper.pid, signal.SIGSTOP)
    assert owned_by([sleeper.pid])[0].pid == sleeper.pid
    sleeper.kill()
    sleeper.wait()
    assert owned_by([sleeper.pid]) == []
