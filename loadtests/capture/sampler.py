"""How does the harness hold its sampler process?  Starts it, tells it pids, hands records on, starts a dead one again.

The two processes exchange JSON lines: settings and pids in, readings out; the child (`probes`) ends when its stdin
closes. Works with and without gevent's patching: where that is on, the two threads are greenlets, the pipes cooperate.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from loadtests.model.errors import TickstormError
from loadtests.model.records import Note, Record, Trouble


class SamplerConfig(msgspec.Struct, frozen=True, kw_only=True, tag="begin"):
    """What is read, how often, and how its times become run-clock times. An empty address: not read."""

    origin_ns: int  # CLOCK_MONOTONIC at run-clock 0
    every_s: float = 1.0
    redis: str = ""  # host:port of the server itself, past its links
    postgres: str = ""
    database: str = ""
    user: str = ""  # its password, if any, comes from the environment: TEST_DB_PASSWORD or PGPASSWORD
    gateway_http: str = ""
    producer_http: str = ""
    timeout_s: float = 2.0  # a reading that takes longer is missing


class Pids(msgspec.Struct, frozen=True, kw_only=True, tag="pids"):
    """Process ids of the target's services now; a restarted service has another."""

    pids: dict[str, int]


ToProbes = SamplerConfig | Pids

END_S = 3.0
"""How long the process may take to end."""

RESTARTS = 3

_decoder = msgspec.json.Decoder(Record)


class Sampler:
    """One run's sampler. `pids` is asked every period, since a restarted service has another pid."""

    def __init__(
        self, config: SamplerConfig, *, pids: Callable[[], Mapping[str, int]], on_record: Callable[[Record], None]
    ) -> None:
        self._config = config
        self._pids = pids
        self._on_record = on_record
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to read; records come through `on_record` from now on."""
        self._spawn()
        for target in (self._read, self._tell):
            thread = threading.Thread(target=target, daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """End the process and wait for it; safe to repeat."""
        self._over.set()
        process = self._process
        if process is None:
            return
        _close_stdin(process)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(END_S)
        self._process = None

    @property
    def pid(self) -> int | None:
        """Of the sampler's process; None when there is none."""
        return self._process.pid if self._process is not None else None

    def _spawn(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtests.capture.probes"],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is for the load generator to answer
        )
        self._send(self._process, self._config)
        if not self._send_pids(self._process):
            self._send(self._process, Pids(pids={}))  # it begins with the servers; the next period may know the pids

    def _send(self, process: subprocess.Popen[bytes], message: SamplerConfig | Pids) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(msgspec.json.encode(message) + b"\n")
            process.stdin.flush()
        except (OSError, ValueError):
            pass  # it is dead or being closed: the reading side sees that and acts

    def _send_pids(self, process: subprocess.Popen[bytes]) -> bool:
        try:
            pids = dict(self._pids())
        except (OSError, TickstormError):
            return False  # the supervisor does not answer now: the old ones stay
        self._send(process, Pids(pids=pids))
        return True

    def _tell(self) -> None:
        while not self._over.wait(self._config.every_s):
            process = self._process
            if process is not None:
                self._send_pids(process)

    def _read(self) -> None:
        for attempt in range(RESTARTS + 1):
            process = self._process
            assert process is not None
            assert process.stdout is not None
            for line in process.stdout:
                try:
                    record = _decoder.decode(line)
                except msgspec.MsgspecError:
                    continue  # half a line of a process that was killed
                self._on_record(record)
            if self._over.is_set():
                return
            status = process.wait()
            _close_stdin(process)
            at_ns = time.monotonic_ns() - self._config.origin_ns
            again = attempt < RESTARTS
            text = f"the sampler ended by itself with status {status}"
            if again:
                self._on_record(Note(at_ns=at_ns, text=f"{text} and was started again"))
                self._spawn()
            else:
                what = f"{text}; no more samples"
                self._on_record(Trouble(process="sampler", from_ns=at_ns, to_ns=-1, what=what))
            if self._over.is_set() and self._process is not None:
                _close_stdin(self._process)  # closed while it was started: it must end as well


def _close_stdin(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        try:
            process.stdin.close()
        except OSError:
            pass  # a broken pipe: it is dead already
