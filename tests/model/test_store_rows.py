"""Are rows kept as they were, torn ones told, and weeks put together from whatever order they come in?"""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.harness.profile_loading import load
from loadtests.model.errors import BadInput
from loadtests.model.results import Verdict
from loadtests.model.store import (
    AcceptRow,
    DecisionRow,
    ExcludeRow,
    RunRow,
    differing,
    digest,
    history_of,
    lineage_values,
    lines_of,
    machine_key,
    read_rows,
)
from tests.planted_weeks import rows_of

ROWS = rows_of(3)
DATA = lines_of(ROWS)


def test_rows_come_back_as_they_were() -> None:
    read = read_rows(DATA, "x.jsonl")
    assert [row for row in read.rows if isinstance(row, RunRow)] == [row for row in ROWS if isinstance(row, RunRow)]
    assert read.told == ()


@settings(max_examples=60)
@given(st.integers(1, len(DATA) - 1))
def test_a_torn_tail_costs_its_own_row_alone(cut: int) -> None:
    whole = DATA[:cut].count(b"\n")
    read = read_rows(DATA[:cut], "x.jsonl")
    assert len(read.rows) >= whole
    assert len(read.told) == (0 if DATA[:cut].endswith(b"\n") or len(read.rows) > whole else 1)


def test_a_row_torn_in_the_middle_is_told_with_its_line() -> None:
    lines = DATA.splitlines(keepends=True)
    lines[2] = lines[2][:50] + b"\n"
    read = read_rows(b"".join(lines), "x.jsonl")
    assert read.told == ("x.jsonl: line 3: torn, left out",)
    assert len(read.rows) == len(lines) - 1


def test_what_this_version_does_not_know_does_no_harm() -> None:
    row = json.loads(DATA.splitlines()[1]) | {"colour": "blue"}
    note = {"kind": "note", "schema": "tickstorm-store-1", "text": "x"}
    read = read_rows(b"\n".join(json.dumps(one).encode() for one in (row, note, [1], 3)), "x.jsonl")
    assert len(read.rows) == 1
    assert len(read.told) == 3
    assert "known are run, decision" in read.told[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": "tickstorm-store-2"}, 'schema: found "tickstorm-store-2"'),
        ({"verdict": "FAIL"}, "two rows that differ"),
    ],
)
def test_another_schema_and_a_run_told_twice_are_refused(change: dict[str, str], said: str) -> None:
    line = DATA.splitlines()[1]
    other = json.dumps(json.loads(line) | change).encode()
    with pytest.raises(BadInput) as error:
        read_rows(line + b"\n" + other, "x.jsonl")
    assert said in error.value.problems[0]
    assert len(read_rows(line + b"\n" + line, "x.jsonl").rows) == 1


def test_decisions_and_what_a_person_said_belong_to_their_week() -> None:
    at = "2026-02-01T00:00:00+00:00"
    history = history_of(
        [
            AcceptRow(series="w01", at=at, why="wanted"),
            *ROWS,
            DecisionRow(series="w00", at=at, verdict=Verdict.FAIL),
            ExcludeRow(series="w02", at=at, why="moved house"),
        ]
    )
    first, second, third = history.weeks
    assert (first.failed, second.failed, third.failed) == (True, False, False)
    assert second.accepted is not None
    assert third.excluded is not None
    assert [history.epoch(week) for week in history.weeks] == [0, 1, 1]
    assert first.label == "2026-W02"


def test_a_threshold_is_no_lineage_and_what_is_played_is() -> None:
    plain = load("locust-quick")
    values = lineage_values(plain.profile)
    same = lineage_values(load("locust-quick", ["run.late_s=2"], 77).profile)
    threshold = plain.profile.model_copy(
        update={"thresholds": plain.profile.thresholds[:1], "question": "another one?"}
    )
    other = lineage_values(load("locust-quick", ["steady.hold_s=4"]).profile)
    assert digest(values) == digest(same) == digest(lineage_values(threshold))
    assert digest(values) != digest(other)
    assert differing(values, other) == ["steady.hold_s: was 3.0, is 4.0"]


def test_nothing_measured_is_in_the_machines_key() -> None:
    machine = {"cpu": "x", "cores": "2"}
    assert machine_key(machine) == machine_key(machine | {"kernel": "7", "bogomips": "4800"})
    assert machine_key(machine) != machine_key(machine | {"cores": "4"})


def test_a_changed_lineage_names_at_most_five_keys() -> None:
    assert differing({str(k): "1" for k in range(8)}, {})[-1] == "3 more"


def test_the_speed_of_a_week_is_the_median_of_its_prints() -> None:
    (week, *_) = history_of(ROWS).weeks
    assert week.speed("loopback_us") == 20
    silent = history_of([msgspec.structs.replace(row, speed=[]) for row in ROWS if isinstance(row, RunRow)]).weeks[0]
    assert silent.speed("cpu_ms") is None
