"""Which figures does the store keep of a run, and which runs may not be compared?"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.measure.gateable import DEFAULT_GATED, gated, spread_value, values_of, why_unusable
from loadtests.model.measures import GATEABLE, MOST_GATED
from loadtests.model.results import Check, FaultResult, Results, Verdict
from loadtests.model.store import RunRow, lines_of, read_rows
from tests.planted_weeks import rows_of
from tests.report.sample import sample


@pytest.fixture(scope="module")
def results() -> Results:
    found = sample()
    run = msgspec.structs.replace(found.run, finish="plan done")
    fine = [c for c in found.checks if c.verdict in (Verdict.PASS, Verdict.FAIL)]
    faults = [msgspec.structs.replace(fault, proved=True) for fault in found.faults]
    return msgspec.structs.replace(found, run=run, checks=fine, faults=faults)


def test_every_figure_is_one_that_profiles_may_gate_and_survives_the_store(results: Results) -> None:
    values = values_of(results)
    assert len(values) > 5
    assert {name.partition(":")[0] for name in values} <= set(GATEABLE)
    row = next(row for row in rows_of(1) if isinstance(row, RunRow))
    kept = msgspec.structs.replace(row, values=values)
    assert read_rows(lines_of([kept]), "x").rows == (kept,)


def test_occurrences_of_a_fault_are_one_figure(results: Results) -> None:
    (back, *_) = results.recovery
    twice = [msgspec.structs.replace(back, fault=f"cut#{k}", recovery_s=float(k)) for k in (1, 2, 3)]
    value = values_of(msgspec.structs.replace(results, recovery=twice))["recovery_s:cut"]
    assert (value.value, value.of, value.n) == (2.0, [1.0, 2.0, 3.0], 3)


@given(st.lists(st.floats(0.1, 9), min_size=1, max_size=7), st.integers(0, 7))
def test_who_did_not_recover_took_longer_than_all_who_did(known: list[float], lost: int) -> None:
    value = spread_value([*known, *[None] * lost], "s", 0.1)
    assert value.n == len(known)
    if lost >= len(known):
        assert value.value is None
    elif lost:
        assert value.value is None or value.value >= sorted(known)[(len(known) - 1) // 2]


def test_the_default_is_at_most_so_many_and_a_profile_may_name_them() -> None:
    names = [f"latency_p95_ms:{k}" for k in range(20)] + ["first_fresh_p95_s:cut", "unseen_max", "recovery_s:cut"]
    assert len(DEFAULT_GATED) < MOST_GATED
    assert gated([], names) == ["first_fresh_p95_s:cut", *names[: MOST_GATED - 1]]
    assert gated(["recovery_s", "unseen_max", "growth_mb"], names) == ["recovery_s:cut", "unseen_max", "growth_mb"]


def test_a_run_in_order_may_be_compared(results: Results) -> None:
    assert why_unusable(results) == []


def condition(name: str, verdict: Verdict) -> Check:
    return Check(name=name, verdict=verdict, summary="so", limit=None, measured=None, phases=[], evidence=[])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"checks": [condition("clean coverage", Verdict.UNKNOWN)]}, "clean coverage: so"),
        ({"finish": "signal"}, "the plan was not played to its end: signal"),
        ({"finish": None}, "the history holds no finish"),
        ({"proved": False}, "fewer than three quarters of the faults"),
    ],
)
def test_our_own_trouble_and_unproved_faults_make_a_run_unusable(
    results: Results, change: dict[str, object], said: str
) -> None:
    run, faults, checks = results.run, results.faults, change.get("checks", results.checks)
    if "finish" in change:
        run = msgspec.structs.replace(run, finish=change["finish"])
    if "proved" in change:
        faults = [_unproved(fault) for fault in faults]
    spoilt = msgspec.structs.replace(results, run=run, faults=faults, checks=checks)
    assert any(said in why for why in why_unusable(spoilt)), why_unusable(spoilt)


def _unproved(fault: FaultResult) -> FaultResult:
    return msgspec.structs.replace(fault, proved=False)


def test_a_broken_limit_is_no_reason_not_to_compare(results: Results) -> None:
    limits = [
        condition("lost_defect<=0 calm", Verdict.UNKNOWN),
        condition("recovered from every fault", Verdict.UNKNOWN),
    ]
    assert why_unusable(msgspec.structs.replace(results, checks=limits)) == []
