"""How does a test start a helper process without waiting for its imports?  One process imports a script, then forks.

Run as a process of its own per script: the script's path and the inherited socket that orders come by.  An order is a
line of JSON: a plan, which comes with the two ends that are to be the child's stdin and stdout, or a pid to wait for.
A child that has ended keeps its pid until somebody waits for it: a pid never names anybody else.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from io import FileIO
from os import close  # the kernel's: that of gevent, once it is there, waits for a hub to run
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PATIENCE_S = 60.0


class Nursery:
    """The tests' end: starts children of one script."""

    def __init__(self, script: Path) -> None:
        self._orders, theirs = socket.socketpair()
        self._orders.settimeout(PATIENCE_S)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(script), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # who has threads must not fork
            )

    def start(self, plan: dict[str, Any], stdin: int, stdout: int) -> int:
        """The pid of a child that runs the script's `main` with this plan."""
        socket.send_fds(self._orders, [json.dumps({"plan": plan}).encode() + b"\n"], [stdin, stdout])
        return self._answer()

    def wait(self, pid: int) -> int:
        """How it ended: its exit code, or minus the signal. Who does not end is killed: TimeoutError."""
        self._orders.sendall(b'{"wait": %d}\n' % pid)
        try:
            return self._answer()
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            self._answer()
            raise

    def _answer(self) -> int:
        said = b""
        while not said.endswith(b"\n"):
            piece = self._orders.recv(100)
            if not piece:
                raise EOFError(f"the nursery ended with {self._process.wait(5)}")
            said += piece
        return int(said)

    def end(self) -> None:
        self._orders.close()
        self._process.wait(10)


_nurseries: dict[Path, Nursery] = {}


def nursery_of(script: Path) -> Nursery:
    """The one of these tests."""
    if script not in _nurseries:
        _nurseries[script] = Nursery(script)
    return _nurseries[script]


def end_all() -> None:
    while _nurseries:
        _nurseries.popitem()[1].end()


class Child:
    """A child whose lines on stdout are read with deadlines."""

    def __init__(self, script: Path, plan: dict[str, Any]) -> None:
        theirs_in, self.stdin = pipe()
        self.stdout, theirs_out = pipe()
        self._held = b""
        self._nursery = nursery_of(script)
        self._ended: int | None = None
        with theirs_in, theirs_out:
            self.pid = self._nursery.start(plan, theirs_in.fileno(), theirs_out.fileno())

    def line(self, deadline_s: float = 30.0) -> str:
        """Its next line. Raises TimeoutError, and EOFError where it ended."""
        until = time.monotonic() + deadline_s
        while b"\n" not in self._held:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.stdout], [], [], left)[0]:
                raise TimeoutError(f"nothing said within {deadline_s} s")
            piece = self.stdout.read(1 << 20)
            if not piece:
                raise EOFError(f"ended with {self.wait()}")
            self._held += piece
        first, _, self._held = self._held.partition(b"\n")
        return first.decode()

    def wait(self) -> int:
        """How it ended."""
        if self._ended is None:
            self._ended = self._nursery.wait(self.pid)
        return self._ended

    def stop(self) -> None:
        """End it, where it has not ended; safe to repeat."""
        if self._ended is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        self.stdin.close()
        self.stdout.close()


def pipe() -> tuple[FileIO, FileIO]:
    """The end to read from and the one to write to."""
    reads, writes = os.pipe()
    return FileIO(reads, "rb"), FileIO(writes, "wb")


def main(script: Path, orders: socket.socket) -> None:
    orders.setblocking(True)
    sys.path[:1] = [str(script.parent), str(ROOT)]
    begin = importlib.import_module(script.stem).main
    gc.freeze()
    while True:
        said, fds, *_ = socket.recv_fds(orders, 1 << 16, 2)
        while said and not said.endswith(b"\n"):
            said += orders.recv(1 << 16)
        if not said:
            return
        order = json.loads(said)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            orders.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            continue
        pid = fork()
        if not pid:
            orders.close()
            for end, fd in enumerate(fds):
                os.dup2(fd, end)
                close(fd)
            begin(order["plan"])
            sys.stdout.flush()
            os._exit(0)  # to take apart what was imported takes longer than most tests
        for fd in fds:
            close(fd)
        orders.sendall(b"%d\n" % pid)


def fork() -> int:
    """With a hub of the child's own where importing the script made one."""
    if "gevent" in sys.modules:
        from gevent.os import fork_gevent

        return int(fork_gevent())
    return os.fork()


if __name__ == "__main__":
    main(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
