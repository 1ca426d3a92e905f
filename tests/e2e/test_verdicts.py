"""Is the blame put where it belongs?  A target that drops, and a plan that no load generator can keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import texts
from launching import Bench, Run, Started

from loadtests.model.stackwire import Ask

pytestmark = [pytest.mark.e2e, pytest.mark.group("BLAMED")]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A run and the gateway's counters around it."""

    run: Run
    child: Started
    status: int
    before: dict[str, Any]
    after: dict[str, Any]


def switch(bench: Bench, **settings: int) -> None:
    answer = bench.stack.ask(Ask(do="switch", settings={k: str(v) for k, v in settings.items()}))
    assert answer.ok, answer.error


@pytest.fixture(scope="module")
def dropping(bench: Bench) -> Judged:
    before = bench.counters()
    switch(bench, drop_every=500)
    try:
        child = bench.start("run", bench.profile(texts.CALM, "dropping"))
        status = child.wait(60)
        after = bench.counters()
    finally:
        switch(bench, drop_every=0)
    return Judged(run=bench.run_of(child), child=child, status=status, before=before, after=after)


def test_a_target_that_drops_every_500th_delivery_fails_by_exactly_its_own_count(dropping: Judged) -> None:
    assert dropping.status == 1, dropping.child.said
    results = dropping.run.results
    dropped = dropping.after["dropped_by_switch"] - dropping.before["dropped_by_switch"]
    assert dropped > 0
    assert results["verdict"] == "FAIL"
    assert results["delivery"]["lost"]["defect"] == results["delivery"]["lost"]["total"] == dropped
    assert results["delivery"]["unique"] == results["delivery"]["owed"] - dropped


def test_the_failure_names_who_lost_what(dropping: Judged) -> None:
    check = dropping.run.check("lost_defect")
    assert check["verdict"] == "FAIL"
    assert check["evidence"]
    assert dropping.run.check("repeated")["verdict"] == "PASS"


@pytest.fixture(scope="module")
def flooded(bench: Bench) -> Judged:
    before = bench.counters()
    child = bench.start("run", bench.profile(texts.FLOOD, "flood"))
    status = child.wait(90)
    return Judged(run=bench.run_of(child), child=child, status=status, before=before, after=bench.counters())


@pytest.mark.prove_all
def test_a_plan_that_nobody_can_keep_is_unknown_and_never_the_targets_fault(flooded: Judged) -> None:
    assert flooded.status == 3, flooded.child.said
    results = flooded.run.results
    assert results["verdict"] == "UNKNOWN"
    assert results["delivery"]["not_offered"] > 0
    assert "FAIL" not in {check["verdict"] for check in results["checks"]}
    assert flooded.run.check("load offered as planned")["verdict"] == "UNKNOWN"
    assert flooded.child.nothing_left()
