"""Is a fault lifted whoever dies, and what does a run with a fault tell?  A killed run first, then a whole one."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import pytest
import texts
from launching import Bench, Run, Started, until

from loadtests.model.records import FaultStep

pytestmark = [pytest.mark.e2e, pytest.mark.group("JUDGED")]
FRESH_CUT = texts.CUT.replace("for_s = 1\n", "for_s = 3\n").replace("duration_s = 8", "duration_s = 12")


@dataclass(frozen=True, kw_only=True)
class Killed:
    """A run whose processes were all killed while its fault was in force."""

    run: Run
    child: Started
    status: int
    in_force: list[str]


def stored(run: Run) -> list[str]:
    return [step.name for step in run.of(FaultStep) if step.step == "active"]


@pytest.fixture(scope="module")
def killed(bench: Bench) -> Killed:
    child = bench.start("run", bench.profile(FRESH_CUT, "killed"), "--workers", "2")
    run = bench.run_of(child)
    in_force = until(bench.faults, 40, f"a fault is in force:\n{child.said}")
    until(lambda: stored(run), 2, "the history holds it")
    locust = child.member(lambda line: "locustfile.py" in line and "--processes" in line)
    os.killpg(os.getpgid(locust.pid), signal.SIGKILL)  # master and workers; the injector has a session of its own
    until(lambda: not bench.faults(), 5, "Toxiproxy is healed")
    return Killed(run=run, child=child, status=child.wait(60), in_force=in_force)


def test_when_all_of_locust_is_killed_in_a_fault_it_is_lifted(killed: Killed, bench: Bench) -> None:
    assert killed.in_force == ["tickstorm.gateway-redis disabled"]
    assert bench.faults() == []
    assert killed.child.nothing_left()


def test_the_command_says_that_the_run_has_no_verdict(killed: Killed) -> None:
    assert killed.status == 3
    assert "ended without a verdict" in killed.child.said
    assert "Traceback" not in killed.child.said


def test_what_a_killed_run_stored_can_be_read_and_is_no_pass(killed: Killed, bench: Bench) -> None:
    assert stored(killed.run) == ["blink"]
    child = bench.start("analyze", str(killed.run.folder))
    assert child.wait() in (3, 4), child.said
    results = killed.run.results
    assert results["verdict"] in ("UNKNOWN", "ABORTED")
    assert results["run"]["finish"] is None
    assert results["delivery"]["published"] is None or results["delivery"]["published"] > 0


@pytest.fixture(scope="module")
def cut(killed: Killed, bench: Bench) -> tuple[Run, int, Started]:
    child = bench.start("run", bench.profile(texts.CUT, "cut"))
    status = child.wait(60)
    return bench.run_of(child), status, child


def test_the_next_run_is_clean(cut: tuple[Run, int, Started], bench: Bench) -> None:
    run, _, child = cut
    assert not [line for line in run.results["log"] if "left by an earlier run" in line]
    assert run.results["harness"]["trouble"] == []
    assert run.results["delivery"]["not_offered"] == 0
    assert bench.faults() == []
    assert child.nothing_left()


def test_a_recovery_beyond_its_limit_fails_the_run(cut: tuple[Run, int, Started]) -> None:
    run, status, child = cut
    assert status == 1, child.said
    assert run.results["verdict"] == "FAIL"
    check = run.check("recovery_s")
    assert check["verdict"] == "FAIL"
    assert check["measured"] > 0.1
    assert run.check("not_recovered")["verdict"] == "PASS"


def test_the_fault_is_proved_and_stands_where_it_acted(cut: tuple[Run, int, Started]) -> None:
    (fault,) = cut[0].results["faults"]
    assert (fault["name"], fault["kind"], fault["link"]) == ("blink", "down", "gateway-redis")
    assert fault["proved"] is True
    assert fault["lifted_by"] == "plan"
    assert fault["injected_s"] >= 2.5  # 1 s of warm-up, then 1.5 s
    assert fault["healed_s"] - fault["injected_s"] == pytest.approx(1, abs=fault["error_s"] + 0.1)
    phases = [p["phase"] for p in cut[0].results["phases"]]
    assert phases == ["connect", "warm-up", "baseline", "fault", "recovery", "baseline", "drain"]


def test_every_consumer_has_its_recovery(cut: tuple[Run, int, Started]) -> None:
    (recovery,) = cut[0].results["recovery"]
    assert recovery["recovery_s"] > 0
    assert recovery["outage_s"] > recovery["recovery_s"]
    for what in ("first_byte", "first_fresh", "steady"):
        assert recovery["consumers"][what]["not_recovered"] == 0, what
        assert recovery["consumers"][what]["max"] is not None, what
    assert len(recovery["consumers"]["distribution"]["first_fresh"]) == texts.CONSUMERS


def test_what_was_lost_is_charged_to_the_fault(cut: tuple[Run, int, Started]) -> None:
    delivery = cut[0].results["delivery"]
    lost = delivery["lost"]
    assert lost["defect"] == delivery["away"]["disconnected"] == 0
    assert lost["charged"] == lost["total"] > 0
    assert delivery["delivered"] + lost["total"] == delivery["owed"]
    assert delivery["owed"] + delivery["undecided"] + sum(delivery["away"].values()) == delivery["offered"]
    assert delivery["published"] == 4 * 10 * 9


def test_with_a_wider_limit_the_same_history_passes(cut: tuple[Run, int, Started], bench: Bench) -> None:
    child = bench.start("analyze", str(cut[0].folder), "--set", "thresholds[3].at_most=4")
    assert child.wait() == 0, child.said
    assert Run(cut[0].folder / "again").results["verdict"] == "PASS"
