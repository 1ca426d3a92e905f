"""How does the harness start, hear and outlive its injector?  The parent's side, with or without gevent's patching.

Waits only on threads, events and pipes, all of which gevent makes cooperative when it has patched the process.
Start it in the process that owns the run, after Locust forked its workers: a forked copy of the pipe keeps it open.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from loadtests.inject.errors import ControlError, InjectorGone
from loadtests.inject.startup_sweep import heal
from loadtests.model.ids import NS_PER_S
from loadtests.model.injectwire import (
    Alive,
    Begin,
    Emitted,
    End,
    FromInjector,
    HealAll,
    Healed,
    PlannedFault,
    Quit,
    Ready,
    Schedule,
    ToInjector,
    not_played,
)
from loadtests.model.records import FaultStep, Note, Trouble

STARTS = 2
"""How often an injector is started: once, and once again when it died."""

SILENT_S = 5.0
"""An injector that runs says something each second; one that says nothing for so long is killed."""

STARTING_S = 20.0
"""How long one may say nothing at its start."""

_TURN_S = 0.5
_ROOT = str(Path(__file__).parents[2])
_decoder = msgspec.json.Decoder(FromInjector)
_MID_FAULT = frozenset({"announced", "active", "not in force", "proved", "not proved"})


class InjectorHandle:
    """One run's injector process. One that says nothing any more is killed, and counts as one that died.

    `on_message` is called from the reader's thread (a greenlet under gevent); it must neither raise nor wait. A restart
    sends a second Ready through it. Methods may be called from any thread or greenlet.
    """

    def __init__(self, begin: Begin, on_message: Callable[[FromInjector], None], log: Path) -> None:
        self._begin, self._on_message, self._log = begin, on_message, log
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._planned: dict[str, PlannedFault] = {}
        self._begun: set[str] = set()
        self._closing = False
        self._write_lock = threading.Lock()
        self._ready = threading.Event()
        self._healed = threading.Event()
        self._gone = threading.Event()
        self._ready_message: Ready | None = None
        self._healed_message: Healed | None = None
        self._last_trouble = ""
        self._died_ns: int | None = None
        self._reader: threading.Thread | None = None
        self._healing: HealAll | None = None  # asked, and not answered yet
        self._heard = 0  # messages of this process
        self._heard_ns = 0  # run clock
        self._cut_off = False  # we killed it
        self._over = threading.Event()

    def start(self) -> None:
        """Starts the process and says Begin. Raises OSError where it cannot be started."""
        self._spawn()
        self._reader = threading.Thread(target=self._read, name="injector", daemon=True)
        self._reader.start()
        threading.Thread(target=self._guard, name="injector guard", daemon=True).start()

    @property
    def alive(self) -> bool:
        """There is an injector, or one is being restarted."""
        return self._process is not None and not self._gone.is_set()

    @property
    def pid(self) -> int | None:
        """Process id of the injector; it is in no child list of a shell, because its session is its own."""
        return None if self._process is None else self._process.pid

    def wait_ready(self, timeout_s: float) -> Ready:
        """Waits until it has swept and reaches Toxiproxy. Raises InjectorGone, with the reason for the user."""
        deadline_ns = time.monotonic_ns() + int(timeout_s * NS_PER_S)
        while not self._ready.wait(0.05):
            if self._gone.is_set():
                raise InjectorGone(self._last_trouble or "the injector ended at once; its log says why")
            if time.monotonic_ns() > deadline_ns:
                raise InjectorGone(f"the injector was not ready within {timeout_s:g} s")
        assert self._ready_message is not None
        return self._ready_message

    def send(self, message: ToInjector) -> bool:
        """Says something to the injector; False when it is not there to hear it.

        A schedule is kept and said again to an injector that takes the place of a dead one.
        """
        if isinstance(message, Schedule):
            self._planned |= {fault.name: fault for fault in message.faults}
        elif isinstance(message, HealAll):
            self._planned.clear()
        elif isinstance(message, End):
            self._planned.pop(message.fault, None)
        return self._say(message)

    def heal_all(self, by: str, timeout_s: float) -> Healed | None:
        """Lifts everything now; None when no answer came in time: then the journal says what may be in force."""
        self._healed.clear()
        self._healed_message = None
        self._healing = asked = HealAll(by=by)  # one that takes the place of a dead one hears it, too
        said = self.send(asked) or self.alive
        answered = said and self._healed.wait(timeout_s)
        self._healing = None
        return self._healed_message if answered else None

    def close(self, timeout_s: float) -> int | None:
        """Ends it, after it has healed. Returns its exit status (0: all lifted), or None when it cannot be ended.

        One that has not ended after `timeout_s` is killed, and its journal is undone from here.
        """
        self._closing = True
        self._planned.clear()
        self._say(Quit())
        process = self._process
        if process is None:
            return None
        with self._write_lock:
            if process.stdin is not None and not process.stdin.closed:
                try:
                    process.stdin.close()
                except BrokenPipeError:
                    pass
        if self._reader is not None:
            self._reader.join(timeout_s)
            if self._reader.is_alive():
                self._cut(f"The injector had not ended {timeout_s:g} s after it was told to, and was killed.")
                self._reader.join(timeout_s)
            if self._reader.is_alive():
                return None
        return process.poll()

    def _guard(self) -> None:
        """Kills an injector that is there and says nothing.

        Turns are counted, not time: when this process itself was held up, the next turn hears what had come meanwhile.
        """
        process, heard, quiet = self._process, -1, 0
        while not self._over.wait(_TURN_S):
            if process is not self._process or heard != self._heard:
                process, heard, quiet = self._process, self._heard, 0
                continue
            quiet += 1
            limit_s = SILENT_S if heard else STARTING_S
            if quiet * _TURN_S >= limit_s:
                self._cut(f"The injector's process was there and said nothing for {limit_s:g} s: it was killed.")
                quiet = 0

    def _cut(self, why: str) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        self._cut_off = True
        self._died_ns = self._heard_ns
        self._trouble(self._heard_ns, self._now_ns(), why)
        process.kill()

    def _say(self, message: ToInjector) -> bool:
        process = self._process
        if process is None or process.stdin is None:
            return False
        line = msgspec.json.encode(message) + b"\n"
        try:
            with self._write_lock:
                process.stdin.write(line)
                process.stdin.flush()
        except (OSError, ValueError):  # ValueError: it is closed
            return False
        return True

    def _spawn(self) -> None:
        self._starts += 1
        self._heard, self._heard_ns, self._cut_off = 0, self._now_ns(), False
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "loadtests.inject"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([_ROOT, os.environ.get("PYTHONPATH", "")])},
            )
        self._say(self._begin)

    def _read(self) -> None:
        while True:
            process = self._process
            assert process is not None
            assert process.stdout is not None
            self._hear_all(process.stdout)
            status = process.wait()
            process.stdout.close()
            if self._closing or status == 3 or self._starts >= STARTS:
                break
            self._restart(status)
        if (self._cut_off or not self._closing) and status != 3:
            self._heal_myself(status)
        self._over.set()
        self._gone.set()
        self._healed.set()

    def _restart(self, status: int) -> None:
        now_ns = self._now_ns()
        if not self._cut_off:
            self._died_ns = now_ns
        self._ready.clear()
        self._tell(Note(at_ns=now_ns, text=f"The injector ended with status {status}; it is started again and sweeps."))
        self._spawn()
        ahead = []
        for name, fault in self._planned.items():
            if name in self._begun:
                continue
            if fault.at_ns > now_ns:
                ahead.append(fault)
            else:
                self._tell(not_played(fault, now_ns, "its time passed while no injector was there"))
        if ahead:
            self._say(Schedule(faults=ahead))
        if (asked := self._healing) is not None:
            self._say(asked)

    def _hear_all(self, lines: IO[bytes]) -> None:
        for line in lines:
            try:
                message = _decoder.decode(line)
            except msgspec.MsgspecError:
                continue  # cut off by its death
            self._heard, self._heard_ns = self._heard + 1, self._now_ns()
            if not isinstance(message, Alive):
                self._note(message)
                self._on_message(message)

    def _note(self, message: FromInjector) -> None:
        if isinstance(message, Ready):
            self._ready_message = message
            self._ready.set()
            if self._died_ns is not None:
                self._trouble(self._died_ns, self._now_ns(), "The injector had died; a new one has swept.")
                self._died_ns = None
        elif isinstance(message, Healed):
            self._healed_message = message
            self._healed.set()
        elif isinstance(message, Emitted):
            record = message.record
            if isinstance(record, Trouble):
                self._last_trouble = record.what
            elif isinstance(record, FaultStep) and record.step in _MID_FAULT:
                self._begun.add(record.name)

    def _heal_myself(self, status: int) -> None:
        """The last defence: no injector is left, so its journal is undone from here."""
        from_ns = self._now_ns() if self._died_ns is None else self._died_ns
        self._trouble(from_ns, -1, f"The injector ended with status {status}; no fault is injected any more.")
        supervisor = Path(self._begin.supervisor) if self._begin.supervisor else None
        try:
            done = heal(self._begin.toxiproxy, [Path(self._begin.journal)], supervisor)
        except (ControlError, OSError) as error:
            done = [f"What it left is not lifted: {error}. Run: tickstorm stack heal"]
        if self._healing is not None:
            left = [text for text in done if "not lifted" in text or "Still there" in text]
            self._healed_message = Healed(left=left)
        for text in done:
            self._tell(Note(at_ns=self._now_ns(), text=text))

    def _trouble(self, from_ns: int, to_ns: int, what: str) -> None:
        self._last_trouble = what
        self._tell(Trouble(process="injector", from_ns=from_ns, to_ns=to_ns, what=what))

    def _tell(self, record: FaultStep | Note | Trouble) -> None:
        self._on_message(Emitted(record=record))

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._begin.origin_ns
