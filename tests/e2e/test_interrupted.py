"""What becomes of a run that is interrupted: Ctrl-C once and twice, a worker killed, a worker that must refuse?

The runs go side by side, each on a stack of its own but the first; none plans a fault.
"""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import dataclass

import psutil
import pytest
import texts
from launching import PAGE, Bench, Run, Started, free_port, until

from loadtests.model.records import Finish, PhaseMark

pytestmark = pytest.mark.e2e
OTHER_VERSION = "import loadtests.harness.worker as w; w.VERSION = '0.0.0'; from locust.main import main; main()"
PLAN_S = 1 + 6


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run that was disturbed."""

    run: Run
    child: Started
    status: int
    took_s: float  # from the disturbance to the end of the command


def in_baseline(run: Run) -> bool:
    return any(mark.phase == "baseline" for mark in run.of(PhaseMark, "main"))


def draining(run: Run) -> bool:
    return any(mark.phase == "drain" for mark in run.of(PhaseMark, "main"))


def ended(child: Started, run: Run, since: float) -> Ended:
    status = child.wait(60)
    return Ended(run=run, child=child, status=status, took_s=time.monotonic() - since)


def kill_a_worker(child: Started) -> None:
    """The first fork of the master, which is the one whose parent is no Locust of this run; numbers tell no age."""
    locusts = {p.pid: p for p in child.family() if "--processes" in " ".join(p.cmdline())}
    (master,) = [p for p in locusts.values() if p.ppid() not in locusts]
    min((p for p in locusts.values() if p.ppid() == master.pid), key=psutil.Process.create_time).kill()


SENT = {"hung up": signal.SIGHUP, "terminated": signal.SIGTERM}
rarely = pytest.mark.prove_all
RARELY = rarely.name


@pytest.fixture(scope="module")
def disturbed(bench: Bench, asked: frozenset[str]) -> dict[str, Ended]:
    short = bench.profile(texts.long(6), "short")
    slow = bench.profile(texts.long(6, drain_s=40), "slow-drain")
    port = str(free_port())
    locust = [sys.executable, "-c", OTHER_VERSION, "-f", "locustfile.py"]
    children = {
        "worker killed": bench.start("run", short, "--workers", "2"),
        "once": bench.start("run", short, **PAGE, **bench.own("once")),
    }
    children |= {} if RARELY not in asked else {
        "twice": bench.start("run", slow, **PAGE, **bench.own("twice")),
        "hung up": bench.start("run", short, **bench.own("hung-up")),
        "terminated": bench.start("run", short, **bench.own("terminated")),
        "refused": bench.locust(
            "--headless", "--run-profile", short, "--master", "--expect-workers", "1",
            "--master-bind-host", "127.0.0.1", "--master-bind-port", port, **bench.own("refused"),
        ),
    }  # fmt: skip
    runs, since = {}, {}
    if RARELY in asked:
        stranger = bench.start("--worker", "--master-host", "127.0.0.1", "--master-port", port, program=locust)
    for name in [name for name in children if name != "refused"]:  # the first has its stack: its plan is soon over
        run = runs[name] = bench.run_of(children[name])
        until(lambda run=run: in_baseline(run), 40, f"{name}: the baseline:\n{children[name].said}")
        since[name] = time.monotonic()
        if name == "worker killed":
            kill_a_worker(children[name])
        else:
            children[name].signal(SENT.get(name, signal.SIGINT))
    if RARELY in asked:
        runs["refused"], since["refused"] = bench.run_of(children["refused"]), time.monotonic()
        until(lambda: draining(runs["twice"]), 20, "the drain of the second one")
        children["twice"].signal(signal.SIGINT)
    found = {name: ended(child, runs[name], since[name]) for name, child in children.items()}
    if RARELY in asked:
        stranger.wait(20)
    return found


@pytest.mark.parametrize("name", ["once", pytest.param("twice", marks=rarely)])
def test_ctrl_c_ends_as_aborted_with_a_report(disturbed: dict[str, Ended], name: str) -> None:
    found = disturbed[name]
    assert found.status == 4, found.child.said
    assert found.run.results["verdict"] == "ABORTED"
    assert found.run.results["run"]["finish"] == "Ctrl-C (SIGINT)"
    for file in ("report.html", "junit.xml"):
        assert (found.run.folder / file).stat().st_size > 500
    assert "Traceback" not in found.child.said


@rarely
@pytest.mark.parametrize(
    ("name", "finish"), [("hung up", "the terminal was closed (SIGHUP)"), ("terminated", "SIGTERM")]
)
def test_a_closed_terminal_and_sigterm_end_as_aborted_and_are_told_apart(
    disturbed: dict[str, Ended], name: str, finish: str
) -> None:
    found = disturbed[name]
    assert found.status == 4, found.child.said
    assert found.run.results["run"]["finish"] == finish
    assert f"the plan had not ended: {finish}" in found.child.said
    assert found.child.nothing_left()


def test_what_was_delivered_before_ctrl_c_is_accounted_for(disturbed: dict[str, Ended]) -> None:
    delivery = disturbed["once"].run.results["delivery"]
    assert delivery["published"] > 0
    assert delivery["unique"] == delivery["owed"] == delivery["published"] * texts.CONSUMERS
    assert delivery["lost"]["total"] == 0


@rarely
def test_a_second_ctrl_c_shortens_the_drain(disturbed: dict[str, Ended]) -> None:
    found = disturbed["twice"]
    (finish,) = found.run.of(Finish)
    assert not finish.drained
    assert found.took_s < 40  # the drain alone would have taken that long


@pytest.mark.parametrize(
    "name", ["once", "worker killed", *(pytest.param(name, marks=rarely) for name in ("twice", "refused"))]
)
def test_nothing_is_left_running(disturbed: dict[str, Ended], name: str) -> None:
    assert disturbed[name].child.nothing_left()


def test_a_killed_worker_makes_the_run_unknown_and_is_named(disturbed: dict[str, Ended]) -> None:
    found = disturbed["worker killed"]
    assert found.status == 3, found.child.said
    results = found.run.results
    assert results["verdict"] == "UNKNOWN"
    assert any("worker-" in line for line in results["harness"]["trouble"])
    assert any("worker-" in line for line in results["reasons"]), results["reasons"]
    assert found.took_s < PLAN_S + 15


@rarely
def test_a_worker_of_another_version_refuses_and_ends_the_run(disturbed: dict[str, Ended]) -> None:
    found = disturbed["refused"]
    assert found.status == 3, found.child.said
    assert "refused: it is Tickstorm 0.0.0" in found.run.results["run"]["finish"]
    assert found.run.results["verdict"] == "UNKNOWN"
