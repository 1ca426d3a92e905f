"""Does `make prove-all` fail where a proof does, and where a busy machine is taken for the target's failure?"""

from __future__ import annotations

import time
from typing import Any

import psutil
import pytest
from proving_all import PROOFS, blamed, burners, main, prove

from loadtests.model.measures import DEFAULT_LIMITS


def results(*failed: str, saturated_s: float | None = 0.0) -> dict[str, Any]:
    checks = [{"name": "repeated<=0 calm", "verdict": "PASS", "summary": "0"}]
    checks += [{"name": f"{name}<=0 calm", "verdict": "FAIL", "summary": "3"} for name in failed]
    return {"harness": {"saturated_s": saturated_s}, "checks": checks}


@pytest.mark.parametrize("measure", ["lost_defect", "lost_total", "recovery_s", "not_recovered", *DEFAULT_LIMITS])
def test_a_busy_machine_is_no_loss_no_absence_and_no_recovery(measure: str) -> None:
    assert blamed(1, results(measure)) == [f"{measure}<=0 calm: 3"]


def test_a_time_is_the_targets_only_where_we_kept_up() -> None:
    assert blamed(1, results("latency_p95_ms")) == []
    assert blamed(1, results("latency_p95_ms", saturated_s=0.5))
    assert blamed(1, results("latency_p95_ms", saturated_s=None))
    assert blamed(1, results("latency_p95_ms", "lost_defect")) == ["lost_defect<=0 calm: 3"]


def test_a_run_that_was_not_carried_out_or_aborted_is_wrong() -> None:
    assert blamed(0, results()) == blamed(3, results()) == []
    assert blamed(2, {}) == ["exit status 2"]
    assert blamed(4, {}) == ["exit status 4"]


def test_one_that_does_not_hold_fails_all_and_is_told_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert prove({"one": list, "two": list}) == 0
    assert capsys.readouterr().out.endswith("2 of 2 hold\n")
    assert prove({"one": lambda: ["a message was lost"], "two": list}) == 1
    assert capsys.readouterr().out.endswith("WRONG one: a message was lost\n1 of 2 hold\n")


def test_who_asks_for_what_is_not_there_is_told_what_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in PROOFS)


def test_burners_burn_and_end() -> None:
    with burners(2) as held:
        deadline = time.monotonic() + 30
        while not all(psutil.Process(each.pid).cpu_times().user > 0.1 for each in held):
            assert time.monotonic() < deadline
    assert len(held) == 2
    assert not any(psutil.pid_exists(each.pid) for each in held)
