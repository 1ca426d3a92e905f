"""How is a run started as a user of Locust would?  Master and workers apart, and the web UI; children of the bench."""

from __future__ import annotations

import json
import re
import socket
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from loadtests.model.codec import Frame, decode
from loadtests.model.ids import SLICE_NS
from loadtests.model.records import Published
from proof.asking import DIRECT
from proof.planting import Planting
from proof.running import LOCUST, ROOT, Bench, BenchProcess, Gateway, ProofError, wait_for

TOKEN_HEADER = "X-Tickstorm-Token"
BEGIN_S = 40.0
END_S = 90.0
_LOCUST = (sys.executable, "-m", LOCUST, "-f", str(ROOT / "locustfile.py"), "--only-summary")


class Apart:
    """Master and two workers, each started as its user would."""

    def __init__(self, bench: Bench, made: Planting, gateway: Gateway) -> None:
        port = str(free_port())
        self.home = bench.place("apart")
        profile = self.home / "profile.toml"
        profile.write_text(made.text(bench.target(gateway)), encoding="utf-8")
        environment = {"TICKSTORM_REPORTS": str(self.home / "reports")}
        bind = ["--master", "--expect-workers", "2", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
        at = ["--worker", "--headless", "--master-host", "127.0.0.1", "--master-port", port]
        self.master = bench.start(
            [*_LOCUST, "--headless", "--run-profile", str(profile), *bind], name="master", environment=environment
        )
        self.workers = [bench.start([*_LOCUST, *at], name="worker", environment=environment) for _ in range(2)]

    def until_halfway(self, made: Planting) -> None:
        """Wait until messages of half the plan have been published."""
        run = made.profile.run
        wanted_ns = round((run.warm_up_s + run.duration_s / 2) * 1e9)

        def halfway() -> bool:
            found = _begun(self.home / "reports")
            if found is None:
                _alive(self.master, "before its run began")
                return False
            slices = _published(found)
            return bool(slices) and (max(slices) - min(slices)) * SLICE_NS >= wanted_ns

        wait_for(halfway, BEGIN_S, f"half the plan was published; {self.master.last_words}")

    def end(self) -> Path:
        """Wait for all; the run's folder."""
        self.master.wait(END_S)
        for worker in self.workers:
            worker.wait(20)
        folder = _begun(self.home / "reports")
        if folder is None or not (folder / "results.json").exists():
            raise ProofError(f"the master left no results; {self.master.last_words}")
        return folder


def _published(run: Path) -> set[int]:
    """Slices in which anything was due, as far as the history holds them by now."""
    return {
        due
        for path in (run / "history").glob("*.tsh")
        for frame in decode(path.read_bytes())
        if isinstance(frame, Frame)
        for record in frame.records
        if isinstance(record, Published)
        for due in record.due_slice
    }


def _begun(reports: Path) -> Path | None:
    return next((path.parent for path in reports.glob("*/history")), None)


def _alive(child: BenchProcess, when: str) -> None:
    if child.process.poll() is not None:
        raise ProofError(f"it ended with {child.process.returncode} {when}; {child.last_words}")


class WebUi:
    """Locust's web UI with Tickstorm in it."""

    def __init__(self, bench: Bench, profile: str) -> None:
        home, port = bench.place("web"), free_port()
        self.reports, self.profile = home / "reports", home / "profile.toml"
        self.profile.write_text(profile, encoding="utf-8")
        self.url = f"http://127.0.0.1:{port}"
        self.child = bench.start(
            [*_LOCUST, "--web-host", "127.0.0.1", "--web-port", str(port)],
            name="web",
            environment={"TICKSTORM_REPORTS": str(self.reports), "TICKSTORM_PROFILE": str(self.profile)},
        )
        wait_for(self._up, BEGIN_S, f"the web UI is up; {self.child.said}")

    def run(self, meanwhile: Callable[[], None] | None = None) -> Path:
        """Press start, wait for the verdict; the run's folder."""
        answer = self._post("/swarm", host="", run_profile=str(self.profile), run_set="", run_seed="")
        if not answer.get("success"):
            raise ProofError(f"the start form was refused: {answer.get('message')}")
        if meanwhile is not None:
            self._until(lambda: self._live()["phase"] == "baseline" and self._live()["delivered"] > 0, "the baseline")
            meanwhile()
        self._until(lambda: self._live()["state"] == "done", "the verdict")
        folder: Path = self.reports / self._live()["run"]
        self._until(lambda: self._get("/stats/requests")["state"] in ("ready", "stopped"), "Locust has stopped")
        return folder

    def take_away_and_bring_back(self, users: int, fewer: int) -> None:
        """Change the number of users twice."""
        for count in (fewer, users):
            self._post("/swarm", host="", user_count=str(count), spawn_rate="100")
            self._until(partial(self._has_users, count), f"{count} users")

    def _has_users(self, count: int) -> bool:
        if self._live()["state"] == "done":
            raise ProofError(f"the run was over before it had {count} users; {self.child.last_words}")
        return bool(self._get("/stats/requests")["user_count"] == count)

    def _live(self) -> dict[str, Any]:
        return self._get("/tickstorm/live.json")

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        def looked() -> bool:
            _alive(self.child, f"before {what}")
            return holds()

        wait_for(looked, END_S, f"{what}; {self.child.last_words}")

    def _up(self) -> bool:
        _alive(self.child, "before the web UI was up")
        try:
            return "state" in self._get("/stats/requests")
        except (urllib.error.URLError, ConnectionError):
            return False

    def _get(self, path: str) -> dict[str, Any]:
        with DIRECT.open(self.url + path, timeout=10) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def _post(self, path: str, **form: str) -> dict[str, Any]:
        data = urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(self.url + path, data=data, headers={TOKEN_HEADER: token_of(self.child.said)})
        with DIRECT.open(request, timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found


def token_of(said: str) -> str:
    """The token in the address that a start of Locust printed. Raises ProofError."""
    found = re.findall(r"^Tickstorm: open \S+[?&]token=(\S+)$", said, re.M)
    if not found:
        raise ProofError("Locust printed no address with a token")
    return str(found[-1])


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
