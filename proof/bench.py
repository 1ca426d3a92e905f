"""What does a section of the proof run on?  A lying gateway, runs, a decoy proxy; child processes with deadlines.

Starts children and reads what they leave; no child outlives the bench.  The servers are given.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from loadtests.model.errors import HarnessError
from loadtests.model.logins import Login, redis_login

ROOT = Path(__file__).resolve().parents[1]
READY_S = 15.0
END_S = 15.0
MOST_S = 300.0
_READY = "lying gateway ready on "
_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


class ProofError(HarnessError):
    """The proof could not be carried out: a child did not start, did not end, or left nothing."""


def end_with_parent() -> None:
    """For a child before it becomes its program: it is told to end when we are gone."""
    if _LIBC is not None:
        _LIBC.prctl(1, signal.SIGTERM)


def wait_for(holds: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Wait until something holds, looking every 10 ms; its value. Raises ProofError after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not (value := holds()):
        if time.monotonic() > deadline:
            raise ProofError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.01)
    return value


# A proof needs no page; `tickstorm analyze` makes the page of a run that is kept.
_NO_PAGE = {"TICKSTORM_HTML": "0"}


LOCUST = "loadtests.harness.locust_main"
"""Locust as `tickstorm run` starts it: no file of another set-up rules it."""


def _neutral(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what is meant for another Locust, and with an encoding in which we read what children say."""
    kept = {name: text for name, text in environment.items() if not name.startswith("LOCUST_")}
    return kept | {"PYTHONIOENCODING": "utf-8"}


class BenchProcess:
    """A process in a session of its own whose words go to a file."""

    def __init__(self, argv: Sequence[str], log: Path, environment: Mapping[str, str] = {}) -> None:
        self.log = log
        with log.open("wb") as said:
            self.process = subprocess.Popen(
                list(argv),
                cwd=ROOT,
                env={**_neutral(os.environ), **_NO_PAGE, **environment},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    @property
    def said(self) -> str:
        """What it wrote so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its session."""
        return self.process.pid

    def wait(self, timeout_s: float) -> int:
        """Its exit status. Raises ProofError where it does not end in time."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ProofError(f"{self.log.stem} did not end within {timeout_s:g} s; {self.last_words}") from None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end, then insist; its exit status. Safe to repeat."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._kill()
                self.process.wait()
        return self.process.returncode

    def _kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.process.kill()

    @property
    def last_words(self) -> str:
        """The end of what it said."""
        return "its last lines:\n" + "\n".join(self.said.strip().splitlines()[-8:])


class GatewayProcess(BenchProcess):
    """A lying gateway that is ready."""

    address: str  # host:port of WebSocket, Socket.IO and HTTP
    book: Path

    def __init__(self, argv: Sequence[str], log: Path, book: Path, login: Login | None) -> None:
        told = {} if login is None else {"REDIS_USER": login.user, "REDIS_PASSWORD": login.password}
        super().__init__(argv, log, told)
        self.book = book
        self.address = wait_for(self._ready, READY_S, f"the lying gateway is ready; {self.said}")

    def _ready(self) -> str:
        for line in self.said.splitlines(keepends=True):
            if line.startswith(_READY) and line.endswith("\n"):
                return line[len(_READY) :].strip()
        if self.process.poll() is not None:
            raise ProofError(f"the lying gateway ended with {self.process.returncode}; {self.last_words}")
        return ""

    def close_book(self) -> Path:
        """End it in order; the complete book. Raises ProofError where it did not end in order."""
        status = self.stop()
        if status != 0:
            raise ProofError(f"the lying gateway ended with {status}; {self.last_words}")
        return self.book


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """What a run left."""

    folder: Path  # holds history/, results.json, report.html, junit.xml, profile.toml
    results: dict[str, Any]
    exit_status: int
    said: str

    @property
    def run(self) -> str:
        """The run's id."""
        return self.folder.name


class Running(BenchProcess):
    """`tickstorm run` on its way; its reports lie in a folder of its own."""

    def __init__(self, argv: Sequence[str], log: Path, reports: Path, environment: Mapping[str, str]) -> None:
        self.reports = reports
        super().__init__(argv, log, {**environment, "TICKSTORM_REPORTS": str(reports)})

    def folder(self, timeout_s: float = 30.0) -> Path:
        """The run's folder, as soon as its history has begun."""

        def begun() -> Path | None:
            found = [p.parent for p in self.reports.glob("*/history") if any(p.iterdir())]
            if not found and self.process.poll() is not None:
                raise ProofError(f"the run ended with {self.process.returncode} before it began; {self.last_words}")
            return found[0] if found else None

        found: Path = wait_for(begun, timeout_s, f"a run began; {self.said}")
        return found

    def outcome(self, timeout_s: float = MOST_S) -> RunOutcome:
        """Wait for its end. Raises ProofError where it left no results."""
        status = self.wait(timeout_s)
        found = sorted(self.reports.glob("*/results.json"))
        if len(found) != 1:
            raise ProofError(f"the run ended with {status} and left {len(found)} results; {self.last_words}")
        results = json.loads(found[0].read_bytes())
        return RunOutcome(folder=found[0].parent, results=results, exit_status=status, said=self.said)


class Bench:
    """Servers, a folder, and the children of the sections. As a context manager it ends every child that is left."""

    def __init__(self, *, folder: Path, redis: str, toxiproxy: str) -> None:
        self.folder, self.redis, self.toxiproxy = folder, redis, toxiproxy  # addresses: host:port
        self._children: list[BenchProcess] = []
        self._number = 0

    def start_gateway(
        self, plan: Mapping[str, Any], *, name: str = "gateway", port: int = 0, redis: str | None = None
    ) -> GatewayProcess:
        """A lying gateway with this plan (lying_gateway/README.md); `redis` where not the bench's own.

        Raises ProofError where it does not get ready.
        """
        at = self.place(name)
        (at / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
        argv = [sys.executable, "-m", "lying_gateway", "--port", str(port), "--redis", redis or self.redis]
        argv += ["--plan", str(at / "plan.json"), "--book", str(at / "book.jsonl")]
        gateway = GatewayProcess(
            argv, at / "gateway.log", at / "book.jsonl", redis_login(redis or self.redis, os.environ)
        )
        self._children.append(gateway)
        return gateway

    def start_run(
        self,
        profile: str,
        *,
        name: str = "run",
        seed: int | None = None,
        workers: int = 0,
        environment: Mapping[str, str] = {},
    ) -> Running:
        """Start `tickstorm run` with the text of a profile, and do not wait."""
        at = self.place(name)
        (at / "profile.toml").write_text(profile, encoding="utf-8")
        argv = [sys.executable, "-m", "loadtests.cli", "run", str(at / "profile.toml")]
        argv += ["--workers", str(workers)] if workers else []
        argv += ["--seed", str(seed)] if seed is not None else []
        running = Running(argv, at / "run.log", at / "reports", environment)
        self._children.append(running)
        return running

    def run(
        self,
        profile: str,
        *,
        name: str = "run",
        seed: int | None = None,
        workers: int = 0,
        environment: Mapping[str, str] = {},
        timeout_s: float = MOST_S,
    ) -> RunOutcome:
        """Run the text of a profile to its end. Raises ProofError where it left no results."""
        return self.start_run(
            profile, name=name, seed=seed, workers=workers, environment=environment
        ).outcome(timeout_s)  # fmt: skip

    def start_locust(
        self, profile: str, *, users: Path, name: str, seed: int, environment: Mapping[str, str] = {}
    ) -> Running:
        """Start headless Locust itself, with one more file of user classes beside ours, and do not wait."""
        at = self.place(name)
        (at / "profile.toml").write_text(profile, encoding="utf-8")
        argv = [sys.executable, "-m", LOCUST, "-f", f"{ROOT / 'locustfile.py'},{users}", "--only-summary"]
        argv += ["--headless", "--run-profile", str(at / "profile.toml"), "--run-seed", str(seed)]
        running = Running(argv, at / "run.log", at / "reports", environment)
        self._children.append(running)
        return running

    def start(self, argv: Sequence[str], *, name: str, environment: Mapping[str, str] = {}) -> BenchProcess:
        """Start any other child (a busy loop, plain Locust); its words go to a file of the bench."""
        child = BenchProcess(argv, self.place(name) / "child.log", environment)
        self._children.append(child)
        return child

    def target(self, gateway: GatewayProcess) -> str:
        """The profile's [target] table: Redis and the lying gateway directly, no links between."""
        return (
            f'[target]\nkind = "external"\ntest_system = true\nredis = "{self.redis}"\n'
            f'gateway = "{gateway.address}"\ngateway_http = "{gateway.address}"\n'
        )

    def close(self) -> None:
        """End every child that is left, the latest first."""
        for child in reversed(self._children):
            child.stop()

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def place(self, name: str) -> Path:
        """A new folder of the bench."""
        self._number += 1
        at = self.folder / f"{self._number:02d}-{name}"
        at.mkdir(parents=True)
        return at


DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""`open(url or request, data, timeout)`: raises OSError as `urlopen` does."""


DECOY_PROXY = "tickstorm-prove-decoy"
DECOY_LINK = "decoy-redis"


def decoy_target(toxiproxy: str) -> str:
    """Lines of a profile's [target] by which the decoy is one of its links."""
    return f'toxiproxy = "{toxiproxy}"\nproxies = {{ {DECOY_LINK} = "{DECOY_PROXY}" }}\n'


@contextmanager
def decoy(toxiproxy: str, redis: str) -> Iterator[socket.socket]:
    """The proxy, with one connection of ours, which a fault there can touch. Raises ProofError."""
    _ask_toxiproxy(toxiproxy, "DELETE", f"/proxies/{DECOY_PROXY}", missing=True)
    body = {"name": DECOY_PROXY, "listen": "127.0.0.1:0", "upstream": redis, "enabled": True}
    host, _, port = str(_ask_toxiproxy(toxiproxy, "POST", "/proxies", body)["listen"]).rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5) as ours:
            yield ours
    finally:
        _ask_toxiproxy(toxiproxy, "DELETE", f"/proxies/{DECOY_PROXY}", missing=True)


def _ask_toxiproxy(
    toxiproxy: str, method: str, path: str, body: Mapping[str, Any] | None = None, *, missing: bool = False
) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{toxiproxy}{path}", data=data, method=method)
    try:
        with DIRECT.open(request, timeout=5) as answer:
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
            return found
    except urllib.error.HTTPError as error:
        if not (missing and error.code == 404):
            raise ProofError(f"Toxiproxy answered {error.code} to {method} {path}") from None
    except OSError as error:
        raise ProofError(f"Toxiproxy at {toxiproxy} does not answer: {error}") from None
    return {}
