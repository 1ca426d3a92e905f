"""Is what breaks us never blamed on the target?  Consoles, foreign set-ups, two starts at once, a stack that goes."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import texts
from launching import LOCUST, TICKSTORM, Bench, Started, until

from loadtests.model.records import Effective, PhaseMark
from loadtests.stack.local import LocalStack

pytestmark = [pytest.mark.e2e, pytest.mark.group("BLAMED")]
RARELY = pytest.mark.prove_all
SHORT = ("--set", "run.duration_s=2")


def through(shell: str, program: Sequence[str]) -> list[str]:
    """A command line that runs a program, given as "$@", inside a line of shell."""
    return ["bash", "-c", shell, "bash", *program]


def folders(bench: Bench) -> set[Path]:
    return set(bench.reports.iterdir())


def results_of(bench: Bench, before: set[Path]) -> dict[str, Any]:
    (run,) = folders(bench) - before
    found: dict[str, Any] = json.loads((run / "results.json").read_bytes())
    return found


@pytest.fixture(scope="module")
def calm(bench: Bench) -> str:
    return bench.profile(texts.CALM, "calm")


# -- consoles


@pytest.mark.parametrize(
    ("program", "argv"),
    [(TICKSTORM, ("run", "{calm}", *SHORT)),
     pytest.param(LOCUST, ("--headless", "--run-profile", "{calm}", "--run-set", "run.duration_s=2"), marks=RARELY)],
    ids=["tickstorm run", "locust"],
)  # fmt: skip
@pytest.mark.prove_all
def test_a_pass_is_a_pass_on_a_console_that_takes_nothing(
    bench: Bench, calm: str, program: list[str], argv: tuple[str, ...]
) -> None:
    before = folders(bench)
    shell = '{ "$@" | head -c 1; exit ${PIPESTATUS[0]}; } 2>/dev/full'
    words = [word.format(calm=calm) for word in argv]
    child = bench.start(*words, program=through(shell, program), PYTHONIOENCODING="ascii:strict", COLUMNS="0")
    assert child.wait(60) == 0
    assert results_of(bench, before)["verdict"] == "PASS"


# -- foreign set-ups


@pytest.mark.prove_all
def test_a_foreign_set_up_does_not_rule_a_run(bench: Bench, calm: str, tmp_path: Path) -> None:
    (tmp_path / ".locust.conf").write_text("run-time = 1s\nusers = 5\n", encoding="utf-8")
    before = folders(bench)
    proxy = "http://127.0.0.1:9"
    child = bench.start(
        "run", calm, *SHORT, HOME=str(tmp_path), LOCUST_RUN_TIME="1s", LOCUST_USERS="5", LOCUST_TAGS="x",
        LOCUST_HEADLESS="false", LOCUST_USER_CLASSES="WebSocketClient", LOCUST_SKIP_MONKEY_PATCH="1",
        http_proxy=proxy, HTTP_PROXY=proxy, ALL_PROXY=proxy, NO_PROXY="",
    )  # fmt: skip
    assert child.wait(60) == 0, child.said
    assert "LOCUST_RUN_TIME" in child.said
    results = results_of(bench, before)
    assert results["run"]["finish"] == "plan done"
    assert f"{texts.CONSUMERS}/{texts.CONSUMERS} connected" in child.said


@pytest.mark.prove_all
def test_plain_locust_heeds_it_and_the_verdict_names_it(bench: Bench, calm: str) -> None:
    child = bench.locust("--headless", "--run-profile", calm, LOCUST_RUN_TIME="6s")
    assert child.wait(60) == 4, child.said
    run = bench.run_of(child)
    assert "Locust was told run_time = 6 (environment LOCUST_RUN_TIME)" in run.results["reasons"]
    assert any("locust.run_time" in e.key for e in run.of(Effective))


@pytest.mark.prove_all
def test_without_publishers_the_load_was_not_offered(bench: Bench) -> None:
    profile = bench.profile(
        texts.CALM + '[[thresholds]]\nmeasure = "deliveries"\nat_least = 10\n'
        '[[thresholds]]\nmeasure = "delivery_rate"\nat_least = 0.9\n', "deliveries",
    )  # fmt: skip
    child = bench.locust("--headless", "--run-profile", profile, "--run-set", "run.duration_s=2", "WebSocketClient")
    assert child.wait(60) == 3, child.said
    results = bench.run_of(child).results
    assert results["reasons"][0].startswith("every kind of user took part: no publisher"), results["reasons"]
    assert "FAIL" not in {check["verdict"] for check in results["checks"]}


# -- descriptors


@pytest.mark.parametrize("limit", ["-n 120", "-Sn 120; ulimit -Hn 121"])
@pytest.mark.parametrize(
    ("program", "argv"), [(TICKSTORM, ("run", "{calm}")), (LOCUST, ("--headless", "--run-profile", "{calm}"))]
)
@pytest.mark.prove_all
def test_too_few_descriptors_are_refused_before_anything_starts(
    bench: Bench, calm: str, program: list[str], argv: tuple[str, ...], limit: str
) -> None:
    before = folders(bench)
    words = [word.format(calm=calm) for word in argv]
    child = bench.start(*words, program=through(f'ulimit {limit}; exec "$@"', program), **bench.own("few"))
    assert child.wait(60) == 2, child.said
    assert "for one process, and calm needs 142" in child.said
    assert "report" not in child.said
    assert folders(bench) == before
    assert not (bench.folder / "stacks" / "few").exists()


@pytest.mark.prove_all
def test_a_low_soft_limit_is_raised(bench: Bench, calm: str) -> None:
    argv = ("--headless", "--run-profile", calm, "--run-set", "run.duration_s=2")
    child = bench.start(*argv, program=through('ulimit -Sn 100; exec "$@"', LOCUST))
    assert child.wait(60) == 0, child.said


# -- the stack


@pytest.mark.parametrize(
    "programs",
    [pytest.param(pair, marks=RARELY) for pair in (("run", "locust"), ("run", "run"), ("locust", "locust"))],
)
def test_of_two_starts_in_the_same_instant_one_runs_and_the_other_is_refused(
    bench: Bench, calm: str, programs: tuple[str, str]
) -> None:
    own = bench.own("-".join(programs))
    quick = {
        "locust": ("--headless", "--run-profile", calm, "--run-set", "run.duration_s=2"),
        "run": ("run", calm, *SHORT),
    }
    children = [bench.start(*quick[name], program=TICKSTORM if name == "run" else LOCUST, **own) for name in programs]
    statuses = [child.wait(80) for child in children]
    assert sorted(statuses) == [0, 2], "\n".join(child.said for child in children)
    loser = children[statuses.index(2)]
    assert "is using this local stack, and two at once would spoil each other" in loser.said
    assert "Traceback" not in loser.said
    assert all(child.nothing_left(10) for child in children)
    assert LocalStack.attach(Path(own["TICKSTORM_STACK"])) is None


def gone(bench: Bench, name: str, how: str) -> tuple[Started, dict[str, Any]]:
    """A run whose stack goes in its middle."""
    own = bench.own(name)
    child = bench.start("run", bench.profile(texts.long(30), name), **own)
    run = bench.run_of(child)
    until(lambda: any(m.phase == "baseline" for m in run.of(PhaseMark, "main")), 40, child.said)
    stack = LocalStack.attach(Path(own["TICKSTORM_STACK"]))
    assert stack is not None
    if how == "brought down":
        bench.start("stack", "down", "--force", **own).wait(40)
    else:
        psutil.Process(stack.status().supervisor_pid).send_signal(signal.SIGKILL)
    status = child.wait(60)
    assert status == 3, child.said
    return child, run.results


@RARELY
@pytest.mark.parametrize("how", ["brought down", pytest.param("its supervisor killed", marks=pytest.mark.prove_all)])
def test_a_stack_that_vanishes_under_a_run_is_not_the_targets_failure(bench: Bench, how: str) -> None:
    child, results = gone(bench, how.replace(" ", "-"), how)
    assert results["verdict"] == "UNKNOWN"
    assert "the local stack vanished" in results["reasons"][0], results["reasons"]
    assert [check["name"] for check in results["checks"] if check["verdict"] == "FAIL"] == []
    assert "Traceback" not in child.said
