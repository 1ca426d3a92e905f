"""Does `tickstorm capacity` refuse what it cannot play before it plays, and tell what was found as it was found?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtests.cli import capacity_command
from loadtests.cli.capacity_command import AXES, CapacityOptions, again, capacity, compared, fitted
from loadtests.cli.run_command import Ended
from loadtests.harness.profile_loading import load
from loadtests.measure.judge import judge
from loadtests.model import records as r
from loadtests.model.errors import BadInput
from loadtests.model.profile.fault_times import occurrences
from loadtests.model.results import Results, to_json
from loadtests.model.series import from_json
from tests.measure.simulate import MS, S, World, profile

TEXT = """
name = "small"
question = "How much does a small pipeline carry?"
[run]
duration_s = 30
[[families]]
name = "ranks"
channel = "tickstock.events.market_state"
event = "ranking_change"
symbols = 4
[[publishers]]
name = "p"
families = ["ranks"]
shape = { kind = "constant", rate_per_s = 50.0 }
[[consumers]]
name = "plain"
count = 4
[[faults]]
name = "cut"
kind = "down"
link = "gateway-redis"
at_s = 5
for_s = 2
[recovery]
limit_s = 5
[[thresholds]]
measure = "latency_p95_ms"
at_most = 100
"""


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TICKSTORM_REPORTS", str(tmp_path / "reports"))
    path = tmp_path / "small.toml"
    path.write_text(TEXT)
    return str(path)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"axis": "gateways"}, f'--axis: found "gateways", allowed {" or ".join(AXES)}'),
        ({"plan": "many"}, "--plan: found 'many', allowed a number such as 25000/s or 25k/s"),
        ({"plan": "0"}, "--plan: found '0', allowed above 0 to 1,000,000,000"),
        ({"price": "free"}, "--price: found 'free', allowed a number such as 0.12/h"),
        ({"growth": -3.0}, "--growth: found -3, allowed from 0.001 to 1000"),
        ({"budget": "soon"}, "--budget: found 'soon'"),
        ({"budget": "60s"}, "--budget: found 60s, allowed from 156s"),
        ({"under": "nobody"}, 'capacity.under: found "nobody", allowed one of "cut"'),
        ({"under": "cut", "axis": "clients"}, '--under: found "cut" with --axis clients, allowed with --axis rate'),
        ({"start": 9.0, "to": 3.0}, "to: found 3, allowed above start, 9"),
        ({"limits": "latency"}, 'capacity.limits[0]: found "latency", allowed one of "latency_p95_ms"'),
    ],
)
def test_nothing_is_played_where_something_is_wrong(
    name: str, asked: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was played")

    monkeypatch.setattr(capacity_command, "played", never)
    with pytest.raises(BadInput) as refused:
        capacity(name, CapacityOptions(**asked))
    assert any(said in problem for problem in refused.value.problems), refused.value.problems


def test_all_that_is_wrong_with_the_options_is_told_at_once(name: str) -> None:
    with pytest.raises(BadInput) as refused:
        capacity(name, CapacityOptions(axis="sideways", plan="x", price="y", growth=0.0, budget="z"))
    assert len(refused.value.problems) == 5


def test_a_plan_may_be_written_short() -> None:
    assert [CapacityOptions(plan=text).planned() for text in ("25k/s", "25000", "2.5k", "")] == [
        25000,
        25000,
        2500,
        None,
    ]


def simulated(factors: list[float], late_from: float) -> Results:
    """A search whose levels are late from a factor on."""
    made = World(
        profile(
            run={"duration_s": 3.0 * len(factors), "warm_up_s": 1.0, "drain_s": 2.0, "late_s": 0.5, "settle_ms": 100},
            thresholds=[{"measure": "latency_p95_ms", "at_most": 100.0}], capacity={"search": True, "hold_s": 2.5},
        )
    )  # fmt: skip
    starts = [made.warm + 3 * S * index for index in range(len(factors))]
    for index, (factor, start) in enumerate(zip(factors, starts, strict=True)):
        kind = "long" if index == len(factors) - 1 else "search"
        made.extra.append(
            r.Level(index=index, kind=kind, factor=factor, from_ns=start, hold_ns=start + S // 2, to_ns=start + 3 * S)
        )
    made.extra.append(r.PhaseMark(phase="drain", at_ns=made.plan_end, detail="decided"))
    made.publish()
    made.subscribe()

    def delay(m: Any, _stay: Any) -> int:
        late = [start for factor, start in zip(factors, starts, strict=True) if factor >= late_from]
        return 150 * MS if any(start <= m.due < start + 3 * S - S // 4 for start in late) else 0

    made.deliver(None, delay)
    return judge(made.profile, made.history())


def test_what_a_run_found_is_kept_told_and_its_exit_status(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = simulated([1.0, 2.0, 2.0, 1.0], late_from=2.0)
    asked: list[list[str]] = []

    def played(_name: str, settings: list[str], **_: object) -> tuple[str, Ended]:
        asked.append(list(settings))
        return "20261129-small", Ended(status=0, failed="", reasons=())

    monkeypatch.setattr(capacity_command, "played", played)
    monkeypatch.setattr(capacity_command, "results_of", lambda _run, _ended: results)
    status = capacity(name, CapacityOptions(to=8.0, plan="100/s", html=False, out=tmp_path / "out"))
    found = from_json((tmp_path / "out" / "series.json").read_bytes())
    assert found.capacity is not None
    assert (found.series.kind, found.capacity.asked.to, found.capacity.asked.plan) == ("capacity", 8.0, 100.0)
    assert found.capacity.low == pytest.approx(340.0, abs=12)  # 50/s and 30/s, to those who follow
    assert found.capacity.high is not None
    assert status == 0
    assert found.verdict.value == "PASS"
    assert "search = true" in asked[0][-1]
    assert "to = 8.0" in asked[0][-1]
    assert found.capacity.sentence in capsys.readouterr().out.replace("\n", " ")


def test_a_plan_above_what_fails_is_status_1(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = simulated([1.0, 2.0, 2.0, 1.0], late_from=2.0)
    monkeypatch.setattr(capacity_command, "played", lambda *_, **__: ("r", Ended(status=0, failed="", reasons=())))
    monkeypatch.setattr(capacity_command, "results_of", lambda _run, _ended: results)
    assert capacity(name, CapacityOptions(plan="300/s", html=False, out=tmp_path / "o")) == 0
    assert capacity(name, CapacityOptions(plan="9k/s", html=False, out=tmp_path / "p")) == 1


def test_more_clients_than_this_machine_allows_end_the_search_and_what_was_found_stands(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counts: list[list[str]] = []

    def played(_name: str, settings: list[str], **_: object) -> tuple[str, Ended]:
        counts.append([one for one in settings if ".count=" in one])
        if len(counts) in (3, 4):
            raise BadInput("descriptors: found 1024, allowed from 9000")
        return f"run-{len(counts)}", Ended(status=0, failed="", reasons=())

    monkeypatch.setattr(capacity_command, "played", played)
    monkeypatch.setattr(capacity_command, "results_of", lambda _run, _ended: simulated([1.0], late_from=9.0))
    monkeypatch.setattr(capacity_command.time, "monotonic", lambda: 0.0)
    status = capacity(name, CapacityOptions(axis="clients", html=False, out=tmp_path / "out"))
    found = from_json((tmp_path / "out" / "series.json").read_bytes()).capacity
    assert found is not None
    assert [one[0].rpartition("=")[2] for one in counts] == ["4", "4", "8", "8", "4", "3"]  # held, and the control
    assert (found.confidence, found.ended, len(found.trials)) == ("at_least", "generator", 4)
    assert status == 0
    assert "descriptors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("first", "second", "status", "said"),
    [
        ((900.0, 1000.0), (900.0, 1000.0), 0, "PASS: no less"),
        ((900.0, 1000.0), (700.0, 800.0), 1, "FAIL: less; the second carries 0.79 times the first, between 0.70"),
        ((900.0, 1000.0), (1100.0, 1200.0), 0, "PASS: more"),
        ((900.0, 1000.0), (950.0, None), 3, "bound from below"),
        ((900.0, 1000.0), (1200.0, None), 0, "at least 1.20"),
        ((None, None), (900.0, 1000.0), 3, "found no limit"),
    ],
)
def test_two_sessions_are_compared_by_their_brackets(
    first: tuple[float | None, float | None], second: tuple[float | None, float | None], status: int, said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def session(low: float | None, high: float | None) -> Any:
        found = simulated([1.0], late_from=9.0).capacity
        assert found is not None
        confidence = "unknown" if low is None else "held" if high is not None else "at_least"
        return msgspec.structs.replace(found, low=low, high=high, confidence=confidence)

    assert compared(session(*first), session(*second)) == status
    assert said in capsys.readouterr().out.replace("\n", " ")


def test_points_of_ones_own_are_fitted_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert fitted("1:9100,2:17400,4:31000,6:41000") == 0
    assert "X(7)" in capsys.readouterr().out
    for points in ("1:9100,2:17400", "1:fast,two:3"):
        with pytest.raises(BadInput):
            fitted(points)


def test_a_series_of_another_kind_is_not_judged_again(name: str, tmp_path: Path) -> None:
    del name
    with pytest.raises(BadInput):
        again("no-such-series", CapacityOptions())
    folder = tmp_path / "reports" / "week"
    folder.mkdir(parents=True)
    (folder / "series.json").write_text(json.dumps({"schema": "x"}))
    with pytest.raises(BadInput, match=r"series\.json"):
        again("week", CapacityOptions())


@pytest.mark.parametrize(("took_s", "second", "status", "runs"), [(895.0, "found", 0, 1), (300.0, "aborted", 4, 2)])
def test_what_was_found_without_the_fault_is_kept_whatever_the_search_under_it_comes_to(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took_s: float, second: str, status: int, runs: int
) -> None:
    """No time is left for it; or Ctrl-C ends it, which is no success."""
    first = simulated([1.0, 2.0, 2.0, 1.0], late_from=2.0)
    assert first.capacity is not None
    cut_off = msgspec.structs.replace(first, capacity=msgspec.structs.replace(first.capacity, ended="aborted"))
    clock, played = [0.0], []

    def run(_name: str, settings: list[str], **_: object) -> tuple[str, Ended]:
        played.append(settings)
        clock[0] += took_s
        return f"run-{len(played)}", Ended(status=0, failed="", reasons=())

    monkeypatch.setattr(capacity_command, "played", run)
    answers = iter([first, cut_off if second == "aborted" else first])
    monkeypatch.setattr(capacity_command, "results_of", lambda _run, _ended: next(answers))
    monkeypatch.setattr(capacity_command.time, "monotonic", lambda: clock[0])
    assert capacity(name, CapacityOptions(under="cut", html=False, out=tmp_path / "out")) == status
    found = from_json((tmp_path / "out" / "series.json").read_bytes()).capacity
    assert found is not None
    assert found.low is not None
    assert found.under is not None
    assert len(played) == runs
    if runs == 1:
        assert "Under cut unknown: not searched: 5 s of the budget were left" in found.sentence


def test_a_session_judged_again_is_told_with_the_limits_and_the_price_that_judge_it_now(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = simulated([1.0, 2.0, 2.0, 1.0], late_from=2.0)
    monkeypatch.setattr(capacity_command, "played", lambda *_, **__: ("r", Ended(status=0, failed="", reasons=())))
    monkeypatch.setattr(capacity_command, "results_of", lambda _run, _ended: results)
    capacity(name, CapacityOptions(html=False, out=tmp_path / "first"))

    def judged(_run: str, _sets: list[str], *, out: Path, **_: object) -> int:
        out.mkdir(parents=True)
        (out / "results.json").write_bytes(to_json(results))
        return 0

    stricter = profile(
        thresholds=[{"measure": "latency_p99_ms", "at_most": 50.0}], capacity={"search": True, "hold_s": 30.0}
    )
    monkeypatch.setattr(capacity_command, "analyze_run", judged)
    monkeypatch.setattr(capacity_command, "find_run", Path)
    monkeypatch.setattr(capacity_command, "profile_of", lambda _folder, sets: stricter if sets else None)
    options = CapacityOptions(
        sets=["thresholds[0].at_most=50"], price="0.5/h", html=False, out=tmp_path / "second"
    )  # fmt: skip
    assert again(str(tmp_path / "first"), options) == 0
    told = from_json((tmp_path / "second" / "series.json").read_bytes()).capacity
    assert told is not None
    asked = told.asked
    assert "latency_p99_ms<=50" in asked.limits
    assert "latency_p95_ms<=100" not in asked.limits
    assert (asked.latency_share, asked.price) == (0.01, 0.5)
    with pytest.raises(BadInput, match="--plan: found 'many'"):
        again(str(tmp_path / "first"), CapacityOptions(plan="many"))
    stored = json.loads((tmp_path / "first" / "series.json").read_bytes())
    (tmp_path / "first" / "series.json").write_text(json.dumps(stored | {"runs": []}))
    with pytest.raises(BadInput, match="a series without a run"):
        again(str(tmp_path / "first"), CapacityOptions())


def test_a_run_for_a_level_of_clients_plays_no_fault_and_is_bound_by_the_limits_that_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the shipped profile, whose fault ends later than a level does; and no run begins that would end too late."""
    asked: list[Any] = []
    clock = [0.0]

    def played(name: str, settings: list[str], **_: object) -> tuple[str, Ended]:
        asked.append(load(name, settings, None).profile)
        clock[0] += 45.0
        return f"run-{len(asked)}", Ended(status=0, failed="", reasons=())

    monkeypatch.setattr(capacity_command, "played", played)
    monkeypatch.setattr(capacity_command, "results_of", lambda _run, _ended: simulated([1.0], late_from=9.0))
    monkeypatch.setattr(capacity_command.time, "monotonic", lambda: clock[0])
    options = CapacityOptions(
        axis="clients", start=0.5, to=8.0, limits="latency_p95_ms", budget="300s", html=False, out=tmp_path / "out"
    )
    assert capacity("capacity", options) in (0, 3)
    assert [occurrences(one, 0) for one in asked] == [[]] * len(asked)
    assert {tuple(one.capacity.limits) for one in asked} == {("latency_p95_ms",)}
    assert len(asked) > 2
    assert clock[0] <= 300


def test_levels_of_equally_many_clients_are_one_level(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one client, 1.41 times and twice are both two."""
    monkeypatch.setattr(capacity_command, "played", lambda *_, **__: ("r", Ended(status=0, failed="", reasons=())))
    answers = iter([1.0, 1.0, 2.0, 2.0])

    def results(_run: str, _ended: Ended) -> Results:
        return simulated([1.0], late_from=9.0 if next(answers, 1.5) < 2.0 else 0.5)

    monkeypatch.setattr(capacity_command, "results_of", results)
    monkeypatch.setattr(capacity_command.time, "monotonic", lambda: 0.0)
    options = CapacityOptions(axis="clients", to=2.0, sets=["consumers.plain.count=1"], html=False, out=tmp_path / "o")
    capacity(name, options)
    found = from_json((tmp_path / "o" / "series.json").read_bytes()).capacity
    assert found is not None
    assert {one.factor for one in found.trials} == {1.0, 2.0}
