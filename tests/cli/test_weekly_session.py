"""How does a session go on after each run?  Runs are planted rows; store, gate and files are the real ones."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from loadtests.capture.store import StoreFiles
from loadtests.cli.history_command import gate
from loadtests.cli.weekly_command import PlayedSession, WeeklyJob, WeeklyOptions, carried_out, compare
from loadtests.harness.profile_loading import load
from loadtests.measure.series import Asked
from loadtests.model.profile.reading import Loaded
from loadtests.model.results import Verdict
from loadtests.model.store import DecisionRow, History, RunRow, digest, history_of, lineage_values
from tests.planted_weeks import HERE, rows_of, week_rows

LOADED = load("locust-quick")
PLAN = lineage_values(LOADED.profile)
Change = Callable[[int, int], Mapping[str, Any]]


@dataclass(slots=True)
class PlantedSession(PlayedSession):
    """Plays no run: what one would have come to is planted, by number of the session and of the run in it."""

    change: Change = lambda _session, _run: {}
    stacks: int = 0
    store: StoreFiles = field(default_factory=lambda: StoreFiles(Path("nowhere")))
    in_store: list[int] = field(default_factory=list)

    @contextlib.contextmanager
    def stack(self) -> Iterator[None]:
        self.stacks += 1
        yield

    def play(self, *, session: int, offset: int, side: str = "", other: tuple[str, Loaded] | None = None) -> RunRow:
        number = len(self.rows)
        dice = np.random.default_rng([7, session, number])
        planted = week_rows(50, dice, plan=PLAN, from_week=0.0, **self.change(session, number))
        row = [one for one in planted if isinstance(one, RunRow)][offset]
        row = msgspec.structs.replace(
            row, series=self.series, run=f"{self.series}-{number}", index=number, session=session, side=side
        )
        self.keep([row])
        self.rows.append(row)
        self.longest_s = 60.0
        self.in_store.append(sum(isinstance(one, RunRow) for one in self.store.read("locust-quick").rows))
        return row


def play(
    tmp_path: Path, change: Change, *, weeks: int = 8, **asked: Any
) -> tuple[Verdict, PlantedSession, dict[str, Any]]:
    store = StoreFiles(tmp_path / "store")
    rows = rows_of(weeks, lambda _: {"plan": PLAN, "machine": HERE})
    if rows:
        store.append("locust-quick", rows)
    options = WeeklyOptions(store=store, html=False, out=tmp_path / "out", **asked)
    job = WeeklyJob(name="locust-quick", loaded=LOADED, history=history_of(rows), rows=tuple(rows), told=())
    session = PlantedSession(
        loaded=LOADED, name="locust-quick", series="this", keep=lambda rows: store.append("locust-quick", rows),
        change=change, store=store,
    )  # fmt: skip
    verdict = carried_out(job, session, options, options.asked())
    return verdict, session, json.loads((tmp_path / "out" / "series.json").read_text())


def history(session: PlantedSession) -> History:
    return history_of(session.store.read("locust-quick").rows)


def test_three_runs_that_are_clear_are_enough_and_each_is_kept_before_the_next(tmp_path: Path) -> None:
    verdict, session, told = play(tmp_path, lambda _s, _r: {})
    assert verdict is Verdict.PASS
    assert [row.seed for row in session.rows] == [2, 3, 4]
    assert session.in_store == [25, 26, 27]
    assert told["series"]["ended"] == "decided"
    last = session.store.read("locust-quick").rows[-1]
    assert isinstance(last, DecisionRow)
    assert (last.verdict, last.compared) == (Verdict.PASS, 2)


def test_what_is_undecided_gets_more_runs_with_the_same_seeds_and_at_most_so_many(tmp_path: Path) -> None:
    verdict, session, told = play(tmp_path, lambda _s, _r: {"factor": 1.16}, alpha=0.001, beta=0.001, runs="3..5")
    assert verdict is Verdict.UNKNOWN
    assert [row.seed for row in session.rows] == [2, 3, 4, 2, 3]
    assert told["series"]["ended"] == "most"


def test_a_fail_is_borne_out_on_a_fresh_stack(tmp_path: Path) -> None:
    verdict, session, told = play(tmp_path, lambda _s, _r: {"factor": 1.4})
    assert verdict is Verdict.FAIL
    assert session.stacks == 2
    assert [row.session for row in session.rows] == [0, 0, 0, 1, 1, 1]
    assert history(session).weeks[-1].failed
    assert told["verdict"] == "FAIL"


def test_a_fail_that_does_not_come_again_is_unknown(tmp_path: Path) -> None:
    verdict, session, told = play(tmp_path, lambda s, _r: {"factor": 1.0 if s else 1.4})
    assert verdict is Verdict.UNKNOWN
    assert session.stacks == 2
    assert "worse in the first session, not in the second" in told["reasons"][0]
    assert not history(session).weeks[-1].failed


def test_without_confirmation_a_fail_stands_at_once(tmp_path: Path) -> None:
    verdict, session, _ = play(tmp_path, lambda _s, _r: {"factor": 1.4}, confirm=False)
    assert verdict is Verdict.FAIL
    assert session.stacks == 1


def test_a_budget_without_room_for_the_confirmation_makes_a_fail_unknown(tmp_path: Path) -> None:
    verdict, session, told = play(tmp_path, lambda _s, _r: {"factor": 1.4}, budget="150s")
    assert verdict is Verdict.UNKNOWN
    assert session.stacks == 1
    assert "not confirmed in a second session" in told["reasons"][0]


@pytest.mark.parametrize("usable", [0, 1])
def test_a_confirmation_without_usable_runs_confirms_nothing(tmp_path: Path, usable: int) -> None:
    verdict, session, told = play(tmp_path, lambda s, r: {"factor": 1.4, "usable": s == 0 or r < 3 + usable})
    assert verdict is Verdict.UNKNOWN
    assert session.stacks == 2
    assert f"not confirmed in a second session: {usable} of 3 runs of one can be used" in told["reasons"][0]


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        (lambda s, r: {"factor": 1.4, "usable": s == 0 or r < 4}, {}),
        (lambda s, r: {"factor": 1.4}, {"budget": "150s"}),
        (lambda s, r: {"factor": 1.4}, {"confirm": False}),
        (lambda s, r: {"factor": 1.4}, {}),
        (lambda s, r: {"factor": 1.0 if s else 1.4}, {}),
    ],
)
def test_gate_says_of_the_stored_week_what_the_job_said(tmp_path: Path, change: Change, asked: dict[str, Any]) -> None:
    verdict, session, _ = play(tmp_path, change, **asked)
    for keep in (True, False):
        said = gate(["this"], session.store, Asked(), html=False, to=None, json_to="", keep=keep)
        assert said == verdict.exit_status


def test_a_limit_of_time_that_a_run_broke_which_cannot_be_used_is_no_fail(tmp_path: Path) -> None:
    broken = {"verdict": Verdict.FAIL, "usable": False, "checks": ["latency_p95_ms<=100 calm: 140 ms"]}
    verdict, session, told = play(tmp_path, lambda _s, r: broken if r == 1 else {})
    assert verdict is Verdict.UNKNOWN
    assert len(session.rows) == 4
    assert "run 2 broke limits of time alone, and it cannot be used" in told["reasons"][0]


@pytest.mark.parametrize("runs", [1, 3])
def test_compare_does_not_miss_runs_that_cannot_be_used(tmp_path: Path, runs: int) -> None:
    store = StoreFiles(tmp_path)
    rows = rows_of(2, lambda _: {"runs": runs + 1})
    first = {row.series: row for row in reversed(rows) if isinstance(row, RunRow)}
    unusable = [msgspec.structs.replace(row, usable=False) if row in first.values() else row for row in rows]
    store.append("planted", unusable)
    said = compare("w00", "w01", store, html=False, to=None, json_to=str(tmp_path / "x.json"))
    told = json.loads((tmp_path / "x.json").read_text())
    assert (said, told["verdict"]) == ((0, "PASS") if runs > 1 else (3, "UNKNOWN"))


def test_no_run_is_begun_that_would_not_end_in_time(tmp_path: Path) -> None:
    verdict, session, told = play(tmp_path, lambda _s, _r: {}, budget="50s")
    assert verdict is Verdict.UNKNOWN
    assert len(session.rows) == 1
    assert told["series"]["ended"] == "budget"


def test_a_broken_limit_is_fail_without_a_second_session(tmp_path: Path) -> None:
    verdict, session, _ = play(tmp_path, lambda _s, r: {"verdict": Verdict.FAIL} if r == 1 else {})
    assert verdict is Verdict.FAIL
    assert (session.stacks, len(session.rows)) == (1, 3)


def test_an_aborted_run_ends_the_session(tmp_path: Path) -> None:
    verdict, session, _ = play(tmp_path, lambda _s, r: {"verdict": Verdict.ABORTED, "usable": False} if r == 1 else {})
    assert verdict is Verdict.ABORTED
    assert len(session.rows) == 2


def test_a_run_that_cannot_be_used_is_played_again(tmp_path: Path) -> None:
    verdict, session, _ = play(tmp_path, lambda _s, r: {"usable": r != 1})
    assert verdict is Verdict.PASS
    assert [row.usable for row in session.rows] == [True, False, True, True]


@pytest.mark.parametrize("first", [True, False])
def test_a_first_week_is_kept_and_green_only_with_first(tmp_path: Path, first: bool) -> None:
    verdict, session, told = play(tmp_path, lambda _s, _r: {}, weeks=0, may_be_first=first)
    assert verdict is (Verdict.PASS if first else Verdict.UNKNOWN)
    assert len(session.rows) == 3
    assert told["compared"] == 0
    assert digest(PLAN) == history(session).weeks[0].first.lineage
