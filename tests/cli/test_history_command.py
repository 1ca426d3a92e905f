"""What do `history`, `gate` and the weekly job's files say of a store, and with which exit status?"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from loadtests.capture.store import StoreFiles
from loadtests.cli import history_command as command
from loadtests.cli.weekly_command import WeeklyOptions, seconds_of, weekly
from loadtests.measure.series import Asked, series_of
from loadtests.model.errors import BadInput
from loadtests.model.results import Verdict
from loadtests.model.store import AcceptRow, DecisionRow, RunRow, Speed, history_of
from tests.planted_weeks import rows_of, series_name

RECENT = datetime.now(UTC) - timedelta(days=7 * 9, hours=2)


def stored(tmp_path: Path, weeks: int = 10, change: Any = lambda _: {}) -> StoreFiles:
    store = StoreFiles(tmp_path / "store")
    store.append("planted", rows_of(weeks, lambda week: {"at": RECENT} | dict(change(week))))
    return store


def decision(week: int, verdict: Verdict = Verdict.PASS) -> DecisionRow:
    return DecisionRow(series=series_name(week), at=datetime.now(UTC).isoformat(), verdict=verdict)


def test_gate_judges_a_stored_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = stored(tmp_path, change=lambda week: {"factor": 2.0} if week == 9 else {})
    asked = Asked()
    assert command.gate([series_name(8)], store, asked, html=False, to=None, json_to="") == 0
    capsys.readouterr()
    assert command.gate([series_name(9)], store, asked, html=False, to=tmp_path / "out", json_to="-") == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "FAIL"
    assert json.loads((tmp_path / "out" / "series.json").read_text())["verdict"] == "FAIL"
    with pytest.raises(BadInput, match="no such series"):
        command.gate(["w77"], store, asked, html=False, to=None, json_to="")
    there = tmp_path / "verdict.json"
    assert command.gate([series_name(9)], store, asked, html=False, to=None, json_to=str(there)) == 1
    assert json.loads(there.read_text())["verdict"] == "FAIL"
    with pytest.raises(BadInput, match=r"none/verdict\.json: cannot be written"):
        command.gate([series_name(9)], store, asked, html=False, to=None, json_to=str(tmp_path / "none" / there.name))


def test_list_and_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = stored(tmp_path)
    store.append("planted", [decision(9)])
    assert command.list_weeks(store) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert "first_fresh_p95_s:redis-cut" in lines[0]
    assert command.status(store, 10 * 86400) == 0
    assert command.status(store, 60) == 3
    assert "does the job still run?" in capsys.readouterr().out
    empty = StoreFiles(tmp_path / "empty")
    assert command.status(empty, 10 * 86400) == 3
    assert command.list_weeks(empty) == 3
    with pytest.raises(BadInput, match="allowed one of planted"):
        command.list_weeks(store, "other")


def test_status_is_red_where_the_newest_week_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, ten_days = stored(tmp_path), 10 * 86400
    assert command.status(store, ten_days) == 3
    assert "`tickstorm gate w09 --keep` does" in capsys.readouterr().out
    store.append("planted", [decision(9, Verdict.ABORTED)])
    assert command.status(store, ten_days) == 3
    assert "w09 was aborted" in capsys.readouterr().out
    store.append("planted", [decision(9)])
    assert command.status(store, ten_days) == 0
    at = datetime.now(UTC) + timedelta(days=30)
    store.append("planted", [*rows_of(1, lambda _: {"at": at}, name="ahead"), decision(9)])
    store.append("planted", [DecisionRow(series="ahead", at=at.isoformat(), verdict=Verdict.PASS)])
    assert command.status(store, ten_days) == 3
    assert "is dated in the future" in capsys.readouterr().out


def test_gate_keeps_its_decision_where_it_is_asked_to(tmp_path: Path) -> None:
    store = stored(tmp_path)
    assert command.gate([series_name(9)], store, Asked(), html=False, to=None, json_to="", keep=True) == 0
    week = history_of(store.read("planted").rows).week(series_name(9))
    assert week is not None
    assert week.decision is not None
    assert (week.decision.verdict, week.decision.compared) == (Verdict.PASS, 2)
    assert command.status(store, 10 * 86400) == 0


def test_gate_of_a_part_of_a_series_does_not_compare_it_with_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stored(tmp_path, 1)
    rows = store.read("planted").rows
    late = [msgspec.structs.replace(row, series="these runs") for row in rows if isinstance(row, RunRow)][1:]
    monkeypatch.setattr(command, "stored_rows", lambda _names, _series: late)
    asked = Asked(first=2)
    assert command.gate([row.run for row in late], store, asked, html=False, to=None, json_to=str(tmp_path / "x")) == 3
    told = json.loads((tmp_path / "x").read_text())
    assert "the store has no earlier week" in " ".join(told["reasons"])
    with pytest.raises(BadInput, match=r"--keep: found runs"):
        command.gate(["a"], store, asked, html=False, to=None, json_to="", keep=True)


def test_a_number_that_cannot_be_is_bad_input_of_every_file_at_once(tmp_path: Path) -> None:
    store = stored(tmp_path, 1)
    (run,) = [row for row in rows_of(1, lambda _: {"runs": 1}) if isinstance(row, RunRow)]
    store.append("planted", [msgspec.structs.replace(run, run="x", index=-1)])
    store.append("second", [msgspec.structs.replace(run, run="y", speed=[Speed(cpu_ms=0.0, loopback_us=1.0)])])
    for asked in (command.list_weeks, command.check, lambda s: command.status(s, 60)):
        with pytest.raises(BadInput) as error:
            asked(store)
        assert error.value.problems == [
            "planted.jsonl: line 5: index: found -1, allowed 0 to 1e+06",
            "second.jsonl: line 1: speed[0].cpu_ms: found 0.0, allowed 1e-09 to 1e+12",
        ]


def test_what_a_person_decides_is_kept(tmp_path: Path) -> None:
    store = stored(tmp_path)
    assert command.decide(store, "accept", series_name(8), "wanted") == 0
    assert command.decide(store, "exclude", series_name(3), "moved") == 0
    assert command.decide(store, "anchor", series_name(4), "") == 0
    history = history_of(store.read("planted").rows)
    assert history.anchor == series_name(4)
    week = history.week(series_name(8))
    assert week is not None
    assert isinstance(week.accepted, AcceptRow)
    assert command.decide(store, "anchor", "none", "") == 0
    assert history_of(store.read("planted").rows).anchor == ""
    for series, why in (("w77", "x"), (series_name(1), " ")):
        with pytest.raises(BadInput):
            command.decide(store, "accept", series, why)


def test_check_names_what_is_torn_or_doubtful(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = stored(tmp_path, 2, lambda _: {"at": datetime.now(UTC) + timedelta(days=30)})
    with open(store.file("planted"), "ab") as file:
        file.write(b'{"kind": "run"')
    assert command.check(store) == 2
    told = capsys.readouterr().err
    assert "torn, left out" in told
    assert "is dated in the future" in told
    assert "was never judged" in told
    assert command.check(StoreFiles(tmp_path / "none")) == 3


def test_a_whole_store_is_in_order(tmp_path: Path) -> None:
    store = stored(tmp_path, 2)
    store.append("planted", [decision(k) for k in range(2)])
    assert command.check(store) == 0


def test_trim_deletes_old_histories_and_keeps_those_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKSTORM_REPORTS", str(tmp_path / "reports"))
    store = stored(tmp_path, 4)
    store.append("planted", [decision(0, Verdict.FAIL)])
    runs = [row.run for row in store.read("planted").rows if isinstance(row, RunRow)]
    for run in runs:
        (tmp_path / "reports" / run / "history").mkdir(parents=True)
        (tmp_path / "reports" / run / "results.json").write_text("{}")
    assert command.trim(store, 2, keep_fails=True) == 0
    left = {path.parent.name for path in (tmp_path / "reports").glob("*/history")}
    assert left == {run for run in runs if not run.startswith("w01")}
    assert len(list((tmp_path / "reports").glob("*/results.json"))) == len(runs)


@pytest.mark.parametrize(("factor", "verdict", "failures"), [(1.0, "PASS", "0"), (2.0, "FAIL", "2")])
def test_the_files_of_a_series_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float, verdict: str, failures: str
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    history = history_of(rows_of(9, lambda week: {"factor": factor} if week == 8 else {}))
    series = series_of(history, series_name(8))
    command.write_series(series, history, tmp_path / "out", html=True, summary=tmp_path / "own.md")
    assert json.loads((tmp_path / "out" / "series.json").read_text())["verdict"] == verdict
    top = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()
    assert (top.get("failures"), top.get("errors")) == (failures, "0")
    for name in ("step.md", "own.md", "out/summary.md"):
        assert f"{verdict}: planted" in (tmp_path / name).read_text()
    for name in ("out/index.html", "trend-planted.html"):
        page = (tmp_path / name).read_text()
        assert f"<title>{verdict} · " in page
        assert "http://" not in page.replace("http://www.w3.org", "")[:20_000]


def test_texts_of_others_are_no_markup(tmp_path: Path) -> None:
    rows = rows_of(9)
    history = history_of([*rows, AcceptRow(series=series_name(3), at="x", why="<script>alert(1)</script> | **x**")])
    series = series_of(history, series_name(3), Asked(may_be_first=True))
    command.write_series(series, history, tmp_path / "out", html=True)
    assert "<script>alert" not in (tmp_path / "out" / "index.html").read_text()
    assert "<script>alert" not in (tmp_path / "trend-planted.html").read_text()
    assert "\\<script\\>alert" in (tmp_path / "out" / "summary.md").read_text()


def git(place: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(place), *words], capture_output=True, text=True, check=True)
    return done.stdout


def test_push_goes_over_what_another_pushed_meanwhile(tmp_path: Path) -> None:
    origin = tmp_path / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "weeks", str(origin)], check=True)
    clones = [tmp_path / name for name in ("one", "two")]
    for clone in clones:
        subprocess.run(["git", "clone", "-q", str(origin), str(clone)], check=True, capture_output=True)
        git(clone, "checkout", "-q", "-B", "weeks")
    for index, clone in enumerate(clones):
        StoreFiles(clone / "history").append(f"planted{index}", rows_of(1))
        assert command.push(clone) == 0
    assert git(origin, "ls-tree", "-r", "--name-only", "weeks").split() == [
        ".gitattributes",
        "history/planted0.jsonl",
        "history/planted1.jsonl",
    ]
    assert command.push(clones[0]) == 0
    git(clones[0], "remote", "set-url", "origin", str(tmp_path / "gone"))
    StoreFiles(clones[0] / "history").append("planted0", rows_of(1))
    assert command.push(clones[0]) == 3
    with pytest.raises(BadInput):
        command.push(tmp_path)


def push_without_attributes(clone: Path) -> int:
    """As an older version did."""
    git(clone, "add", "--all")
    git(clone, "-c", "user.name=me", "-c", "user.email=me@localhost", "commit", "-q", "-m", "weeks")
    git(clone, "push", "-q", "origin", "HEAD")
    return 0


@pytest.mark.parametrize("other", [command.push, push_without_attributes])
def test_two_that_append_to_one_file_lose_no_line(tmp_path: Path, other: Callable[[Path], int]) -> None:
    origin = tmp_path / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "weeks", str(origin)], check=True)
    first = tmp_path / "first"
    subprocess.run(["git", "clone", "-q", str(origin), str(first)], check=True, capture_output=True)
    git(first, "checkout", "-q", "-B", "weeks")
    StoreFiles(first).append("planted", rows_of(1))
    assert other(first) == 0
    clones = [tmp_path / name for name in ("one", "two")]
    for clone in clones:
        subprocess.run(["git", "clone", "-q", str(origin), str(clone)], check=True, capture_output=True)
    rows = rows_of(3)
    for week, clone in enumerate(clones, start=1):
        mine = [row for row in rows if isinstance(row, RunRow) and row.series == series_name(week)]
        StoreFiles(clone).append("planted", [*mine, decision(week)])
    assert [other(clones[0]), command.push(clones[1])] == [0, 0]
    subprocess.run(["git", "clone", "-q", str(origin), str(tmp_path / "after")], check=True, capture_output=True)
    read = StoreFiles(tmp_path / "after").read("planted")
    assert read.told == ()
    assert [len(week.runs) for week in history_of(read.rows).weeks] == [3, 3, 3]
    assert sum(isinstance(row, DecisionRow) for row in read.rows) == 2
    assert (tmp_path / "after" / ".gitattributes").read_text() == "*.jsonl merge=union\n"


def test_a_branch_without_a_store_is_not_begun(tmp_path: Path) -> None:
    """The job would take it for one that has weeks, and never say `--first` again."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "weeks", str(tmp_path / "origin.git")], check=True)
    clone = tmp_path / "one"
    subprocess.run(["git", "clone", "-q", str(tmp_path / "origin.git"), str(clone)], check=True, capture_output=True)
    assert command.push(clone) == 3
    assert git(tmp_path / "origin.git", "branch", "--list") == ""


def test_the_job_refuses_before_anything_is_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = StoreFiles(tmp_path / "none")
    assert weekly(["locust-quick"], WeeklyOptions(store=store)) == 3
    assert "`--first` says that this is the first week" in capsys.readouterr().err
    with pytest.raises(BadInput) as error:
        weekly(["locust-quick"], WeeklyOptions(store=store, runs="2..7", limit=0, alpha=1, beta=0, budget="soon"))
    assert [problem.partition(":")[0] for problem in error.value.problems] == [
        "--runs",
        "--limit",
        "--alpha",
        "--beta",
        "--budget",
    ]
    with pytest.raises(BadInput, match="another target alone"):
        weekly(["locust-quick"], WeeklyOptions(store=store, may_be_first=True, against="burst"))


def test_spans_of_time() -> None:
    assert [seconds_of(text, "x") for text in ("90s", "45m", "1.5h", "10d")] == [90, 2700, 5400, 864000]
    for text in ("", "5", "-3m", "0s", "5w"):
        with pytest.raises(BadInput):
            seconds_of(text, "x")
