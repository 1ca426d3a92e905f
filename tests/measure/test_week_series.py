"""What does a week say against the weeks before it, where something is planted in them?"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from loadtests.measure.gate import Rule, changes
from loadtests.measure.series import Asked, series_of, trend_of
from loadtests.model.results import Verdict
from loadtests.model.series import MeasureResult, SeriesResult, from_json, to_json
from loadtests.model.store import AcceptRow, AnchorRow, DecisionRow, ExcludeRow, Row, RunRow, Value, history_of
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


@pytest.mark.parametrize(("now", "verdict"), [(0.004, Verdict.PASS), (0.05, Verdict.FAIL)])
def test_below_four_errors_a_figure_is_compared_by_difference(now: float, verdict: Verdict) -> None:
    def small(row: Row) -> Row:
        if not isinstance(row, RunRow):
            return row
        value = now if row.series == series_name(8) else 0.003
        return msgspec.structs.replace(row, values={FRESH: Value(value=value, unit="s", error=0.002, of=[value])})

    series = series_of(history_of([small(row) for row in rows_of(9)]), series_name(8))
    assert series.verdict is verdict
    assert "too near its error" in measure(series).sentence


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
