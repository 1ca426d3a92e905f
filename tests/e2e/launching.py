"""How does a test run Tickstorm as its user does?  Child processes that carry a mark, so that what they leave is seen.

Nothing here waits for a time to pass: every wait has a condition and a deadline.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from loadtests.model.codec import Frame, decode
from loadtests.model.records import Record
from loadtests.model.stackwire import Ask
from loadtests.stack.local import LocalStack
from proof.account import TOKEN_HEADER as HEADER

ROOT = Path(__file__).resolve().parents[2]
MARK = "TICKSTORM_TEST_MARK"
PAGE = {"TICKSTORM_HTML": "1"}
TICKSTORM = [sys.executable, "-m", "loadtests.cli"]
LOCUST = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfile.py"), "--only-summary"]


def until(holds: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Wait until something holds; what it holds is returned."""
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while not (value := holds()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        pause.wait(0.02)
    return value


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _heed_ctrl_c() -> None:
    """Who is started in the background by a script ignores SIGINT, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def alone(folder: Path) -> Iterator[LocalStack]:
    """A stack without a gateway of its own."""
    with LocalStack.up(folder) as stack:
        for service in ("gateway", "producer"):
            assert stack.ask(Ask(do="stop", service=service)).ok
        yield stack


class Started:
    """A child process, what it says, and all that descends from it."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path = ROOT) -> None:
        self.mark = uuid.uuid4().hex
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                list(argv),
                cwd=folder,
                env={**environment, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_heed_ctrl_c,
            )

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def family(self) -> list[psutil.Process]:
        """Every living process that carries the mark, whoever its parent is by now."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get(MARK) == self.mark
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def member(self, holds: Callable[[str], bool]) -> psutil.Process:
        """The one process of the family whose command line holds."""
        found = [p for p in self.family() if holds(" ".join(p.cmdline()))]
        assert found, self.said
        return found[0]

    def wait(self, timeout_s: float = 60.0) -> int:
        """Its exit status."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s:g} s:\n{self.said}") from None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def nothing_left(self, timeout_s: float = 5.0) -> bool:
        """Whether soon nothing of it runs."""
        until(lambda: not self.family(), timeout_s, f"nothing left running: {[p.cmdline() for p in self.family()]}")
        return True

    def end(self) -> None:
        """For the end of a test, however it went."""
        for process in self.family():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(10)


class Bench:
    """The shared stack, a folder of reports, and children that use both."""

    def __init__(self, stack: LocalStack, folder: Path) -> None:
        self.stack, self.folder, self.reports = stack, folder, folder / "reports"
        self.reports.mkdir()
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("TICKSTORM", "LOCUST"))},
            "TICKSTORM_STACK": str(stack.folder),
            "TICKSTORM_REPORTS": str(self.reports),
            "TICKSTORM_HTML": "0",  # whoever looks at the page asks for it with `PAGE`
        }
        self.started: list[Started] = []

    def profile(self, text: str, name: str = "") -> str:
        """A file with this text."""
        path = self.folder / f"{name or uuid.uuid4().hex[:8]}.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    def own(self, name: str) -> dict[str, str]:
        """For a run beside others: a stack of its own, which it starts and stops itself."""
        return {"TICKSTORM_STACK": str(self.folder / "stacks" / name)}

    def start(self, *argv: str, program: Sequence[str] = TICKSTORM, folder: Path = ROOT, **environment: str) -> Started:
        """Start a command in a folder."""
        log = self.folder / f"{len(self.started):03d}.log"
        child = Started([*program, *argv], {**self.environment, **environment}, log, folder)
        self.started.append(child)
        return child

    def locust(self, *argv: str, **environment: str) -> Started:
        """Start Locust itself."""
        return self.start(*argv, program=LOCUST, **environment)

    def close(self) -> None:
        for child in self.started:
            child.end()

    # -- the stack

    def services(self) -> dict[str, tuple[int | None, str]]:
        """Who serves, to see whether a run touched it."""
        return {name: (s.pid, s.state) for name, s in self.stack.status().services.items()}

    def address(self, service: str) -> str:
        return self.stack.status().services[service].address

    def counters(self) -> dict[str, Any]:
        """The gateway's own."""
        found: dict[str, Any] = get(f"http://{self.address('gateway')}/stats")
        return found

    def faults(self) -> list[str]:
        """What is in force at Toxiproxy."""
        proxies = get(f"http://{self.address('toxiproxy')}/proxies")
        return [f"{n} disabled" for n, p in proxies.items() if not p["enabled"]] + [
            f"{n} {t['type']}" for n, p in proxies.items() for t in p["toxics"]
        ]

    # -- the runs

    def run_of(self, child: Started) -> Run:
        """The run that a child began, named in what it says."""
        found = until(lambda: self._named(child), 40, f"a run began:\n{child.said}")
        return Run(self.reports / found)

    def _named(self, child: Started) -> str:
        for word in child.said.replace(":", " ").split():
            if word[:2] == "20" and (self.reports / word / "history").is_dir():
                return word
        if child.process.poll() is not None:
            raise AssertionError(f"it ended with {child.process.returncode} before a run began:\n{child.said}")
        return ""


class Run:
    """What a run left in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def results(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "results.json").read_bytes())
        return found

    def records(self, process: str | None = None) -> list[Record]:
        """Whole frames written so far."""
        found: list[Record] = []
        for path in sorted((self.folder / "history").glob(f"{process or '*'}.tsh")):
            for frame in decode(path.read_bytes()):
                if isinstance(frame, Frame):
                    found += frame.records
        return found

    def of(self, kind: type, process: str | None = None) -> list[Any]:
        """Records of one kind."""
        return [r for r in self.records(process) if isinstance(r, kind)]

    def check(self, name: str) -> dict[str, Any]:
        """The check whose name begins so."""
        found: dict[str, Any] = next(c for c in self.results["checks"] if c["name"].startswith(name))
        return found


def get(url: str, timeout_s: float = 5.0) -> Any:
    """JSON from an address."""
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:
        return json.loads(answer.read())


def post(url: str, form: Mapping[str, str], *, token: str = "") -> Any:
    """JSON that a form is answered with."""
    request = urllib.request.Request(url, data=urllib.parse.urlencode(form).encode(), headers={HEADER: token})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{error.code}: {error.read()[:500]!r}") from None
