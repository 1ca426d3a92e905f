"""Does a fork end with its parent, whatever it is doing?"""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import psutil

PARENT = """
import os, time
from loadtests.harness.process import end_forks_with_us
end_forks_with_us()
child = os.fork()
if not child:
    time.sleep(600)
print(child, flush=True)
time.sleep(600)
"""

PARENT_THAT_ENDS = PARENT.rpartition("time.sleep")[0]
SLOW = """
import os, time
us = os.getpid()
def await_our_end():
    while os.getppid() == us:
        time.sleep(0.01)
os.register_at_fork(after_in_child=await_our_end)
"""


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ends(child: int) -> None:
    deadline, pause = time.monotonic() + 60, threading.Event()
    while runs(child):
        assert time.monotonic() < deadline, "the fork outlives its parent"
        pause.wait(0.05)


def test_a_fork_ends_with_its_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            assert runs(child)
        finally:
            parent.kill()
    ends(child)


def test_a_fork_whose_parent_died_before_it_had_begun_ends_too() -> None:
    with subprocess.Popen([sys.executable, "-c", SLOW + PARENT_THAT_ENDS], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
    ends(child)
