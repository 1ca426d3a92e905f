"""What does `python -m loadtests.inject` do?  Without arguments: the injector process of one run, on stdin and stdout.

It acts as its stdin, its plan, its signals and its parent say, and ends with the parent.
`heal --toxiproxy HOST:PORT --journal PATH...` lifts what earlier runs left.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec

from loadtests.inject.errors import ControlError
from loadtests.inject.injector import Injector
from loadtests.inject.parent import Emitter
from loadtests.inject.startup_sweep import heal
from loadtests.model.ids import NS_PER_MS
from loadtests.model.injectwire import Begin, End, Go, HealAll, Healed, Quit, Schedule, ToInjector, UserFaultState
from loadtests.model.records import Trouble

_LOOK_MS = 250  # how often it is looked whether the parent still lives
_FLUSH_S = 2.0

_decoder = msgspec.json.Decoder(ToInjector)


class _Lines:
    """Whole lines of a descriptor, without ever waiting."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = b""
        self.closed = False

    def read(self) -> Iterator[bytes]:
        """The lines that are there; to be called when the descriptor is readable."""
        piece = os.read(self._fd, 1 << 16)
        self.closed = not piece
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return iter(lines)


def serve(fd_in: int, fd_out: int) -> int:
    """Runs until stdin closes, the parent is gone, a signal or Quit comes; heals; returns the exit status.

    0: all is lifted. 1: something is not. 3: Toxiproxy could not be reached at the beginning.
    """
    emitter = Emitter(fd_out)
    status = _Process(fd_in, emitter).run()
    emitter.close(_FLUSH_S)
    return status


class _Process:
    def __init__(self, fd_in: int, emitter: Emitter) -> None:
        self._lines = _Lines(fd_in)
        self._emitter = emitter
        self._injector: Injector | None = None
        self._heard: deque[bytes] = deque()  # lines that came while something was waited for
        self._origin_ns = time.monotonic_ns()
        self._parent = os.getppid()
        self._ends: str | None = None  # why
        self._wake, wake_in = os.pipe()
        os.set_blocking(wake_in, False)
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(wake_in)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self._poll = select.poll()
        self._poll.register(fd_in, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._listening = select.poll()
        self._listening.register(fd_in, select.POLLIN)

    def run(self) -> int:
        while self._ends is None:
            ready = {fd for fd, _ in self._poll.poll(self._timeout_ms())}
            if self._wake in ready:
                self._ends = "signal"
            elif ready:
                self._heard.extend(self._lines.read())
                while self._heard:
                    if (failed := self._hear(self._heard.popleft())) is not None:
                        return failed
                if self._lines.closed:
                    self._ends = self._ends or "pipe closed"
            if os.getppid() != self._parent:  # a forgotten copy of the pipe may keep it open
                self._ends = self._ends or "pipe closed"
            if self._injector is not None and self._ends is None:
                self._injector.start_due()
        if self._injector is not None and self._ends == "pipe closed":
            self._injector.parent_gone()
        if self._injector is not None:
            self._injector.stop_probing()
        left = self._injector.heal(self._ends) if self._injector is not None else []
        for text in left:
            sys.stderr.write(f"{text}\n")
        return 1 if left else 0

    def _listen(self, seconds: float) -> None:
        """Wait so long for what the parent says; only what the run's users are at is acted on at once."""
        if self._is_deaf():
            time.sleep(seconds)
            return
        if self._listening.poll(seconds * 1000):
            for line in self._lines.read():
                if b'"crew_state"' in line:
                    self._hear(line)
                else:
                    self._heard.append(line)
            if self._is_deaf() and self._injector is not None:
                self._injector.parent_gone()

    def _is_deaf(self) -> bool:
        return self._lines.closed

    def _timeout_ms(self) -> int:
        next_ns = None if self._injector is None else self._injector.next_ns()
        if next_ns is None:
            return _LOOK_MS
        return max(0, min(_LOOK_MS, (next_ns - time.monotonic_ns()) // NS_PER_MS + 1))

    def _hear(self, line: bytes) -> int | None:
        """Acts on one message; an exit status when the injector cannot begin."""
        try:
            message = _decoder.decode(line)
        except msgspec.MsgspecError as error:
            self._trouble(f"a line from the parent cannot be read: {error}", to_ns=self._now_ns())
            return None
        if isinstance(message, Begin):
            return self._begin(message)
        if isinstance(message, Quit):
            self._ends = "finish"
        elif self._injector is None:
            self._trouble(f"{type(message).__name__} came before Begin", to_ns=self._now_ns())
        elif isinstance(message, Schedule):
            self._injector.plan(message.faults)
        elif isinstance(message, Go):
            self._injector.go(message.fault)
        elif isinstance(message, UserFaultState):
            self._injector.users_told(message)
        elif isinstance(message, End):
            self._injector.end(message.fault, message.by)
        elif isinstance(message, HealAll):
            self._emitter.send(Healed(left=self._injector.heal(message.by)))
        return None

    def _begin(self, begin: Begin) -> int | None:
        self._origin_ns = begin.origin_ns
        injector = Injector(begin, self._emitter, self._listen)
        try:
            ready = injector.sweep()
        except ControlError as error:
            self._trouble(f"The injector cannot begin: {error}.", to_ns=-1)
            return 3
        except OSError as error:
            self._trouble(f"The injector cannot begin: its journal cannot be used: {error.strerror}.", to_ns=-1)
            return 3
        self._injector = injector
        self._emitter.send(ready)
        return None

    def _trouble(self, what: str, *, to_ns: int) -> None:
        sys.stderr.write(f"{what}\n")
        self._emitter.record(Trouble(process="injector", from_ns=self._now_ns(), to_ns=to_ns, what=what))

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._origin_ns


def main() -> int:
    """Exit status: 0 all is lifted, 1 something is not, 2 bad arguments, 3 Toxiproxy or a journal cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.inject", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    healing = commands.add_parser("heal", help="lift what earlier runs left")
    healing.add_argument("--toxiproxy", required=True, metavar="HOST:PORT")
    healing.add_argument("--journal", nargs="*", action="extend", type=Path, default=[], metavar="PATH")
    healing.add_argument("--stack", type=Path, metavar="FOLDER", help="local stack that may restart Toxiproxy")
    arguments = parser.parse_args()
    if arguments.command is None:
        return _serve()
    try:
        done = heal(arguments.toxiproxy, arguments.journal, arguments.stack)
    except (ControlError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 3
    sys.stdout.write("".join(f"{text}\n" for text in done or ["Nothing was left to lift."]))
    return 1 if any("not lifted" in text or "Still there" in text for text in done) else 0


def _serve() -> int:
    lines = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not stand among the messages
    return serve(0, lines)


if __name__ == "__main__":
    sys.exit(main())
