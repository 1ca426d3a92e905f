"""What does a week say against the weeks before it, where something is planted in them?"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.measure.gate import Rule, changes
from loadtests.measure.series import Asked, series_of, trend_of
from loadtests.model.results import Verdict
from loadtests.model.series import MeasureResult, SeriesResult, from_json, to_json
from loadtests.model.store import (
    AcceptRow,
    AnchorRow,
    DecisionRow,
    ExcludeRow,
    Row,
    RunRow,
    Value,
    history_of,
    lines_of,
    middle_of,
    read_rows,
)
from tests.planted_weeks import FRESH, HERE, LATENCY, PLAN, planted, rows_of, series_name

AT = "2026-12-01T00:00:00+00:00"

ASKED = Asked()


def judged(
    weeks: int, change: Any = lambda _: {}, *, at: int = -1, more: list[Row] | None = None, asked: Asked = ASKED
) -> SeriesResult:
    history = history_of([*rows_of(weeks, change), *(more or [])])
    return series_of(history, series_name(at % weeks), asked)


def measure(series: SeriesResult, name: str = FRESH) -> MeasureResult:
    return next(m for m in series.measures if m.name == name)


def test_a_flat_history_passes_and_says_what_it_sees() -> None:
    series = judged(12)
    assert series.verdict is Verdict.PASS
    assert series.compared == 2
    found = measure(series)
    assert found.rolling is not None
    assert len(found.rolling.weeks) == 8
    assert found.anchor is not None
    assert "this store sees +25%" in found.sentence
    assert (found.power_25 or 0) > 0.9
    assert series.family_false_a_year == pytest.approx(5.2)
    assert from_json(to_json(series)) == series


def test_a_quarter_more_is_found_and_named() -> None:
    series = judged(9, lambda week: {"factor": 1.25} if week == 8 else {})
    assert series.verdict is Verdict.FAIL
    assert measure(series).verdict is Verdict.FAIL
    assert measure(series, LATENCY).verdict is Verdict.PASS
    assert series.reasons[0].startswith(f"{FRESH}: worse: +2")


def test_less_is_told_as_better_and_gates_nothing() -> None:
    series = judged(9, lambda week: {"factor": 0.7} if week == 8 else {})
    assert series.verdict is Verdict.PASS
    assert "better" in measure(series).sentence


def test_a_measure_of_which_more_is_better_is_turned_round() -> None:
    def turned(row: Row) -> Row:
        if not isinstance(row, RunRow):
            return row
        value = row.values[LATENCY]
        more = Value(value=value.value, unit="per_s", better="more", error=1e-3, of=value.of)
        return msgspec.structs.replace(row, gated=["received_per_s"], values={"received_per_s": more})

    def scaled(row: Row, factor: float) -> Row:
        if not isinstance(row, RunRow) or row.series != series_name(8):
            return row
        value = row.values["received_per_s"]
        less = msgspec.structs.replace(value, value=(value.value or 0) * factor, of=[(value.value or 0) * factor])
        return msgspec.structs.replace(row, values={"received_per_s": less})

    rows = [turned(row) for row in rows_of(9)]
    fewer = series_of(history_of([scaled(row, 1 / 1.4) for row in rows]), series_name(8))
    more = series_of(history_of([scaled(row, 1.4) for row in rows]), series_name(8))
    assert fewer.verdict is Verdict.FAIL
    assert more.verdict is Verdict.PASS
    assert fewer.measures[0].rolling is not None
    assert fewer.measures[0].rolling.ratio < 0.8


def test_the_first_week_is_green_only_where_it_was_asked_for() -> None:
    assert judged(1).verdict is Verdict.UNKNOWN
    allowed = judged(1, asked=Asked(may_be_first=True))
    assert allowed.verdict is Verdict.PASS
    assert allowed.compared == 0
    assert allowed.reasons == ["nothing was compared: the store has no earlier week"]


def test_first_does_not_forgive_a_store_in_which_nothing_counts() -> None:
    series = judged(
        3, lambda week: {"plan": {**PLAN, "steady.hold_s": "9.0"}} if week == 2 else {}, asked=Asked(may_be_first=True)
    )
    assert series.verdict is Verdict.UNKNOWN
    assert "steady.hold_s: was 3.0, is 9.0" in series.reasons[0]


def test_another_machine_is_unknown_and_no_drift() -> None:
    other = {**HERE, "cpu": "faster"}
    change = lambda week: {"machine": other, "factor": 1.3} if week >= 15 else {}
    moved = judged(16, change)
    assert moved.verdict is Verdict.UNKNOWN
    assert "0 weeks on this machine, 15 on another: cpu: was planted, is faster" in moved.reasons[0]
    later = judged(30, change)
    assert later.verdict is Verdict.PASS
    assert not later.drift


def test_a_slower_machine_is_never_the_targets_fault() -> None:
    series = judged(9, lambda week: {"factor": 1.4, "slow": 1.3} if week == 8 else {})
    assert series.verdict is Verdict.UNKNOWN
    assert "this machine was 31% slower" in measure(series).sentence
    unharmed = judged(9, lambda week: {"slow": 1.3} if week == 8 else {})
    assert unharmed.verdict is Verdict.PASS


def test_an_accepted_week_begins_an_epoch() -> None:
    change = lambda week: {"factor": 1.4} if week >= 20 else {}
    failed = DecisionRow(series=series_name(20), at=AT, verdict=Verdict.FAIL)
    accepted = AcceptRow(series=series_name(20), at=AT, why="more work for each client")
    assert judged(22, change, more=[failed]).verdict is Verdict.FAIL
    after = judged(23, change, more=[failed, accepted])
    assert after.verdict is Verdict.PASS
    assert measure(after).rolling is not None
    assert measure(after).rolling.weeks == [series_name(20), series_name(21)]  # type: ignore[union-attr]
    itself = judged(23, change, at=20, more=[failed, accepted], asked=Asked(may_be_first=True))
    assert itself.verdict is Verdict.PASS
    assert "more work" in itself.reasons[0]


def test_failed_and_excluded_weeks_and_those_without_runs_are_in_no_baseline() -> None:
    more: list[Row] = [
        DecisionRow(series=series_name(5), at=AT, verdict=Verdict.FAIL),
        DecisionRow(series=series_name(4), at=AT, verdict=Verdict.UNKNOWN),
        ExcludeRow(series=series_name(6), at=AT, why="moved"),
    ]
    series = judged(9, lambda week: {"usable": False} if week == 7 else {}, more=more)
    rolling = measure(series).rolling
    assert rolling is not None
    assert rolling.weeks == [series_name(week) for week in range(5)]
    nothing = judged(2, lambda week: {"usable": False} if week == 0 else {})
    assert nothing.verdict is Verdict.UNKNOWN
    assert "none of the 1 earlier weeks counts" in nothing.reasons[0]


def test_slow_creep_fails_against_the_anchor_before_a_fifth_more() -> None:
    rows = rows_of(40, lambda week: {"factor": 1.01**week, "from_week": 0.01})
    for week in range(9, 40):
        found = measure(series_of(history_of(rows), series_name(week)))
        if found.verdict is Verdict.FAIL:
            break
    assert 9 < week <= 19
    assert "since 2026-W02 (the anchor)" in found.sentence
    assert found.rolling is not None
    assert found.rolling.verdict is not Verdict.FAIL
    chosen = measure(series_of(history_of([*rows, AnchorRow(series=series_name(week - 7), at=AT)]), series_name(week)))
    assert chosen.verdict is not Verdict.FAIL


def test_a_confirmation_decides() -> None:
    worse = lambda week: {"factor": 1.35, "sessions": 2} if week == 8 else {}
    assert judged(9, worse).verdict is Verdict.FAIL
    rows = rows_of(9, worse)
    healed = [
        msgspec.structs.replace(row, values={**row.values, FRESH: scaled(row.values[FRESH], 1 / 1.35)})
        if isinstance(row, RunRow) and row.session == 1
        else row
        for row in rows
    ]
    found = measure(series_of(history_of(healed), series_name(8)))
    assert found.verdict is Verdict.UNKNOWN
    assert found.sentence.startswith("worse in the first session, not in the second")
    alone = judged(9, lambda week: {"factor": 1.35} if week == 8 else {}, asked=Asked(unconfirmed=True))
    assert alone.verdict is Verdict.UNKNOWN
    assert "not confirmed" in measure(alone).sentence


def scaled(value: Value, factor: float) -> Value:
    return msgspec.structs.replace(
        value, value=(value.value or 0) * factor, of=[None if one is None else one * factor for one in value.of]
    )


def test_two_sides_in_one_session_are_compared_with_each_other() -> None:
    """Sessions that differ by 30 % do not matter then."""
    rows: list[Row] = []
    for row in rows_of(1, lambda _: {"factor": 3.0}):
        if isinstance(row, RunRow):
            other = {FRESH: scaled(row.values[FRESH], 1 / 1.4)}
            rows += [
                msgspec.structs.replace(row, side="a", run=f"a{row.run}", values=other),
                msgspec.structs.replace(row, side="b", values={FRESH: row.values[FRESH]}),
            ]
    series = series_of(history_of([*rows_of(0), *rows]), series_name(0))
    assert series.verdict is Verdict.FAIL
    same = [msgspec.structs.replace(r, values={}) if isinstance(r, RunRow) and r.side == "a" else r for r in rows]
    assert series_of(history_of(same), series_name(0)).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"verdict": Verdict.FAIL}, "run 1 is FAIL"),
        ({"usable": False}, "0 of 3 runs can be used, 3 are needed"),
        ({"runs": 2}, "2 of 2 runs can be used"),
        ({"verdict": Verdict.UNKNOWN}, "the limits of 3 runs are UNKNOWN"),
    ],
)
def test_what_else_is_not_green(change: dict[str, Any], said: str) -> None:
    series = judged(9, lambda week: change if week == 8 else {})
    assert series.verdict is (Verdict.FAIL if change.get("verdict") is Verdict.FAIL else Verdict.UNKNOWN)
    assert any(said in reason for reason in series.reasons), series.reasons


def test_a_figure_that_is_missing_in_a_run_is_unknown() -> None:
    rows = rows_of(9)
    last = rows[-1]
    assert isinstance(last, RunRow)
    gone = msgspec.structs.replace(last, values={LATENCY: last.values[LATENCY]})
    found = measure(series_of(history_of([*rows[:-1], gone]), series_name(8)))
    assert found.verdict is Verdict.UNKNOWN
    assert found.sentence.startswith("missing in 1 of 3 runs")


def test_a_measure_that_a_profile_asks_for_and_nobody_has_is_unknown() -> None:
    series = judged(9, lambda _: {"gated": [FRESH, "growth_mb"]})
    assert series.verdict is Verdict.UNKNOWN
    assert measure(series, "growth_mb").verdict is Verdict.UNKNOWN


def with_value(history: list[Row], of: Any, *, error: float = 0.002, name: str = FRESH) -> list[Row]:
    """Each run with one figure: `of(run)` gives its occurrences, and None leaves it as it is."""

    def one(row: Row) -> Row:
        if not isinstance(row, RunRow) or (found := of(row)) is None:
            return row
        value = Value(value=middle_of(found), unit="s", error=error, n=len(found), of=found)
        return msgspec.structs.replace(row, values={name: value})

    return [one(row) for row in history]


def judged_rows(rows: list[Row], at: int = 8, asked: Asked = ASKED) -> SeriesResult:
    return series_of(history_of(rows), series_name(at), asked)


def near_zero(
    now: float, before: float = 0.003, *, error: float = 0.002, change: Any = lambda _: {}, weeks: int = 9, **more: Any
) -> list[Row]:
    last = series_name(weeks - 1)
    return with_value(rows_of(weeks, change), lambda row: [now if row.series == last else before], error=error, **more)


@pytest.mark.parametrize(
    ("now", "before", "error", "verdict"),
    [
        (0.05, 0.003, 0.002, Verdict.FAIL),
        (0.004, 0.003, 0.002, Verdict.UNKNOWN),  # 25 % more is not excluded by an error of 67 %
        (21.7, 10.0, 10.0, Verdict.UNKNOWN),  # 117 % worse
        (1.0, 1.0, 1e11, Verdict.UNKNOWN),
        (0.01, 0.4, 0.02, Verdict.PASS),  # far better: worse by a quarter is excluded
        (0.0, 0.003, 0.002, Verdict.UNKNOWN),
        (0.003, 0.0, 0.002, Verdict.UNKNOWN),
    ],
)
def test_near_its_error_a_figure_passes_only_where_the_size_to_be_found_is_excluded(
    now: float, before: float, error: float, verdict: Verdict
) -> None:
    found = measure(judged_rows(near_zero(now, before, error=error)))
    assert found.verdict is verdict, found.sentence
    assert "threshold" in found.sentence or verdict is not Verdict.UNKNOWN


def test_one_run_of_which_the_error_is_large_hides_nothing() -> None:
    rows = with_value(rows_of(9, lambda week: {"factor": 1.6} if week == 8 else {}), lambda _: None)
    last = next(row for row in rows if isinstance(row, RunRow) and row.series == series_name(8))
    spoilt = msgspec.structs.replace(last.values[FRESH], error=1e11)
    changed = msgspec.structs.replace(last, values={**last.values, FRESH: spoilt})
    found = measure(judged_rows([changed if row is last else row for row in rows]))
    assert found.verdict is Verdict.FAIL, found.sentence


def test_by_difference_too_a_second_session_a_budget_the_anchor_and_the_machine_count() -> None:
    two = lambda week: {"sessions": 2} if week == 8 else {}
    bad = lambda row: [0.05 if row.series == series_name(8) and row.session == 0 else 0.003]
    found = measure(judged_rows(with_value(rows_of(9, two), bad)))
    assert (found.verdict, found.sentence[:23]) == (Verdict.UNKNOWN, "worse in the first sess")
    found = measure(judged_rows(near_zero(0.05, change=two)))
    assert found.verdict is Verdict.FAIL
    found = measure(judged_rows(near_zero(0.05), asked=Asked(unconfirmed=True)))
    assert (found.verdict, "not confirmed" in found.sentence) == (Verdict.UNKNOWN, True)
    found = measure(judged_rows(near_zero(0.05, change=lambda week: {"slow": 1.3} if week == 8 else {})))
    assert (found.verdict, "slower" in found.sentence) == (Verdict.UNKNOWN, True)
    creep = with_value(rows_of(20), lambda row: [0.003 + 0.001 * int(row.series[1:])])
    found = measure(judged_rows(creep, 19))
    assert (found.verdict, "(the anchor)" in found.sentence) == (Verdict.FAIL, True)
    assert found.rolling is not None
    assert found.rolling.verdict is not Verdict.FAIL


@pytest.mark.parametrize("usable", [0, 1])
def test_a_confirmation_without_usable_runs_confirms_nothing(usable: int) -> None:
    rows = [
        msgspec.structs.replace(row, usable=row.session == 0 or row.index < 3 + usable)
        if isinstance(row, RunRow)
        else row
        for row in rows_of(9, lambda week: {"factor": 1.4, "sessions": 2} if week == 8 else {})
    ]
    found = measure(judged_rows(rows))
    assert found.verdict is Verdict.UNKNOWN
    assert f"not confirmed in a second session: {usable} of 3 runs of one can be used" in found.sentence
    swapped = [
        msgspec.structs.replace(row, session=1 - row.session)
        if isinstance(row, RunRow) and row.series == series_name(8)
        else row
        for row in rows
    ]
    assert measure(judged_rows(swapped)).verdict is Verdict.UNKNOWN


def test_what_the_budget_forbade_to_confirm_stays_so_in_the_store() -> None:
    worse = lambda week: {"factor": 1.4} if week == 8 else {}
    told = DecisionRow(series=series_name(8), at=AT, verdict=Verdict.UNKNOWN, unconfirmed=True)
    assert judged(9, worse).verdict is Verdict.FAIL
    assert judged(9, worse, more=[told]).verdict is Verdict.UNKNOWN


def test_a_machine_slower_than_in_the_anchors_weeks_fails_nothing_against_them() -> None:
    def creep(week: int) -> dict[str, Any]:
        slow = 1.0 if week < 8 else 1.3
        return {"factor": 1.012**week, "from_week": 0.005, "slow": slow}

    found = measure(judged(22, creep))
    assert found.verdict is Verdict.UNKNOWN
    assert "(the anchor); but this machine was 3" in found.sentence
    even = measure(judged(22, lambda week: {**creep(week), "slow": 1.0}))
    assert even.verdict is Verdict.FAIL


SLOW_LATENCY, LOST = "latency_p95_ms<=100 calm: 140 ms", "lost_defect<=0 all: 3"


@pytest.mark.parametrize(
    ("checks", "usable", "slow", "verdict"),
    [
        ([SLOW_LATENCY], False, 1.0, Verdict.UNKNOWN),
        ([SLOW_LATENCY], True, 1.3, Verdict.UNKNOWN),
        ([SLOW_LATENCY], True, 1.0, Verdict.FAIL),
        ([LOST], False, 1.0, Verdict.FAIL),
        ([LOST, SLOW_LATENCY], True, 1.3, Verdict.FAIL),
        (["recovered from every fault: not from one"], False, 1.3, Verdict.FAIL),
        ([], False, 1.3, Verdict.FAIL),
    ],
)
def test_limits_of_time_say_nothing_where_the_machine_was_slow_or_the_run_cannot_be_used(
    checks: list[str], usable: bool, slow: float, verdict: Verdict
) -> None:
    rows = rows_of(9, lambda week: {"runs": 4, "slow": slow} if week == 8 else {})
    last = rows[-1]
    assert isinstance(last, RunRow)
    broken = msgspec.structs.replace(last, usable=usable, verdict=Verdict.FAIL, checks=checks)
    series = judged_rows([*rows[:-1], broken])
    assert series.verdict is verdict, series.reasons
    assert series.runs[-1].verdict is verdict
    told_apart = msgspec.structs.replace(broken, broken=checks, checks=[*checks, f"{LOST}: unknown"])
    assert not checks or judged_rows([*rows[:-1], told_apart]).verdict is verdict


def test_which_way_is_better_is_no_rows_to_say() -> None:
    rows = [
        msgspec.structs.replace(
            row, values={name: msgspec.structs.replace(v, better="more", unit="mb") for name, v in row.values.items()}
        )
        if isinstance(row, RunRow)
        else row
        for row in rows_of(9, lambda week: {"factor": 1.5} if week == 8 else {})
    ]
    found = measure(judged_rows(rows))
    assert (found.verdict, found.better, found.unit) == (Verdict.FAIL, "less", "s")
    strange = with_value(rows_of(9, lambda _: {"gated": ["made_up"]}), lambda _: [1.0], name="made_up")
    assert "does not know" in measure(judged_rows(strange), "made_up").sentence


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lineage": "another"}, "run 2 plays another plan: another"),
        ({"machine_key": "another", "machine": {**HERE, "cpu": "faster"}}, "run 2 is of another machine: cpu: was"),
    ],
)
def test_the_runs_of_a_week_are_of_one_plan_and_one_machine(change: dict[str, Any], said: str) -> None:
    rows = rows_of(9)
    for at in (8, 7):
        mixed = [
            msgspec.structs.replace(row, **change)
            if isinstance(row, RunRow) and (row.series, row.index) == (series_name(at), 1)
            else row
            for row in rows
        ]
        series = judged_rows(mixed)
        assert series.verdict is (Verdict.UNKNOWN if at == 8 else Verdict.PASS)
        assert any(said in reason for reason in series.reasons) is (at == 8)
        assert series.measures[0].rolling is not None
        assert (series_name(7) in series.measures[0].rolling.weeks) is (at == 8)


def test_who_never_recovered_is_ranked_last_and_forbids_pass() -> None:
    rows = rows_of(9)

    def lost(row: RunRow) -> list[float | None] | None:
        of = row.values[FRESH].of
        return [*of[:3], None] if row.series == series_name(8) else of

    found = measure(judged_rows(with_value(rows, lost)))
    assert found.verdict is Verdict.UNKNOWN
    assert "25% of the occurrences never recovered, 0% before" in found.sentence
    always = with_value(rows, lambda row: [*row.values[FRESH].of[:3], None])
    assert measure(judged_rows(always)).verdict is Verdict.PASS
    six = lambda row: (
        [0.4, 0.5, 0.6, 0.7, 0.8, 0.9] if row.series != series_name(8) else [0.4, 0.5, 0.6, 0.7, None, None]
    )
    ranked = measure(judged_rows(with_value(rows, six)))
    assert ranked.rolling is not None
    assert ranked.rolling.ratio == pytest.approx(1.0)


def test_a_measure_that_is_no_longer_gated_does_not_vanish() -> None:
    narrowed = lambda week: {"gated": [FRESH, LATENCY] if week < 9 else [FRESH]}
    for week in (9, 30):
        series = series_of(history_of(rows_of(31, narrowed)), series_name(week))
        assert series.verdict is Verdict.UNKNOWN
        assert measure(series, LATENCY).sentence.startswith("gated before (last in 2026-W10), not now")
    accepted = AcceptRow(series=series_name(9), at=AT, why="it says nothing")
    series = judged(12, narrowed, more=[accepted])
    assert (series.verdict, len(series.measures)) == (Verdict.PASS, 1)


def test_a_measure_that_others_push_out_of_the_eight_does_not_vanish() -> None:
    def crowded(row: Row) -> Row:
        if not isinstance(row, RunRow):
            return row
        many = 7 if row.series < series_name(8) else 8
        faults = {f"first_fresh_p95_s:cut{k}": row.values[FRESH] for k in range(many)}
        return msgspec.structs.replace(row, values={**faults, LATENCY: row.values[LATENCY]})

    series = judged_rows([crowded(row) for row in rows_of(9)])
    assert series.verdict is Verdict.UNKNOWN
    assert "gated before" in measure(series, LATENCY).sentence


def test_a_torn_row_and_a_gap_forbid_pass_and_a_torn_week_is_in_no_baseline() -> None:
    rows = rows_of(9)
    lines = [lines_of([row]) for row in rows]
    for at, said in ((len(rows) - 2, "torn, left out"), (len(rows) - 1, "torn, left out")):
        for cut in (60, 20):  # with the name of its series, and without
            broken = [*lines[:at], lines[at][:cut] + b"\n", *lines[at + 1 :]]
            read = read_rows(b"".join(broken), "x.jsonl")
            series = series_of(history_of(read.rows, read.torn), series_name(8), Asked(first=2))
            assert series.verdict is Verdict.UNKNOWN
            assert any(said in reason for reason in series.reasons)
    gap = series_of(history_of([*rows[:-2], rows[-1]]), series_name(8), Asked(first=2))
    assert gap.verdict is Verdict.UNKNOWN
    assert "the store lacks run 2 of this week" in gap.reasons[0]
    decision = lines_of([DecisionRow(series=series_name(5), at=AT, verdict=Verdict.FAIL)])
    read = read_rows(b"".join([*lines, decision[:70]]), "x.jsonl")
    series = series_of(history_of(read.rows, read.torn), series_name(8))
    assert series.verdict is Verdict.PASS
    assert measure(series).rolling is not None
    assert series_name(5) not in measure(series).rolling.weeks  # type: ignore[union-attr]


@settings(max_examples=25, deadline=None)
@given(st.floats(-6, 6), st.sampled_from([0.7, 1.0, 1.1, 1.2, 1.4]), st.integers(0, 5), st.booleans())
def test_another_unit_of_measurement_changes_no_verdict(power: float, factor: float, seed: int, near: bool) -> None:
    by = 10.0**power
    change = lambda week: {"factor": factor, "sessions": 2} if week == 10 else {}

    def by_unit(row: Row) -> Row:
        if not isinstance(row, RunRow):
            return row
        values = {
            name: msgspec.structs.replace(
                scaled(value, by), error=by * (0.2 * (value.value or 0) if near else value.error or 0.0)
            )
            for name, value in row.values.items()
        }
        return msgspec.structs.replace(row, values=values)

    by_one = [
        msgspec.structs.replace(
            row,
            values={
                name: msgspec.structs.replace(v, error=0.2 * (v.value or 0) if near else v.error)
                for name, v in row.values.items()
            },
        )
        if isinstance(row, RunRow)
        else row
        for row in rows_of(11, change, seed=seed)
    ]
    plain = judged_rows(by_one, 10)
    other = judged_rows([by_unit(row) for row in rows_of(11, change, seed=seed)], 10)
    assert [m.verdict for m in plain.measures] == [m.verdict for m in other.measures]


def test_limits_that_were_relaxed_since_are_unknown() -> None:
    rows = [
        msgspec.structs.replace(row, overrides=["thresholds[0].at_most"])
        if isinstance(row, RunRow) and row.series == series_name(8)
        else row
        for row in rows_of(9)
    ]
    series = series_of(history_of(rows), series_name(8))
    assert series.verdict is Verdict.UNKNOWN
    assert "relaxed that were not before: thresholds[0].at_most" in series.reasons[0]


def test_undecided_says_the_way_out() -> None:
    found = measure(judged(9, lambda week: {"from_week": 0.2, "factor": 1.12 if week == 8 else 1.0}))
    assert found.verdict is Verdict.UNKNOWN
    assert found.open
    assert "--against" in found.sentence
    near = judged(
        9,
        lambda week: {"factor": 1.12} if week == 8 else {},
        asked=Asked(rule=Rule(alpha=0.001, beta=0.001)),
    )
    assert "would do" in measure(near).sentence


# -- drift


def test_a_step_is_found_where_it_was_planted() -> None:
    series = judged(30, lambda week: {"factor": 1.25} if week >= 20 else {})
    (found,) = [d for d in series.drift if d.measure == FRESH]
    assert abs(int(found.at[1:]) - 20) <= 1
    assert found.ratio == pytest.approx(1.25, abs=0.08)
    assert found.explained_by == ""


def test_a_step_beside_a_new_kernel_is_explained_by_it() -> None:
    series = judged(30, lambda week: {"factor": 1.3, "machine": {**HERE, "kernel": "6.9"}} if week >= 20 else {})
    (found,) = [d for d in series.drift if d.measure == FRESH]
    assert found.explained_by == "kernel 6.1 -> 6.9"


def test_flat_histories_rarely_drift() -> None:
    dice = np.random.default_rng(3)
    alarms = sum(bool(changes([float(v) for v in np.exp(dice.normal(0, 0.06, 30))])) for _ in range(100))
    assert alarms <= 4


def test_a_break_hides_its_own_step_and_no_other() -> None:
    dice = np.random.default_rng(5)
    values = np.exp(dice.normal(0, 0.04, 36))
    values[12:] *= 1.3
    values[24:] *= 1.25
    assert [change.at for change in changes([float(v) for v in values], breaks=[12])] == [24]
    assert changes([float(v) for v in values[:9]]) == []


# -- the trend


def test_the_trend_holds_every_week() -> None:
    trend = trend_of(planted(14, lambda week: {"factor": 1.5} if week == 12 else {}))
    assert len(trend.weeks) == 14
    (fresh,) = [m for m in trend.measures if m.name == FRESH]
    assert fresh.verdict[12] is Verdict.FAIL
    assert fresh.reference[0] is None
    assert all(value is not None for value in fresh.reference[1:])
    assert [len(runs) for runs in fresh.runs] == [3] * 14
