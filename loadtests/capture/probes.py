"""How do the target's processes and servers fare while a run goes on?  `python -m loadtests.capture.probes` reads them.

A process of its own, so that it neither stalls the load generator's loop nor is stalled by it. One thread per source: a
server that hangs delays no other. It ends when its stdin closes or its parent is gone.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping

import msgspec

from loadtests.capture.readings import (
    PostgresReader,
    ProcessReader,
    Reading,
    RedisReader,
    StatsReader,
    time_health,
)
from loadtests.capture.sampler import Pids, SamplerConfig, ToProbes
from loadtests.model.ids import NS_PER_S
from loadtests.model.records import HEALTH_EVERY_S, NO_ANSWER, PathProbe, Record, Samples, Trouble
from loadtests.model.words import plain


class Probes:
    """All readers of one sampler process, each in its thread."""

    def __init__(self, config: SamplerConfig, emit: Callable[[Record], None]) -> None:
        self._config = config
        self._emit = emit
        self._over = threading.Event()
        self._pids: Mapping[str, int] = {}
        self._readers: dict[str, ProcessReader] = {}
        self._threads: list[threading.Thread] = []

    def watch(self, pids: Mapping[str, int]) -> None:
        """From now on these processes; a service that has none is not read."""
        self._pids = dict(pids)

    def start(self) -> None:
        """Begin to read. Call once."""
        config = self._config
        tasks: list[tuple[str, Callable[[], None], float]] = [("processes", self._processes, config.every_s)]
        if config.redis:
            server = RedisReader(config.redis, config.timeout_s)
            tasks.append(("redis", lambda: self._source("redis", server.read), config.every_s))
        if config.postgres and config.database and config.user:
            base = PostgresReader(
                config.postgres, database=config.database, user=config.user, timeout_s=config.timeout_s
            )
            tasks.append(("postgres", lambda: self._source("postgres", base.read), config.every_s))
        for source, address in (("gateway", config.gateway_http), ("producer", config.producer_http)):
            if address:
                tasks.append((f"{source}'s statistics", self._stats(source, address), config.every_s))
        if config.gateway_http:
            tasks.append(("health", self._health, min(config.every_s, HEALTH_EVERY_S)))
        for name, task, every_s in tasks:
            thread = threading.Thread(target=self._repeat, args=(task, every_s), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End all threads; one that waits for a server is left to its timeout."""
        self._over.set()
        for thread in self._threads:
            thread.join(0.2)

    def _repeat(self, task: Callable[[], None], every_s: float) -> None:
        """On whole multiples of the period from its start: a slow reading is followed by the next due one."""
        every_ns = max(1, round(every_s * NS_PER_S))
        start = time.monotonic_ns()
        while not self._over.is_set():
            task()
            gone = time.monotonic_ns() - start
            self._over.wait((every_ns - gone % every_ns) / NS_PER_S)

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._config.origin_ns

    def died(self, thread: str, error: str) -> None:
        """A thread ended by an error that nobody foresaw: what it read is read no more, and that is our trouble."""
        what = f"the sampler reads no more of {thread}: {plain(error)}"
        self._emit(Trouble(process="sampler", from_ns=self._now_ns(), to_ns=-1, what=what))

    def _source(self, source: str, read: Callable[[], Reading | None]) -> None:
        """A server that gives no reading was asked all the same, and that is on record."""
        at_ns = self._now_ns()
        reading = read()
        if reading is None:
            reading = {NO_ANSWER: float(self._now_ns() - at_ns)}
        self._tell(source, at_ns, reading)

    def _tell(self, source: str, at_ns: int, reading: Reading) -> None:
        self._emit(Samples(source=source, at_ns=at_ns, metric=list(reading), value=list(reading.values())))

    def _processes(self) -> None:
        for source, pid in self._pids.items():
            at_ns, reading = self._now_ns(), self._readers.setdefault(source, ProcessReader()).read(pid)
            if reading is not None:  # a process that is gone has no memory
                self._tell(source, at_ns, reading)

    def _stats(self, source: str, address: str) -> Callable[[], None]:
        reader = StatsReader(address, timeout_s=self._config.timeout_s)
        return lambda: self._source(source, reader.read)

    def _health(self) -> None:
        at_ns = self._now_ns()
        took_ns, ok, detail = time_health(self._config.gateway_http, self._config.timeout_s)
        self._emit(PathProbe(what="health", at_ns=at_ns, took_ns=took_ns, ok=ok, detail=detail))


def main() -> int:
    """The child: a SamplerConfig line, then Pids lines on stdin; records as JSON lines on stdout."""
    decoder = msgspec.json.Decoder(ToProbes)
    encoder = msgspec.json.Encoder()
    writing = threading.Lock()
    parent = os.getppid()

    def emit(record: Record) -> None:
        line = encoder.encode(record) + b"\n"
        with writing:
            try:
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
            except BrokenPipeError:
                os._exit(0)  # nobody reads any more: the parent is gone

    first = sys.stdin.buffer.readline()
    if not first:
        return 0
    config = decoder.decode(first)
    if not isinstance(config, SamplerConfig):
        print("the first line must be the configuration", file=sys.stderr)  # noqa: T201
        return 2
    probes = Probes(config, emit)
    threading.excepthook = lambda a: probes.died(
        a.thread.name if a.thread is not None else "?", f"{a.exc_type.__name__}: {a.exc_value}"
    )
    # a process that our parent forked may hold the pipe open, so its end alone does not tell that the parent is gone
    watcher = threading.Thread(target=_end_with, args=(parent,), daemon=True)
    watcher.start()
    started = False
    for line in sys.stdin.buffer:
        message = decoder.decode(line)
        if isinstance(message, Pids):
            probes.watch(message.pids)
            if not started:
                probes.start()
                started = True
    probes.stop()
    return 0


def _end_with(parent: int) -> None:
    never = threading.Event()
    while os.getppid() == parent:
        never.wait(1.0)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
