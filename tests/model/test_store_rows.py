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
from tests.planted_weeks import FRESH, rows_of

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


def changed(**change: object) -> bytes:
    row = json.loads(DATA.splitlines()[1])
    for path, value in change.items():
        *keys, last = path.split("__")
        part = row
        for key in keys:
            part = part[int(key) if key.isdigit() else FRESH if key == "fresh" else key]
        part[int(last) if last.isdigit() else last] = value
    return json.dumps(row).encode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"index": -1}, "index: found -1, allowed 0 to 1e+06"),
        ({"seed": 10**400}, "seed: found "),
        ({"session": 10**18}, "session: found 1000000000000000000, allowed"),
        ({"started_at": "1700-01-01T00:00:00"}, "started_at: found 1700, allowed 2000 to 2200"),
        ({"speed__0__cpu_ms": 0}, "speed[0].cpu_ms: found 0.0, allowed 1e-09 to 1e+12"),
        ({"values__fresh__error": -1}, f'values["{FRESH}"].error: found -1.0, allowed 0 to'),
        ({"values__fresh__error": 1e300}, f'values["{FRESH}"].error: found 1e+300, allowed 0 to'),
        ({"values__fresh__of__2": 1e308}, f'values["{FRESH}"].of[2]: found 1e+308, allowed'),
        ({"values__fresh__of": [-1.0], "values__fresh__value": -1}, f'values["{FRESH}"].value: found -1.0, allowed 0'),
        ({"values__fresh__value": 0.1}, "the median of its `of`"),
        ({"values__fresh__value": None}, "found None, allowed"),
        ({"values__fresh__of": [None, None, None, 0.4]}, "allowed None, the median of its `of`"),
    ],
)
def test_numbers_that_cannot_be_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput) as error:
        read_rows(changed(**change), "x.jsonl")
    assert all(problem.startswith("x.jsonl: line 1: ") for problem in error.value.problems)
    assert any(said in problem for problem in error.value.problems), error.value.problems


def test_all_that_is_wrong_is_told_at_once_and_what_was_changed_alike_is_read() -> None:
    data = b"\n".join([changed(index=-1, session=-2), changed(run="b", speed__1__loopback_us=-1)])
    with pytest.raises(BadInput) as error:
        read_rows(data, "x.jsonl")
    assert [problem.split(": ")[1:3] for problem in error.value.problems] == [
        ["line 1", "index"],
        ["line 1", "session"],
        ["line 2", "speed[1].loopback_us"],
    ]
    value = json.loads(DATA.splitlines()[1])["values"][FRESH]
    halved = {"values__fresh__value": value["value"] / 2, "values__fresh__of": [one / 2 for one in value["of"]]}
    assert len(read_rows(changed(**halved), "x.jsonl").rows) == 1


@pytest.mark.parametrize(
    ("line", "whose"),
    [
        (b'{"kind":"run","series":"w02","run":"w0', {"w02"}),
        (b'{"kind":"run","ser', {"w00", "w01"}),
        (b'{"kind":"lineage","schema":"tick', set()),
        (b'{"kind":"note","text":"of a later version"}', set()),
        (b'{"kind":"rum","series":"w01"}', {"w01"}),
        (b'{"kind":"run","schema":"tickstorm-store-1","series":"w02"}', {"w02"}),
        (b"[1]", {"w00", "w01"}),
    ],
)
def test_what_was_left_out_is_told_of_the_weeks_that_it_may_be_of(line: bytes, whose: set[str]) -> None:
    lines = [lines_of([row]).rstrip() for row in ROWS if isinstance(row, RunRow)]
    read = read_rows(b"\n".join([*lines[:3], line, *lines[3:]]), "x.jsonl")
    assert len(read.told) == 1
    assert read.torn.keys() == whose
    assert {week.series for week in history_of(read.rows, read.torn).weeks if week.torn} == whose


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
