"""What runs beside what?  Sender and servers on one core, one receiver at a time on the other; each run as a figure."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.children import CLIENT_CORE, SERVER_CORE, Child, ChildError, Children
from benchmarks.figures import ClientRun
from benchmarks.obtaining import (
    HERE,
    c_program,
    certificate,
    clean,
    node_modules,
    peers_python,
    redis_benchmark,
    redis_server,
)
from benchmarks.profile_text import Load

READY_S = 10.0
CONNECT_S = 30.0
PEERS = HERE / "peers"
LOCALHOST = "127.0.0.1"


class Bench:
    """The programs of one benchmark. Everything that is started here ends with `children`."""

    def __init__(self, children: Children, *, quick: bool) -> None:
        self.children, self.quick = children, quick
        self._redis: tuple[Child, int] | None = None

    @property
    def repeats(self) -> int:
        """How often each of two that are compared runs."""
        return 1 if self.quick else 2

    @property
    def window_s(self) -> float:
        """Length of a measured window."""
        return 2.0 if self.quick else 4.0

    # -- servers

    def redis(self) -> str:
        """Address of a Redis of our own, without persistence."""
        if self._redis is None:
            port = free_port()
            command = [
                str(redis_server()),
                "--bind",
                LOCALHOST,
                "--port",
                str(port),
                "--save",
                "",
                "--appendonly",
                "no",
            ]
            command += ["--client-output-buffer-limit", "pubsub 0 0 0", "--logfile", ""]
            child = self.children.start("redis", command, core=SERVER_CORE)
            _await_port(child, port)
            self._redis = child, port
        return f"{LOCALHOST}:{self._redis[1]}"

    @contextmanager
    def sender(self, *options: str) -> Iterator[Sender]:
        """A broadcaster; ends with the block, and then knows what it sent."""
        command = [str(c_program("sender")), "--port", "0", *options]
        child = self.children.start("sender", command, core=SERVER_CORE)
        sender = Sender(child)
        try:
            line = child.line(lambda text: text.startswith("sender ready on "), READY_S)
            sender.address = line.rpartition(" ")[2]
            yield sender
        finally:
            sender.last = self.children.end(child)

    @contextmanager
    def library_sender(self, *, tls: bool, compression: bool) -> Iterator[Sender]:
        """A broadcaster by a library, which speaks TLS and permessage-deflate."""
        files = [str(path) for path in certificate()] if tls else ["-", "-"]
        command = [str(peers_python()), str(PEERS / "library_server.py"), self.redis(), *files]
        command.append("deflate" if compression else "-")
        child = self.children.start("library sender", command, core=SERVER_CORE)
        sender = Sender(child)
        try:
            line = child.line(lambda text: text.startswith("sender ready on "), READY_S)
            sender.address = line.rpartition(" ")[2]
            yield sender
        finally:
            sender.last = self.children.end(child)

    # -- receivers

    def floor(self, load: Load) -> ClientRun:
        """The C receiver; a rate of 0 is flat out."""
        return self._receive("floor", [str(c_program("floor"))], {}, load)

    def peer(self, name: str, load: Load) -> ClientRun:
        """A peer, by the name that it has in the table."""
        command, environment = peer_command(name)
        return self._receive(name, command, environment, load)

    def _receive(self, name: str, command: list[str], environment: dict[str, str], load: Load) -> ClientRun:
        connections = load.consumers
        options = ["--connections", str(connections), "--rate", str(load.rate_per_s), *load.sender_options]
        with self.sender(*options) as sender:
            host, port = sender.address.split(":")
            words = [host, port, str(connections), "1", str(self.window_s)]
            if "BENCH_LOAD" in environment:  # a locustfile takes no arguments
                environment = environment | {"BENCH_LOAD": " ".join(words)}
                command = [*command, "-u", str(connections), "-r", "100", "--host", f"http://{host}:{port}"]
            else:
                command = [command[0], *command[1:2], *words, *command[2:]]
            lines = self.children.run(
                name, command, core=CLIENT_CORE, timeout_s=CONNECT_S + self.window_s,
                environment=clean(os.environ) | environment,
            )  # fmt: skip
        return _parsed(name, lines, connections)

    def publish(self, batch: int) -> ClientRun:
        """redis-py, in pipelines of `batch`, or one by one."""
        host, port = self.redis().split(":")
        command = [str(peers_python()), str(PEERS / "redis_publish.py"), host, port, "0.5", "2", str(batch)]
        lines = self.children.run("redis-py", command, core=CLIENT_CORE, timeout_s=20)
        return _parsed("redis-py", lines, 0)

    def redis_benchmark(self, clients: int, pipeline: int) -> float:
        """Publishes per second of Redis's own benchmark, 200 bytes each."""
        program, environment = redis_benchmark()
        port = self.redis().partition(":")[2]
        count = 400_000 if self.quick else 2_000_000
        command = [str(program), "-p", port, "-c", str(clients), "-P", str(pipeline), "-n", str(count), "--csv"]
        command += ["PUBLISH", "bench.publish", "x" * 200]
        lines = self.children.run(
            "redis-benchmark", command, core=CLIENT_CORE, timeout_s=30, environment=clean(os.environ) | environment
        )
        rows = [line.split(",") for line in lines if line.startswith('"PUBLISH')]
        if not rows:
            raise ChildError("redis-benchmark printed no figure")
        return float(rows[-1][1].strip('"'))


class Sender:
    """A running broadcaster."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.address = ""
        self.last: list[str] = []

    @property
    def sent(self) -> dict[str, Any]:
        """What it wrote down at its end. Raises ChildError where it left nothing."""
        for line in reversed(self.last):
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise ChildError(f"the sender left no account: {self.child.said()}")


PYTHON_PEERS = {
    "websocket-client": ("websocket_client_gevent.py",),
    "websockets": ("websockets_asyncio.py",),
    "websockets + uvloop": ("websockets_asyncio.py", "uvloop"),
    "picows + uvloop": ("picows_uvloop.py",),
    "python-socketio": ("socketio_gevent.py",),
    "k6": ("k6_websockets.py",),
}


def peer_command(name: str) -> tuple[list[str], dict[str, str]]:
    """Program, script and what follows the load's arguments; the environment. Raises MissingError."""
    if name == "Node ws":
        return ["node", str(PEERS / "node_ws.js")], {"NODE_PATH": str(node_modules())}
    if name == "Locust SocketIOUser":
        script = str(PEERS / "locust_socketio.py")
        return [str(peers_python()), "-m", "locust", "-f", script, "--headless"], {"BENCH_LOAD": ""}
    script, *more = PYTHON_PEERS[name]
    return [str(peers_python()), str(PEERS / script), *more], {}


def _parsed(name: str, lines: list[str], connections: int) -> ClientRun:
    for line in reversed(lines):
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            break
    else:
        raise ChildError(f"{name} reported nothing")
    if connections and found["open"] != connections:
        raise ChildError(f"{name} kept {found['open']} of {connections} connections")
    if not found["messages"]:
        raise ChildError(f"{name} received nothing")
    return ClientRun(
        client=name, messages=found["messages"], seconds=found["seconds"], cpu_s=found["cpu_s"], lost=found["gaps"],
        p50_ms=found["p50_ms"], p99_ms=found["p99_ms"], rss_per_connection=found.get("rss_per_connection"),
        per_read=found["messages"] / found["reads"] if found.get("reads") else None,
    )  # fmt: skip


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _await_port(child: Child, port: int) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and child.process.poll() is None:
        with suppress(OSError), socket.create_connection((LOCALHOST, port), 0.2):
            return
        child.lines(0.05)
    raise ChildError(f"{child.name} does not listen: {child.said()}")


TICKSTORM = [sys.executable, "-m", "loadtests.cli"]


def runs_folder() -> Path:
    """Where the runs of a benchmark lie."""
    return HERE.parent / ".bench" / "runs"
