"""Does Ctrl-C leave a callback of the hub whole, and still end who waits?"""

from __future__ import annotations

import signal
import subprocess
import sys

PROGRAM = """
import gevent
from gevent import monkey
monkey.patch_all()
import os, signal
from loadtests.harness.process import heed_ctrl_c
if {heeded}:
    heed_ctrl_c()

def callback():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1_000_000):
            pass
    except KeyboardInterrupt:
        print("inside a callback")
        raise
    print("whole")

timer = gevent.get_hub().loop.timer(0.01)
timer.start(callback)
try:
    gevent.spawn(gevent.sleep, 20).join()
except KeyboardInterrupt:
    print("interrupted")
"""


def said(*, heeded: bool, ignored: bool = False) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(heeded=heeded).replace("20)", "1)" if ignored else "20)")],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.SIG_DFL),
    )  # fmt: skip
    if heeded:
        assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def test_a_callback_ends_before_the_interruption_comes() -> None:
    assert said(heeded=True) == ["whole", "interrupted"]


def test_pythons_own_handler_would_strike_inside_it() -> None:
    assert said(heeded=False) == ["inside a callback", "interrupted"]


def test_whoever_ignores_it_goes_on_ignoring_it() -> None:
    assert said(heeded=True, ignored=True) == ["whole"]
