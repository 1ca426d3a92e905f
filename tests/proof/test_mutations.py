"""Does the proof fail when the tool is blind to one kind of lie, and name the kind?  Real runs, one kind at a time."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from mutations import MUTATIONS, NONE, VERDICTS, sitecustomize, verdicts

from loadtests.model.stackwire import Ask
from loadtests.stack.local import LocalStack

pytestmark = [pytest.mark.e2e, pytest.mark.prove_all]
ROOT = Path(__file__).resolve().parents[2]
SIDE_BY_SIDE = 2
DEADLINE_S = 240
DELIVERIES = "5000"

Proofs = dict[str, "Future[subprocess.CompletedProcess[str]]"]


@pytest.fixture(scope="module")
def proofs(asked: frozenset[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proofs]:
    """All proofs that are asked for, some at a time, each on a stack of its own: a gateway hears all of its Redis."""
    folder = tmp_path_factory.mktemp("mutations")
    free: queue.Queue[LocalStack] = queue.Queue()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        started = []
        try:
            for number in range(SIDE_BY_SIDE):
                started.append(LocalStack.up(folder / f"stack-{number}"))
                for service in ("gateway", "producer"):
                    assert started[-1].ask(Ask(do="stop", service=service)).ok
                free.put(started[-1])
            work = {name: proof for name, proof in every().items() if name in asked}
            yield {name: pool.submit(prove, name, proof, folder, free) for name, proof in work.items()}
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            for stack in started:
                stack.down()


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A section, and the text by which every child of it is changed."""

    section: str
    text: str


def every() -> dict[str, Proof]:
    """By the kind or row that it makes the tool blind to, or by the name of the test that wants it."""
    blind = "".join(VERDICTS.values())
    return {
        test_a_tool_that_sees_everything_passes.__name__: Proof(section="account", text=sitecustomize(NONE)),
        test_broken_systems_never_pass.__name__: Proof(section="verdicts", text=verdicts(NONE)),
        test_a_tool_that_is_blind_to_all_of_them_is_told_so.__name__: Proof(section="verdicts", text=verdicts(blind)),
        **{kind: Proof(section="account", text=sitecustomize(text)) for kind, text in MUTATIONS.items()},
        **{row: Proof(section="verdicts", text=verdicts(text)) for row, text in VERDICTS.items()},
    }


def prove(name: str, proof: Proof, folder: Path, free: queue.Queue[LocalStack]) -> subprocess.CompletedProcess[str]:
    """`tickstorm prove` with a tool that is changed."""
    place = folder / re.sub(r"\W+", "-", name)
    place.mkdir()
    (place / "sitecustomize.py").write_text(proof.text, encoding="utf-8")
    stack = free.get(timeout=DEADLINE_S)
    try:
        return subprocess.run(
            [sys.executable, "-m", "loadtests.cli", "prove", "--only", proof.section, "--deliveries", DELIVERIES],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(place), "TICKSTORM_STACK": str(stack.folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    finally:
        free.put(stack)


def test_a_tool_that_sees_everything_passes(proofs: Proofs) -> None:
    done = proofs[test_a_tool_that_sees_everything_passes.__name__].result()
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in MUTATIONS:
        (line,) = (text for text in done.stdout.splitlines() if text.split()[:1] == [kind])
        assert line.endswith(": ok")
        assert "planted 0" not in line, f"{kind} was not planted"


@pytest.mark.parametrize("kind", MUTATIONS)
def test_a_tool_that_is_blind_to_one_kind_fails_by_its_name(proofs: Proofs, kind: str) -> None:
    done = proofs[kind].result()
    assert done.returncode == 1, done.stdout + done.stderr
    named = done.stdout.splitlines()[-1]
    assert named.startswith("WRONG")
    assert kind in named


def test_broken_systems_never_pass(proofs: Proofs) -> None:
    done = proofs[test_broken_systems_never_pass.__name__].result()
    assert done.returncode == 0, done.stdout + done.stderr
    for row in VERDICTS:
        assert any(line.strip().startswith(row) and line.endswith(": ok") for line in done.stdout.splitlines()), row


def test_a_tool_that_is_blind_to_all_of_them_is_told_so(proofs: Proofs) -> None:
    done = proofs[test_a_tool_that_is_blind_to_all_of_them_is_told_so.__name__].result()
    assert done.returncode == 1, done.stdout + done.stderr
    named = done.stdout.splitlines()[-1]
    missing = [row for row in VERDICTS if row not in named]
    assert set(missing) <= HIDDEN, named


HIDDEN = {"four of five samples gone: health_ms"}
"""Without health probes, which another mutation takes away, there are no samples to lose."""


@pytest.mark.parametrize("row", VERDICTS)
def test_a_tool_that_is_blind_to_one_breach_fails_by_its_row(proofs: Proofs, row: str) -> None:
    done = proofs[row].result()
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("WRONG")
    assert row in done.stdout.splitlines()[-1]
