"""Does a run whose target asks for tokens find its own stack, refuse bad ones, and leave the secret in no file?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
import pytest
from launching import Bench, Run, Started, until
from test_crew import PROFILE

from loadtests.model.records import ChosenUsers, FaultStep
from loadtests.stack.folder import PASSWORDS
from loadtests.stack.passwords import kept

pytestmark = [pytest.mark.e2e, pytest.mark.group("JUDGED")]
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


@dataclass(frozen=True, kw_only=True)
class Known:
    """Passwords of the run's own stack, and all command lines while it ran."""

    words: list[str]
    command_lines: list[str]


@pytest.fixture(scope="module")
def known() -> list[Known]:
    return []


@pytest.fixture(scope="module")
def played(bench: Bench, known: list[Known]) -> tuple[Run, Started]:
    own = bench.own("tokens") | {"TICKSTORM_TOKEN_SECRET": SECRET}
    child = bench.start("run", bench.profile(PROFILE_OF_IT, "tokens"), "--workers", "2", **own)
    run = bench.run_of(child)
    found = kept(Path(own["TICKSTORM_STACK"]))
    assert found is not None
    until(lambda: run.of(FaultStep) or child.process.poll() is not None, 60, "a fault is announced, all are there")
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    known.append(Known(words=[str(word) for word in msgspec.structs.astuple(found.passwords)], command_lines=lines))
    child.wait(150)
    return run, child


@pytest.mark.prove_all
def test_expired_tokens_are_refused_by_the_gateway_and_good_ones_come_back(played: tuple[Run, Started]) -> None:
    run, child = played
    steps = {step.step: step for step in run.of(FaultStep) if step.name == "intruders"}
    assert set(steps) == {"announced", "active", "proved", "lifted"}, (steps, child.said)
    proof = steps["proved"].effective
    assert proof["chosen"] == 8
    assert proof["gateway_refused"] >= 8
    assert proof["accepted"] == 0
    (crew,) = run.of(ChosenUsers)
    assert len(crew.consumers) == 8
    assert run.results["recovery"][0]["recovery_s"] is not None


@pytest.mark.prove_all
def test_neither_secret_nor_token_is_in_any_file(played: tuple[Run, Started], bench: Bench) -> None:
    run, _ = played
    files = [path for path in bench.folder.rglob("*") if path.is_file()]
    assert any(path.name == "gateway.log" for path in files)
    assert run.folder / "results.json" in files
    holding = [str(path) for path in files if holds_it(path)]
    assert holding == []


@pytest.mark.prove_all
def test_no_password_of_the_stack_is_in_a_file_a_command_line_or_what_is_said(
    played: tuple[Run, Started], bench: Bench, known: list[Known]
) -> None:
    _, child = played
    (all_of_it,) = known
    words = [SECRET, *all_of_it.words]
    assert len(words) == 9
    assert any("toxiproxy" in line for line in all_of_it.command_lines)
    assert not [line for line in all_of_it.command_lines if any(word in line for word in words)]
    assert not [word for word in words if word in child.said]
    files = [path.read_bytes() for path in bench.folder.rglob("*") if path.is_file() and path.name != PASSWORDS]
    assert not [word for word in words if any(word.encode() in data for data in files)]


def holds_it(path: Path) -> bool:
    data = path.read_bytes()
    return SECRET.encode() in data or b"consumer-0.1" in data


def test_a_stack_that_asks_for_none_is_refused(bench: Bench) -> None:
    child = bench.start("run", bench.profile(PROFILE_OF_IT, "refused"))
    assert child.wait(30) == 2
    assert "target.auth" in child.said
