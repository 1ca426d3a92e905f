"""How does a supervisor begin, and who cleans up when it cannot?  `python -m loadtests.stack --folder DIR`.

Two processes: the keeper adopts whatever its child, the supervisor, leaves behind; so not even SIGKILL leaves a server.
Standard output says in JSON lines how it goes: {"progress": ..}, then {"ready": true} or {"error": .., "kind": ..}.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

import msgspec
import psutil

from loadtests.model.errors import BadInput, TickstormError
from loadtests.stack.child import LINUX, die_with, signal_pid
from loadtests.stack.errors import OwnedByAnother
from loadtests.stack.folder import StackFolder
from loadtests.stack.orphans import end_left, watch
from loadtests.stack.supervisor import Supervisor

PR_SET_CHILD_SUBREAPER = 36
CLEAN_S = 10.0


def keep(supervisor: int, folder: StackFolder, owner: str) -> int:
    """Wait for the supervisor, then end and reap all that it left; returns its exit status.

    Where the stack has an owner, the supervisor is told to end when that one is gone.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: signal_pid(supervisor, signal.Signals(number)))
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    if owner:
        watch(owner, folder.root, lambda: signal_pid(supervisor, signal.SIGTERM))
    status = 0
    while True:
        pid, raw = os.waitpid(-1, 0)  # orphans are ours too, and are reaped on the way
        if pid == supervisor:
            status = os.waitstatus_to_exitcode(raw)
            break
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # its pid may be another process's by now, and cleaning up takes no time
    deadline = time.monotonic() + CLEAN_S
    while (left := psutil.Process().children(recursive=True)) and time.monotonic() < deadline:
        for process in left:
            signal_pid(process.pid, signal.SIGKILL)
        psutil.wait_procs(left, timeout=0.5)
    end_left(folder)  # where no kernel hands us orphans
    return status if status >= 0 else 128 - status


def supervise(folder: StackFolder, ports: dict[str, int], gateway_env: dict[str, str]) -> int:
    """Be the supervisor; returns the exit status."""
    folder.logs.mkdir(exist_ok=True)
    log = os.open(folder.log("supervisor"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o644)
    os.dup2(log, 2)

    def tell(line: dict[str, object]) -> None:
        try:
            os.write(1, msgspec.json.encode(line) + b"\n")
        except BrokenPipeError:  # who started us has left; the stack stays
            os.dup2(log, 1)

    def ready() -> None:
        tell({"ready": True})
        os.dup2(log, 1)

    supervisor = Supervisor(
        folder, wanted_ports=ports, gateway_env=gateway_env, tell=lambda text: tell({"progress": text})
    )
    try:
        asyncio.run(supervisor.run(ready))
    except TickstormError as error:
        tell({"error": str(error), "kind": type(error).__name__})
        return 2 if isinstance(error, BadInput) else 3
    return 0


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.stack", description="Owns the servers of a local stack.")
    parser.add_argument("--folder", type=Path, required=True, help="where the stack keeps its things")
    parser.add_argument("--ports", default="{}", help='JSON: service or link and its port, such as {"redis": 6400}')
    parser.add_argument("--gateway-env", default="{}", help="JSON: environment variables for the gateway")
    parser.add_argument("--owner", default="", help="pid:birth of the process with which the stack ends; none: stays")
    given = parser.parse_args()
    try:
        ports = msgspec.json.decode(given.ports, type=dict[str, int])
        gateway_env = msgspec.json.decode(given.gateway_env, type=dict[str, str])
    except msgspec.DecodeError as error:
        parser.error(str(error))
    folder = StackFolder(root=given.folder.absolute())
    lock = folder.take()
    if lock is None:
        line = {"error": f"Another supervisor already owns {folder.root}.", "kind": OwnedByAnother.__name__}
        sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
        return 3
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    keeper = os.getpid()
    child = os.fork()
    if child == 0:
        die_with(keeper, signal.SIGTERM)
        return supervise(folder, ports, gateway_env)
    return keep(child, folder, given.owner)


if __name__ == "__main__":
    sys.exit(main())
