"""Does a run whose target asks for tokens find its own stack, refuse bad ones, and leave the secret in no file?"""

from __future__ import annotations

from pathlib import Path

import pytest
from launching import Bench, Run, Started
from test_crew import PROFILE

from loadtests.model.records import CrewFault, FaultStep

pytestmark = pytest.mark.e2e
SECRET = "a-secret-that-no-file-may-hold-4711"
BAD_TOKEN = """
[target]
auth = "token"

[[faults]]
name = "intruders"
kind = "bad-token"
token = "expired"
share = 0.5
at_s = 2
for_s = 1.5
"""
HEAD, _, REST = PROFILE.partition("[[faults]]")
PROFILE_OF_IT = HEAD.replace("duration_s = 15", "duration_s = 8") + BAD_TOKEN + REST[REST.index("[[thresholds]]") :]


@pytest.fixture(scope="module")
def played(bench: Bench) -> tuple[Run, Started]:
    own = bench.own("tokens") | {"TICKSTORM_TOKEN_SECRET": SECRET}
    child = bench.start("run", bench.profile(PROFILE_OF_IT, "tokens"), "--workers", "2", **own)
    child.wait(150)
    return bench.run_of(child), child


def test_expired_tokens_are_refused_by_the_gateway_and_good_ones_come_back(played: tuple[Run, Started]) -> None:
    run, child = played
    steps = {step.step: step for step in run.of(FaultStep) if step.name == "intruders"}
    assert set(steps) == {"announced", "active", "proved", "lifted"}, (steps, child.said)
    proof = steps["proved"].effective
    assert proof["chosen"] == 8
    assert proof["gateway_refused"] >= 8
    assert proof["accepted"] == 0
    (crew,) = run.of(CrewFault)
    assert len(crew.consumers) == 8
    assert run.results["recovery"][0]["recovery_s"] is not None


def test_neither_secret_nor_token_is_in_any_file(played: tuple[Run, Started], bench: Bench) -> None:
    run, _ = played
    files = [path for path in bench.folder.rglob("*") if path.is_file()]
    assert any(path.name == "gateway.log" for path in files)
    assert run.folder / "results.json" in files
    holding = [str(path) for path in files if holds_it(path)]
    assert holding == []


def holds_it(path: Path) -> bool:
    data = path.read_bytes()
    return SECRET.encode() in data or b"consumer-0.1" in data


def test_a_stack_that_asks_for_none_is_refused(bench: Bench) -> None:
    child = bench.start("run", bench.profile(PROFILE_OF_IT, "refused"))
    assert child.wait(30) == 2
    assert "target.auth" in child.said
