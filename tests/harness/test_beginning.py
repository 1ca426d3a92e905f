"""What becomes of a run that breaks before its first user, by an error that nobody foresaw?  A real Locust each."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadtests.model.codec import Frame, decode
from loadtests.model.records import Finish, PhaseMark, Record

pytestmark = pytest.mark.prove_all
ROOT = Path(__file__).resolve().parents[2]
PROFILE = """
name = "broken"
question = "What if it breaks at its start?"

[run]
duration_s = 2
connect_s = 90

[target]
kind = "external"
redis = "127.0.0.1:1"
gateway = "127.0.0.1:1"

[[families]]
name = "patterns"
channel = "tickstock.events.patterns"
event = "pattern_detected"

[[publishers]]
name = "detector"
families = ["patterns"]
shape = { kind = "constant", rate_per_s = 10 }

[[consumers]]
name = "plain"
count = 2

[[thresholds]]
measure = "lost_defect"
at_most = 0
"""
NURSERY = """
import json, os, sys, traceback
from locust.main import main
import loadtests.drive.consume.consumer, loadtests.drive.publish.publishing, loadtests.drive.database_reader
from loadtests.harness import worker
from loadtests.harness import process
from loadtests.harness import leader
from loadtests.harness import participant
def broken(*_, **__):
    raise RuntimeError("nobody foresaw this")
def play(module, place, argv, environment, said):
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT, 0o600), 1)
    os.dup2(1, 2)
    os.environ.update(environment)
    sys.argv = ["locust", *argv]
    setattr(sys.modules["loadtests.harness." + module], place, broken)
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
process.end_forks_with_us()
pids = []
for case in json.load(sys.stdin):
    pids.append(os.fork())
    if not pids[-1]:
        status = play(**case)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]))
"""
"""Imports once what each Locust needs, which is most of what it costs, and forks one for each case."""


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A Locust that ended."""

    status: int
    said: str
    runs: list[Path]

    def records(self) -> list[Record]:
        (run,) = self.runs
        frames = decode((run / "history" / "main.tsh").read_bytes())
        return [record for frame in frames if isinstance(frame, Frame) for record in frame.records]


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


def case(folder: Path, module: str, place: str, *argv: str) -> dict[str, Any]:
    """What the nursery needs to know of a Locust in which a place of a module breaks."""
    folder.mkdir()
    profile = folder / "broken.toml"
    profile.write_text(PROFILE, encoding="utf-8")
    return {
        "module": module,
        "place": place,
        "argv": ["-f", "locustfile.py", "--headless", "--run-profile", str(profile), *argv],
        "environment": {"TICKSTORM_REPORTS": str(folder / "reports")},
        "said": str(folder / "said"),
    }


@pytest.fixture(scope="module")
def all_broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Broken]:
    """They go side by side."""
    folder, port = tmp_path_factory.mktemp("broken"), free_port()
    hosts = ("--master-bind-host", "127.0.0.1", "--master-host", "127.0.0.1")
    ports = ("--master-bind-port", port, "--master-port", port)
    places = {
        "no target": ("leader", "resolve"),
        "a history but no part": ("leader", "begin_sampling"),
        "half a part": ("participant", "Publishing"),
        "the worker alone": ("worker", "Outbox", "--processes", "1", *hosts, *ports),
    }
    cases = [case(folder / name, *words) for name, words in places.items()]
    done = subprocess.run(
        [sys.executable, "-c", NURSERY],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith(("TICKSTORM", "LOCUST"))},
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {
        name: Broken(
            status=status,
            said=(folder / name / "said").read_text(encoding="utf-8"),
            runs=sorted((folder / name / "reports").glob("2*")),
        )
        for name, status in zip(places, json.loads(done.stdout), strict=True)
    }


@pytest.mark.parametrize("name", ["a history but no part", "half a part", "the worker alone"])
def test_it_ends_at_once_as_unknown_and_says_why(all_broken: dict[str, Broken], name: str) -> None:
    found = all_broken[name]
    assert found.status == 3, found.said
    assert "RuntimeError: nobody foresaw this" in found.said
    records = found.records()
    assert [mark.phase for mark in records if isinstance(mark, PhaseMark)] == ["connect", "end"]
    (finish,) = [record for record in records if isinstance(record, Finish)]
    assert finish.reason.startswith("error: ")
    assert finish.reason.endswith("RuntimeError: nobody foresaw this")
    assert finish.at_ns < 60e9, "nobody waited for subscriptions"
    results = json.loads((found.runs[0] / "results.json").read_bytes())
    assert results["verdict"] == "UNKNOWN"
    assert any("nobody foresaw this" in reason for reason in results["reasons"]), results["reasons"]


def test_before_there_is_a_history_the_error_is_all_that_is_left(all_broken: dict[str, Broken]) -> None:
    found = all_broken["no target"]
    assert found.status == 3, found.said
    assert "RuntimeError: nobody foresaw this" in found.said
    assert found.runs == []
