"""Real servers for the injector's tests: one Toxiproxy and one Redis for all, a new link for each."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Self

import pytest
from beside import ABREAST, begun

from loadtests.inject.injector_client import InjectorHandle
from loadtests.inject.toxics import ToxiproxyServer
from loadtests.model.injectwire import Announce, Begin, Emitted, FromInjector, Go, PlannedFault
from loadtests.model.records import FaultStep
from loadtests.stack.install import ensure
from loadtests.stack.servers import Servers

NS_PER_S = 1_000_000_000
READY_S = 30.0  # an injector starts within a second, unless the machine is busy


def eventually(holds: Callable[[], object], timeout_s: float = 10.0) -> object:
    """Waits until something holds; what it holds is returned."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (value := holds()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {holds}"
        pause.wait(0.03)
    return value


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def run_server(argv: list[str], port: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    eventually(lambda: accepts(port) or process.poll() is not None)
    assert process.poll() is None, log.read_text()
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="session")
def programs() -> Servers:
    return ensure()


def run_toxiproxy(programs: Servers, folder: Path) -> tuple[str, subprocess.Popen[bytes]]:
    """Its address, and its process."""
    port = free_port()
    argv = [str(programs.toxiproxy.path), "-host", "127.0.0.1", "-port", str(port)]
    return f"127.0.0.1:{port}", run_server(argv, port, folder / "toxiproxy.log")


@pytest.fixture(scope="session")
def toxiproxy(programs: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    address, process = run_toxiproxy(programs, tmp_path_factory.mktemp("toxiproxy"))
    yield address
    end(process)


@pytest.fixture(scope="session")
def redis_port(programs: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    folder = tmp_path_factory.mktemp("redis")
    argv = [str(programs.redis.path), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = run_server(argv, port, folder / "log")
    yield port
    end(process)


class TestLink:
    """A link of its own for one test."""

    __test__ = False

    def __init__(self, server: ToxiproxyServer, upstream: int, name: str) -> None:
        self.server, self.name, self.proxy = server, name, f"tickstorm.{name}"
        server.create(self.proxy, listen="127.0.0.1:0", upstream=f"127.0.0.1:{upstream}")
        self.port = int(server.proxy(self.proxy).listen.rpartition(":")[2])

    @property
    def is_clean(self) -> bool:
        state = self.server.proxy(self.proxy)
        return state.enabled and not state.toxics

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)


class Ear:
    """Hears an injector, and answers each announcement with Go."""

    def __init__(self) -> None:
        self.heard: list[FromInjector] = []
        self.handle: InjectorHandle | None = None

    def __call__(self, message: FromInjector) -> None:
        self.heard.append(message)
        if isinstance(message, Announce) and self.handle is not None:
            self.handle.send(Go(fault=message.fault))

    @property
    def records(self) -> list[object]:
        return [message.record for message in self.heard if isinstance(message, Emitted)]

    def steps(self, fault: str) -> list[FaultStep]:
        return [record for record in self.records if isinstance(record, FaultStep) and record.name == fault]

    def told(self, fault: str) -> str:
        """What was told of it, for who wants to know why."""
        return "\n".join(f"{s.step}: {s.detail} {s.effective}" for s in self.steps(fault))

    def step(self, fault: str, *names: str) -> FaultStep | None:
        return next((step for step in self.steps(fault) if step.step in names), None)

    def names(self, fault: str) -> list[str]:
        return [step.step for step in self.steps(fault)]


class Run:
    """A running injector and its ear."""

    def __init__(self, begin: Begin, folder: Path) -> None:
        self.begin, self.ear = begin, Ear()
        self.log = folder / "injector.log"
        self.handle = self.ear.handle = InjectorHandle(begin, self.ear, self.log)
        self.handle.start()

    def now_ns(self) -> int:
        return time.monotonic_ns() - self.begin.origin_ns

    def await_step(self, fault: str, *names: str, timeout_s: float = 40.0) -> FaultStep:
        eventually(lambda: self.ear.step(fault, *names), timeout_s)
        step = self.ear.step(fault, *names)
        assert step is not None
        return step


def begin_for(
    toxiproxy: str,
    folder: Path,
    *links: TestLink,
    speaks: str = "redis",
    supervisor: str = "",
    link_probe_every_s: float = 0.0,
) -> Begin:
    return Begin(
        run="test",
        origin_ns=time.monotonic_ns(),
        toxiproxy=toxiproxy,
        proxies={link.name: link.proxy for link in links},
        upstream_kind={link.name: speaks for link in links},
        journal=str(folder / "faults.journal"),
        supervisor=supervisor,
        probe_every_s=0.05,
        link_probe_every_s=link_probe_every_s,
    )


def planned(
    link: TestLink, kind: str, *, at_ns: int, for_s: float = 0.8, direction: str = "both", **asked
) -> PlannedFault:
    return PlannedFault(
        name=asked.pop("name", "fault"),
        kind=kind,
        link=link.name,
        direction=direction,
        at_ns=at_ns,
        until_ns=at_ns + int(for_s * NS_PER_S),
        asked=asked,
    )


class Place:
    """What one test has for itself: a Toxiproxy, links, runs, a folder. All ends with it.

    An injector that starts sweeps its Toxiproxy: only tests that come one after the other may share one.
    """

    abreast = ABREAST  # so many tests go side by side

    def __init__(self, programs: Servers, redis_port: int, tmp_path: Path, toxiproxy: str = "") -> None:
        self.programs, self.redis_port, self._folder, self._toxiproxy = programs, redis_port, tmp_path, toxiproxy
        self.held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.held.close()

    @cached_property
    def toxiproxy(self) -> str:
        if self._toxiproxy:
            return self._toxiproxy
        address, process = run_toxiproxy(self.programs, self.tmp_path)
        self.held.callback(end, process)
        return address

    @cached_property
    def tmp_path(self) -> Path:
        self._folder.mkdir(exist_ok=True)
        return self._folder

    @cached_property
    def link(self) -> TestLink:
        return self.make_link()

    def make_link(self, upstream: int | None = None) -> TestLink:
        server = ToxiproxyServer(self.toxiproxy)
        link = TestLink(server, upstream or self.redis_port, f"link-{uuid.uuid4().hex[:8]}")
        self.held.callback(server.delete, link.proxy)
        return link

    def start(self, *links: TestLink, speaks: str = "redis", ready: bool = True) -> Run:
        run = Run(begin_for(self.toxiproxy, self.tmp_path, *links, speaks=speaks), self.tmp_path)
        self.held.callback(run.handle.close, 15)
        if ready:
            run.handle.wait_ready(READY_S)
        return run


@pytest.fixture
def place(programs: Servers, toxiproxy: str, redis_port: int, tmp_path: Path) -> Iterator[Place]:
    with Place(programs, redis_port, tmp_path, toxiproxy) as own:
        yield own


@pytest.fixture
def make_link(place: Place) -> Callable[..., TestLink]:
    return place.make_link


@pytest.fixture
def link(place: Place) -> TestLink:
    return place.link


@pytest.fixture
def start(place: Place) -> Callable[..., Run]:
    return place.start


@pytest.fixture(scope="module")
def make_place(
    request: pytest.FixtureRequest, programs: Servers, redis_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Place]:
    """Places with a Toxiproxy of their own, of the sort that the module names `PLACE`."""
    kind: type[Place] = getattr(request.module, "PLACE", Place)
    folder, numbers = tmp_path_factory.mktemp("places"), count()
    return lambda: kind(programs, redis_port, folder / str(next(numbers)))


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, make_place: Callable[[], Place]) -> Iterator[dict[str, Future[None]]]:
    """Of the module's tests that are played beside each other."""
    kind: type[Place] = getattr(request.module, "PLACE", Place)
    with begun(request, make_place, dir(kind), kind.abreast) as outcomes:
        yield outcomes
