"""Do floor, sender, peers and Tickstorm agree on what was sent?  Counts, never times."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks import children as children_module
from benchmarks.bench import Bench
from benchmarks.children import Child, ChildError, Children
from benchmarks.obtaining import CFLAGS, HERE, c_program
from benchmarks.ours import OwnRun, run_ours
from benchmarks.profile_text import Load

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
CONNECTIONS, RATE, SECONDS = 10, 50, 1
PATIENCE_S = 110


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the sender says that it sent, and what somebody else found."""

    sent: dict[str, Any]
    found: Any


def beside_floor(bench: Bench, *options: str) -> Told:
    """The floor reads from its first connection on until the sender has long ended."""
    with bench.sender("--connections", str(CONNECTIONS), "--seconds", str(SECONDS), *options) as sender:
        command = [str(c_program("floor")), *sender.address.split(":"), str(CONNECTIONS), "0", "3"]
        found = json.loads(bench.children.run("floor", command, core=0, timeout_s=40)[-1])
    return Told(sent=sender.sent, found=found)


def beside_tickstorm(bench: Bench, transport: str) -> Told:
    load = Load(consumers=CONNECTIONS, rate_per_s=RATE, publishers=2, streams=2, transport=transport, seconds=2.0)
    with bench.sender("--redis", bench.redis()) as sender:
        found = run_ours(bench, load, gateway=sender.address)
    return Told(sent=sender.sent, found=found)


TRIALS: dict[str, Callable[[Bench], Told]] = {
    "floor": lambda bench: beside_floor(bench, "--rate", str(RATE)),
    "joined": lambda bench: beside_floor(bench, "--rate", "500", "--batch-ms", "20"),
    "websocket": lambda bench: beside_tickstorm(bench, "websocket"),
    "socketio": lambda bench: beside_tickstorm(bench, "socketio"),
}


@pytest.fixture(scope="module")
def trials(asked: frozenset[str]) -> Iterator[dict[str, Future[Told]]]:
    """All at once, because they mostly wait; a program dies with the thread that started it, so each has its own."""
    for name in ("floor", "sender"):
        c_program(name)

    def play(name: str) -> Told:
        with Children() as children:
            return TRIALS[name](Bench(children, quick=True))

    with ThreadPoolExecutor(len(TRIALS)) as threads:
        rarely = {"socketio"} - asked
        yield {name: threads.submit(play, name) for name in TRIALS.keys() - rarely}


@needs_cc
@pytest.mark.parametrize("name", ["floor", "sender"])
def test_the_c_programs_compile_without_a_warning(name: str, tmp_path: Path) -> None:
    command = ["cc", *CFLAGS, "-Werror", "-o", str(tmp_path / name), str(HERE / f"{name}.c")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.prove_all
@needs_cc
def test_the_floor_counts_what_the_sender_sent(trials: dict[str, Future[Told]]) -> None:
    told = trials["floor"].result(PATIENCE_S)
    assert told.sent["received"] >= RATE * SECONDS
    assert told.sent["deliveries"] == told.sent["received"] * CONNECTIONS == told.found["messages"]
    assert (told.found["gaps"], told.found["repeats"], told.found["other"]) == (0, 0, CONNECTIONS)


@pytest.mark.prove_all
@needs_cc
def test_joined_messages_are_counted_one_by_one(trials: dict[str, Future[Told]]) -> None:
    told = trials["joined"].result(PATIENCE_S)
    assert told.found["messages"] == told.sent["deliveries"]
    assert told.found["gaps"] == 0
    assert told.sent["sends"] < told.sent["deliveries"] / 2


@needs_cc
@pytest.mark.parametrize("transport", ["websocket", pytest.param("socketio", marks=pytest.mark.prove_all)])
def test_tickstorm_counts_what_the_sender_sent(trials: dict[str, Future[Told]], transport: str) -> None:
    told = trials[transport].result(PATIENCE_S)
    run: OwnRun = told.found
    delivery = run.results["delivery"]
    probes = told.sent["received"] - delivery["published"]
    assert probes >= 1
    assert delivery["unique"] == delivery["published"] * CONNECTIONS
    assert told.sent["deliveries"] == delivery["unique"] + probes * CONNECTIONS
    assert (delivery["lost"]["total"], delivery["repeated"], delivery["foreign"]) == (0, 0, 0)
    assert run.run.messages > 0
    assert run.run.cpu_s > 0
    assert run.history_bytes > 0


# -- children


def test_a_program_that_fails_says_its_last_words() -> None:
    with Children() as children, pytest.raises(ChildError, match="it went wrong"):
        children.run("x", [sys.executable, "-c", "import sys; sys.exit('it went wrong')"], core=0, timeout_s=20)


def test_a_program_that_is_not_there_is_named() -> None:
    with Children() as children, pytest.raises(ChildError, match="x could not be started"):
        children.start("x", ["/nowhere/x"], core=0)


def test_no_program_outlives_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children_module, "END_S", 0.2)
    ignoring = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    with Children() as children:
        child: Child = children.start("x", [sys.executable, "-c", ignoring], core=0)
        child.line(lambda line: line == "up", 20)
    assert child.process.returncode is not None
