"""Does a suite choose what is asked for, and outlive what its profiles do?  `tickstorm` is a script here.

The script is told by the profile's name what to do; it leaves results as a run does.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import psutil
import pytest

from loadtests.cli import suite_command
from loadtests.cli.suite_command import Chosen, Step, choose, play_suite
from loadtests.harness.files import shipped_profiles
from loadtests.harness.profile_loading import load
from loadtests.model.errors import BadInput
from loadtests.model.labels import PENDING, STAGES
from loadtests.model.profile.profile import Profile
from loadtests.model.results import Check, Verdict, from_json, to_json

GOLDEN = Path(__file__).parents[1] / "golden" / "results" / "locust-quick.json"
SCRIPT = """
import os, pathlib, shutil, signal, subprocess, sys, time
command, name = sys.argv[1:3]
folder = pathlib.Path(os.environ["TICKSTORM_REPORTS"]) / (os.environ["TICKSTORM_RUN_ID"] or "series")
def leave(which):
    (folder / "history").mkdir(parents=True)
    shutil.copy(pathlib.Path(__file__).with_name(which + ".json"), folder / "results.json")
print("playing", name, flush=True)
if command == "weekly":
    print("FAIL: first_fresh p95 is 25 % worse", flush=True)
    sys.exit(1)
if name == "hangs":
    loop = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = subprocess.Popen(loop)
    pathlib.Path(__file__).with_name("pids").write_text(f"{os.getpid()} {child.pid}")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child.wait()
if name == "breaks":
    print("Traceback: it broke")
    sys.exit(3)
if name == "stops":
    signal.signal(signal.SIGINT, lambda *_: (leave("ABORTED"), os._exit(4)))
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(600)
verdict = {"fails": "FAIL", "unsure": "UNKNOWN"}.get(name, "PASS")
leave(verdict)
sys.exit({"PASS": 0, "FAIL": 1, "UNKNOWN": 3}[verdict])
"""


@pytest.fixture(scope="module")
def profiles() -> dict[str, Profile]:
    return {name: load(name).profile for name in shipped_profiles()}


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Plays these profiles; what the suite wrote, its exit status, and its JUnit file."""
    script = tmp_path / "tickstorm.py"
    script.write_text(SCRIPT, encoding="utf-8")
    golden = from_json(GOLDEN.read_bytes())
    for verdict in Verdict:
        check = Check(
            name="latency_p95_ms<=100 calm", verdict=verdict, summary=f"said {verdict}", limit=100.0, measured=3.0,
            phases=["calm"], evidence=[],
        )  # fmt: skip
        results = msgspec.structs.replace(golden, verdict=verdict, checks=[check], reasons=[f"because {verdict}"])
        (tmp_path / f"{verdict}.json").write_bytes(to_json(results))
    monkeypatch.setenv("TICKSTORM_REPORTS", str(tmp_path / "reports"))
    monkeypatch.setattr("loadtests.cli.run_command.ROOT", tmp_path)
    monkeypatch.setattr("loadtests.cli.run_command.END_S", 0.3)

    def played(*steps: Step, pending: Mapping[str, str] = {}, fail_fast: bool = False):  # type: ignore[no-untyped-def]
        chosen = Chosen(asked="--stage smoke", steps=steps, pending=pending)
        monkeypatch.setattr(suite_command, "choose", lambda *_, **__: chosen)
        folder = tmp_path / "suite"
        status = play_suite(
            ["smoke"], [], everything=False, fail_fast=fail_fast, listed=False, verbose=False, html=True,
            folder=folder, summary=tmp_path / "summary.md", as_json=False, command=(sys.executable, str(script)),
        )  # fmt: skip
        suite = json.loads((folder / "suite.json").read_bytes())
        assert suite["exit_status"] == status or status == 130
        junit = ElementTree.fromstring((folder / "junit.xml").read_text(encoding="utf-8"))
        assert "Suite --stage smoke" in (folder / "index.html").read_text(encoding="utf-8")
        return status, {one["profile"]: one for one in suite["played"]}, junit

    return played


def step(name: str, *, deadline_s: float = 60.0, gate: bool = False, category: str = "redis") -> Step:
    return Step(
        name=name, question=f"Does {name} hold?", category=category, planned_s=1.0, deadline_s=deadline_s, local=False,
        gate=gate,
    )  # fmt: skip


def tags(junit: ElementTree.Element, profile: str) -> list[str]:
    cases = [case for case in junit.iter("testcase") if case.get("classname") == f"tickstorm.{profile}"]
    return [child.tag for case in cases for child in case]


def test_all_that_pass_are_a_pass_each_with_its_time(play) -> None:  # type: ignore[no-untyped-def]
    status, played, junit = play(step("one"), step("two", category="gateway"))
    assert status == 0
    assert [one["verdict"] for one in played.values()] == ["PASS", "PASS"]
    assert [suite.get("name") for suite in junit] == ["redis", "gateway"]
    assert (junit.get("tests"), junit.get("failures"), junit.get("errors")) == ("4", "0", "0")
    assert all(float(suite.get("time", "0")) > 0 for suite in junit)
    assert (Path(os.environ["TICKSTORM_REPORTS"]) / played["one"]["run"] / "results.json").exists()


def test_a_fail_is_a_failure_and_an_unknown_is_an_error_and_neither_stops_the_others(play) -> None:  # type: ignore[no-untyped-def]
    status, played, junit = play(step("unsure"), step("fails"), step("good"))
    assert status == 1
    assert [one["verdict"] for one in played.values()] == ["UNKNOWN", "FAIL", "PASS"]
    assert tags(junit, "unsure") == ["error"]
    assert tags(junit, "fails") == ["failure"]
    assert tags(junit, "good") == []
    assert (junit.get("failures"), junit.get("errors")) == ("1", "1")
    assert play(step("unsure"), step("good"))[0] == 3


def test_one_that_hangs_is_ended_with_all_that_it_started_and_the_next_is_played(play, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    began = time.monotonic()
    status, played, junit = play(step("hangs", deadline_s=1.0), step("good"))
    assert time.monotonic() - began < 30
    assert status == 3
    assert "hung: not over after 1 s" in played["hangs"]["why"]
    assert played["good"]["verdict"] == "PASS"
    assert tags(junit, "hangs") == ["error"]
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


def test_one_that_breaks_is_an_error_with_its_last_words(play) -> None:  # type: ignore[no-untyped-def]
    status, played, junit = play(step("breaks"), step("good"))
    assert status == 3
    assert "exit status 3: Traceback: it broke" in played["breaks"]["why"]
    assert tags(junit, "breaks") == ["error"]
    assert played["good"]["verdict"] == "PASS"


def test_fail_fast_plays_none_after_the_first_that_did_not_pass(play) -> None:  # type: ignore[no-untyped-def]
    status, played, junit = play(step("fails"), step("good"), fail_fast=True)
    assert status == 1
    assert played["good"]["took_s"] is None
    assert tags(junit, "good") == ["skipped"]
    assert play(step("good"), step("one"), fail_fast=True)[0] == 0


def test_ctrl_c_lets_the_run_end_in_order_and_is_never_a_pass(play) -> None:  # type: ignore[no-untyped-def]
    status, played, junit = play(step("good"), step("stops"), step("two"))
    assert status == 4
    assert [one["verdict"] for one in played.values()] == ["PASS", "ABORTED", "UNKNOWN"]
    assert played["two"]["took_s"] is None
    assert tags(junit, "two") == ["skipped"]
    assert "error" in tags(junit, "stops")


def test_a_word_that_is_pending_is_never_a_pass(play, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    status, _, junit = play(step("good"), pending={"etf_universe": PENDING["etf_universe"]})
    assert status == 3
    assert tags(junit, "etf_universe") == ["error"]
    assert "| etf_universe | pending |" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert play(pending={"etf_universe": "x"})[0] == 3
    assert play()[0] == 3  # nothing was played


def test_the_weekly_comparison_gives_its_verdict(play) -> None:  # type: ignore[no-untyped-def]
    status, played, junit = play(step("good"), step("weekly", gate=True))
    assert status == 1
    assert played["weekly"]["checks"][0]["summary"] == "FAIL: first_fresh p95 is 25 % worse"
    assert tags(junit, "weekly") == ["failure"]


# -- what is chosen


def names(chosen: Chosen) -> list[str]:
    return [one.name for one in chosen.steps]


def test_stages_and_categories_choose(profiles: dict[str, Profile]) -> None:
    smoke = choose(["smoke"], [], everything=False, profiles=profiles)
    assert names(smoke) == ["locust-quick", "tickstock-baseline"]
    both = choose(["smoke", "integration"], ["redis_flow"], everything=False, profiles=profiles)
    assert names(both) == ["locust-quick", "first-run"]
    assert {one.category for one in both.steps} == {"redis"}
    everything = choose([], [], everything=True, profiles=profiles)
    assert set(names(everything)) == {name for name, profile in profiles.items() if profile.labels.stages}
    assert names(choose([], ["memory"], everything=False, profiles=profiles)) == ["regression", "soak"]


def test_the_resilience_stage_ends_with_the_weekly_comparison(profiles: dict[str, Profile]) -> None:
    for chosen in (
        choose(["resilience"], [], everything=False, profiles=profiles),
        choose([], [], everything=True, profiles=profiles),
    ):
        assert [one.name for one in chosen.steps if one.gate] == ["weekly"]
        assert chosen.steps[-1].gate
        assert chosen.steps[-1].deadline_s > 10 * chosen.steps[-1].planned_s
    assert not any(one.gate for one in choose([], ["resilience"], everything=False, profiles=profiles).steps)


@pytest.mark.parametrize(
    ("stages", "words", "everything", "said"),
    [
        (["smok"], [], False, 'did you mean "smoke"?'),
        ([], ["redis_flo"], False, 'did you mean "redis_flow"?'),
        ([], [], False, "found nothing to play"),
        (["smoke"], [], True, "--all: found beside"),
    ],
)
def test_what_nobody_knows_is_refused(
    profiles: dict[str, Profile], stages: list[str], words: list[str], everything: bool, said: str
) -> None:
    with pytest.raises(BadInput) as refused:
        choose(stages, words, everything=everything, profiles=profiles)
    assert said in " ".join(refused.value.problems)


def test_all_that_is_wrong_is_told_at_once(profiles: dict[str, Profile]) -> None:
    with pytest.raises(BadInput) as refused:
        choose(["a", "b"], ["c"], everything=False, profiles=profiles)
    assert len(refused.value.problems) == 3
    assert all(stage in refused.value.problems[0] for stage in STAGES)
