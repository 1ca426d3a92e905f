"""Is everything healed, kept and told, whoever of us or of the servers dies?  The command itself, one moment a victim.

Four stacks, the moments side by side.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from proof.chaos_plan import SERVICES, VICTIMS

pytestmark = [pytest.mark.e2e, pytest.mark.prove_all, pytest.mark.timeout(600)]  # idle, it takes less than two minutes
ROOT = Path(__file__).resolve().parents[2]
MOMENTS = 3  # with the undisturbed run one for each stack; the command alone strikes twenty times
LINE = re.compile(r"^ *(\d+) ([a-z -]+?) +at +[\d.]+ s, (in .+?): (\w+) \((-?\d+)\): (.+): (ok|WRONG)$", re.M)


@dataclass(frozen=True, kw_only=True)
class Done:
    """The command's end."""

    status: int
    said: str
    folder: Path
    lines: list[tuple[str, ...]]  # number, victim, where, verdict, status, the rest, ok


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("chaos")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TICKSTORM", "LOCUST"))}
    ran = subprocess.run(
        [sys.executable, "-m", "loadtests.cli", "prove", "--chaos", "--moments", str(MOMENTS), "--seed", "5"],
        cwd=ROOT, env=environment | {"TMPDIR": str(folder)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    return Done(status=ran.returncode, said=ran.stdout + ran.stderr, folder=folder, lines=LINE.findall(ran.stdout))


def test_nothing_is_left_behind(done: Done) -> None:
    assert done.status == 0, done.said
    last = next(line for line in done.said.splitlines() if " moments: " in line)
    assert last.startswith(f"{MOMENTS} of {MOMENTS} moments: nothing left behind"), done.said


def test_each_victim_fell_once(done: Done) -> None:
    assert sorted(line[1] for line in done.lines) == sorted(VICTIMS[:MOMENTS]), done.said


def test_at_least_half_fell_inside_a_fault_as_the_servers_showed_it(done: Done) -> None:
    inside = [line for line in done.lines if not line[2].startswith("in no fault")]
    assert 2 * len(inside) >= MOMENTS, done.said


def test_no_verdict_is_a_pass_and_no_exit_status_says_so(done: Done) -> None:
    assert {line[3] for line in done.lines} <= {"UNKNOWN", "ABORTED", "FAIL"}
    assert "0" not in {line[4] for line in done.lines}


def test_whoever_ended_by_itself_is_named_with_its_time(done: Done) -> None:
    for victim in SERVICES.intersection(VICTIMS[:MOMENTS]):
        (rest,) = [line[5] for line in done.lines if line[1] == victim]
        assert re.search(rf"{victim} ended by SIGKILL at \d+\.\d s", rest), rest


def test_no_process_of_the_command_is_left(done: Done) -> None:
    left = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(done.folder) and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    assert not left


def test_its_folder_is_gone(done: Done) -> None:
    assert not list(done.folder.glob("tickstorm-prove-*"))
