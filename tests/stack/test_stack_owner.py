"""Does a stack that a process started for itself end when that one is killed, and stay while a run holds it?"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
from beside import beside

from loadtests.stack.local import LocalStack
from loadtests.stack.orphans import HOLD, is_held, myself, owner_lives, watch

STARTER = """
import sys, time
from pathlib import Path
from loadtests.stack.local import LocalStack
LocalStack.up(Path(sys.argv[1]), mine=True)
print("up", flush=True)
time.sleep(600)
"""


def test_a_process_that_runs_lives_and_one_of_another_birth_does_not() -> None:
    pid, _, born = myself().partition(":")
    assert owner_lives(f"{pid}:{born}")
    assert not owner_lives(f"{pid}:{float(born) - 10}")


def test_a_stack_is_held_as_long_as_somebody_has_its_lock(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    with (tmp_path / HOLD).open("wb") as hold:
        assert not is_held(tmp_path)
        fcntl.flock(hold, fcntl.LOCK_EX)
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


@beside
def test_the_end_comes_after_the_owner_and_the_last_run_are_gone(tmp_path: Path) -> None:
    ended = threading.Event()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:
        hold = os.open(tmp_path / HOLD, os.O_RDWR | os.O_CREAT)
        fcntl.flock(hold, fcntl.LOCK_EX)
        watch(f"{owner.pid}:{_born(owner.pid)}", tmp_path, ended.set, grace_s=0.0)
        assert not ended.wait(1.2)  # both are there
        owner.kill()
        owner.wait()
        assert not ended.wait(1.2)  # the run still holds it
        os.close(hold)
        assert ended.wait(10)


@beside
def test_a_killed_starter_takes_its_stack_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    with subprocess.Popen([sys.executable, "-c", STARTER, str(folder)], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        stack = LocalStack.attach(folder)
        assert stack is not None
        try:
            starter.kill()
            starter.wait()
            deadline, pause = time.monotonic() + 40, threading.Event()
            while LocalStack.attach(folder) is not None:
                assert time.monotonic() < deadline, "the stack outlives the process that it was started for"
                pause.wait(0.1)
        finally:
            stack.down()


def _born(pid: int) -> float:
    born: float = psutil.Process(pid).create_time()
    return born
