"""Is the proof itself sound from end to end?  The command on a stack of its own, and every way to run.

That it fails where it must is shown in tests/proof/test_mutations.py.
"""

from __future__ import annotations

import queue
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from launching import Bench as Launching
from launching import alone, until

from loadtests.stack.local import LocalStack
from proof.account import WAYS
from proof.bench import Bench
from proof.planting import Planting, planting
from proof.sections import Row

pytestmark = [pytest.mark.e2e, pytest.mark.group("PROVEN")]
DEADLINE_S = 110
ALWAYS = ("workers", "killed")
"""Ways to run of `make test`; `make prove-all` plays all."""


@pytest.fixture(scope="module")
def made() -> Planting:
    return planting(deliveries=8_000, seed=3)


@pytest.fixture(scope="module")
def ways(
    made: Planting, own: LocalStack, asked: frozenset[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[dict[str, list[Row]]]]]:
    """All ways that are asked for, two at a time, each on a stack that no other uses meanwhile."""
    folder = tmp_path_factory.mktemp("ways")
    free: queue.Queue[LocalStack] = queue.Queue()
    with alone(folder / "stack") as other, ThreadPoolExecutor(2) as pool:
        free.put(own)
        free.put(other)
        try:
            yield {way: pool.submit(go, way, made, free, folder / way) for way in WAYS if way in asked}
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def go(way: str, made: Planting, free: queue.Queue[LocalStack], folder: Path) -> dict[str, list[Row]]:
    stack = free.get(timeout=DEADLINE_S)
    try:
        services = stack.status().services
        with Bench(folder=folder, redis=services["redis"].address, toxiproxy=services["toxiproxy"].address) as proof:
            return WAYS[way](proof, made)
    finally:
        free.put(stack)


@pytest.mark.parametrize(
    "way", [way if way in ALWAYS else pytest.param(way, marks=pytest.mark.prove_all) for way in WAYS]
)
def test_the_account_is_exact_in_every_way_to_run(way: str, ways: dict[str, Future[dict[str, list[Row]]]]) -> None:
    for what, rows in ways[way].result(DEADLINE_S).items():
        wrong = [f"{row.what}: {text}" for row in rows for text in row.differences or (row.found,) if not row.equal]
        assert rows
        assert not wrong, f"{what}: {wrong}"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--only", "nonsense"], "known are account"),
        (["--deliveries", "10"], "--deliveries 10"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_bad_usage_is_refused_before_anything_starts(bench: Launching, argv: list[str], text: str) -> None:
    child = bench.start("prove", *argv)
    assert child.wait(20) == 2
    assert text in child.said
    assert "stack" not in child.said


@pytest.mark.prove_all
def test_what_it_brought_itself_is_gone_when_it_was_ended(bench: Launching) -> None:
    child = bench.start("prove", "--only", "account", "--deliveries", "5000", TICKSTORM_STACK="")
    until(lambda: "section account" in child.said, 60, f"a section began:\n{child.said}")
    until(lambda: len(child.family()) > 5, 30, f"its gateway and its run:\n{child.said}")
    child.signal(signal.SIGTERM)
    assert child.wait(60) == 128 + signal.SIGTERM
    assert child.nothing_left()
