"""Do floor, sender, peers and Tickstorm agree on what was sent?  Counts, never times."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.bench import Bench
from benchmarks.children import Child, ChildError, Children
from benchmarks.obtaining import CFLAGS, HERE, c_program
from benchmarks.ours import run_ours
from benchmarks.profile_text import Load

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
CONNECTIONS, RATE, SECONDS = 10, 50, 1


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Children() as children:
        yield Bench(children, quick=True)


@needs_cc
@pytest.mark.parametrize("name", ["floor", "sender"])
def test_the_c_programs_compile_without_a_warning(name: str, tmp_path: Path) -> None:
    command = ["cc", *CFLAGS, "-Werror", "-o", str(tmp_path / name), str(HERE / f"{name}.c")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def _floor(bench: Bench, address: str) -> dict[str, int]:
    """The floor reads from its first connection on until the sender has long ended."""
    command = [str(c_program("floor")), *address.split(":"), str(CONNECTIONS), "0", "3"]
    found: dict[str, int] = json.loads(bench.children.run("floor", command, core=0, timeout_s=20)[-1])
    return found


@needs_cc
def test_the_floor_counts_what_the_sender_sent(bench: Bench) -> None:
    options = ["--connections", str(CONNECTIONS), "--rate", str(RATE), "--seconds", str(SECONDS)]
    with bench.sender(*options) as sender:
        found = _floor(bench, sender.address)
    assert sender.sent["received"] >= RATE * SECONDS
    assert sender.sent["deliveries"] == sender.sent["received"] * CONNECTIONS == found["messages"]
    assert (found["gaps"], found["repeats"], found["other"]) == (0, 0, CONNECTIONS)


@needs_cc
def test_joined_messages_are_counted_one_by_one(bench: Bench) -> None:
    options = ["--connections", str(CONNECTIONS), "--rate", "500", "--seconds", str(SECONDS), "--batch-ms", "20"]
    with bench.sender(*options) as sender:
        found = _floor(bench, sender.address)
    assert found["messages"] == sender.sent["deliveries"]
    assert found["gaps"] == 0
    assert sender.sent["sends"] < sender.sent["deliveries"] / 2


@needs_cc
@pytest.mark.parametrize("transport", ["websocket", "socketio"])
def test_tickstorm_counts_what_the_sender_sent(bench: Bench, transport: str) -> None:
    load = Load(consumers=CONNECTIONS, rate_per_s=RATE, publishers=2, streams=2, transport=transport, seconds=2.0)
    with bench.sender("--redis", bench.redis()) as sender:
        run = run_ours(bench, load, gateway=sender.address)
    delivery = run.results["delivery"]
    probes = sender.sent["received"] - delivery["published"]
    assert probes >= 1
    assert delivery["unique"] == delivery["published"] * CONNECTIONS
    assert sender.sent["deliveries"] == delivery["unique"] + probes * CONNECTIONS
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


def test_no_program_outlives_the_benchmark() -> None:
    ignoring = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    with Children() as children:
        child: Child = children.start("x", [sys.executable, "-c", ignoring], core=0)
        child.line(lambda line: line == "up", 20)
    assert child.process.returncode is not None
