"""Is a run found by path, name, prefix and `last`, listed with its verdict, and its report opened?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from loadtests.cli import runs_command
from loadtests.cli.analyze_command import analyze_run
from loadtests.cli.runs_command import has_browser, open_report, shortest, when
from loadtests.harness.files import find_run, profile_path, run_folders, shipped_profiles
from loadtests.harness.profile_loading import load
from loadtests.model.errors import BadInput
from tests.cli.storing import store
from tests.measure.simulate import World, profile

FIRST, SECOND, THIRD = "20260102-030405-first-run-1a2b", "20260102-030405-burst-3c4d", "20260103-101112-burst-5e6f"
TICKSTORM = [sys.executable, "-m", "loadtests.cli"]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that passed, with its reports."""
    folder = store(tmp_path_factory.mktemp("judged") / THIRD, World(profile()).calm())
    assert analyze_run(str(folder), [], out=None, quiet=True) == 0
    return folder


@pytest.fixture
def reports(judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs, of which the newest was judged, and what is no run."""
    folder = tmp_path / "reports"
    shutil.copytree(judged, folder / THIRD)
    for name in (FIRST, SECOND):
        (folder / name / "history").mkdir(parents=True)
    (folder / "notes").mkdir()
    (folder / "README.md").write_text("no run", encoding="utf-8")
    monkeypatch.setenv("TICKSTORM_REPORTS", str(folder))
    monkeypatch.setenv("TICKSTORM_STACK", str(tmp_path / "no-stack"))
    return folder


def tickstorm(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.run(
        [*TICKSTORM, *argv], env={**kept, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def test_runs_are_the_newest_first_and_nothing_else(reports: Path) -> None:
    assert [folder.name for folder in run_folders()] == [THIRD, FIRST, SECOND]


def test_a_run_of_another_name_counts_from_when_it_was_written(reports: Path) -> None:
    (reports / "mine").mkdir()
    (reports / "mine" / "profile.toml").write_text("", encoding="utf-8")
    os.utime(reports / "mine" / "profile.toml", (1, 1))
    assert run_folders()[-1].name == "mine"


@pytest.mark.parametrize(
    ("named", "found"),
    [("last", THIRD), (FIRST, FIRST), (THIRD[:15], THIRD), (f"{FIRST[:16]}f", FIRST), ("20260103", THIRD)],
)
def test_a_run_is_found_by_name_prefix_and_last(reports: Path, named: str, found: str) -> None:
    assert find_run(named) == reports / found


def test_a_run_is_found_by_its_path(reports: Path, judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_run(str(judged)) == judged
    monkeypatch.chdir(judged)
    assert find_run(".").resolve() == judged


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (FIRST[:15], ("found 2 runs that begin so", FIRST, SECOND)),
        ("20260102-030405-frist-run-1a2b", ("there is no such run", f'did you mean "{FIRST}"?', "tickstorm list")),
        ("1a2b", (f'did you mean "{FIRST}"?',)),
        ("", ("there is no such run",)),
        ("x" * 5000, ("there is no such run",)),
    ],
)
def test_what_names_none_or_several_is_refused_with_what_may_be_meant(
    reports: Path, named: str, said: tuple[str, ...]
) -> None:
    with pytest.raises(BadInput) as refused:
        find_run(named)
    for text in said:
        assert text in str(refused.value)


def test_where_there_is_no_run_yet_it_says_what_makes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKSTORM_REPORTS", str(tmp_path))
    for named in ("last", "2026"):
        with pytest.raises(BadInput, match="`tickstorm run` makes one"):
            find_run(named)
    found = tickstorm("list")
    assert (found.returncode, found.stdout) == (0, "")
    assert "tickstorm run first-run" in found.stderr
    assert json.loads(tickstorm("list", "--json").stdout) == []


# -- profiles


def test_a_profile_is_named_without_folder_and_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(profile_path("burst"), tmp_path / "mine.toml")
    assert profile_path("burst") == profile_path("burst.toml")
    assert profile_path("mine") == Path("mine.toml")
    assert load("mine").profile.name == "burst"
    shutil.copy("mine.toml", "burst.toml")
    assert profile_path("burst.toml") == Path("burst.toml"), "a file that lies here is meant"


@pytest.mark.parametrize(("named", "meant"), [("frist-run", "first-run"), ("brust.toml", "burst"), ("mien", "mine")])
def test_a_profile_that_is_mistyped_is_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").touch()
    with pytest.raises(BadInput, match=f'did you mean "{meant}"'):
        load(named)


# -- list


def test_the_list_for_programs_has_verdict_profile_times_and_paths(reports: Path) -> None:
    newest, never, _ = json.loads(tickstorm("list", "--json").stdout)
    assert (newest["run"], newest["verdict"], newest["running"]) == (THIRD, "PASS", False)
    assert newest["duration_s"] > 0
    assert newest["report"] == str(reports / THIRD / "report.html")
    assert newest["results"] == str(reports / THIRD / "results.json")
    assert (never["run"], never["verdict"], never["profile"], never["report"]) == (FIRST, None, "first-run", None)
    assert never["started_at"] == "2026-01-02T03:04:05Z"


def test_the_list_in_a_pipe_has_a_line_each_with_whole_names(reports: Path) -> None:
    lines = [line.split("\t") for line in tickstorm("list").stdout.splitlines()]
    assert [line[:2] for line in lines] == [["PASS", THIRD], ["-", FIRST], ["-", SECOND]]
    assert lines[0][-1].endswith("report.html")
    assert len(tickstorm("list", "--limit", "2").stdout.splitlines()) == 2


@pytest.mark.prove_all
def test_the_profiles_in_a_pipe_have_tabs_between() -> None:
    lines = [line.split("\t") for line in tickstorm("profiles").stdout.splitlines()]
    assert [name for name, question in lines if question.endswith("?")] == shipped_profiles()


def test_results_of_a_stranger_cannot_end_or_paint_the_list(reports: Path) -> None:
    (reports / FIRST / "results.json").write_text("{", encoding="utf-8")
    text = json.dumps({"run": {"profile": "a\x1b[31mb\nc"}, "verdict": "PA\tSS\x1b[0m"})
    (reports / SECOND / "results.json").write_text(text, encoding="utf-8")
    found = tickstorm("list")
    assert found.returncode == 0
    assert len(found.stdout.splitlines()) == 3
    assert "\x1b" not in found.stdout


def test_as_much_of_a_name_is_shown_as_no_other_has() -> None:
    assert shortest(THIRD, [FIRST, SECOND, THIRD]) == THIRD[:15]
    assert shortest(FIRST, [FIRST, SECOND]) == FIRST[:17]
    assert shortest("mine", ["mine", "mine-2"]) == "mine"


@pytest.mark.parametrize(
    ("started_at", "said"),
    [
        ("2026-01-03T11:59:40Z", "just now"),
        ("2026-01-03T10:30:00.5+00:00", "89 min ago"),
        ("2026-01-02T12:00:00Z", "24 h ago"),
        ("2025-12-31T12:00:00Z", "3 days ago"),
        ("2025-12-01T12:00:00Z", "2025-12-01"),
        ("2026-01-03", "-"),
        ("", "-"),
    ],
)
def test_when_a_run_began_is_told_as_one_would_say_it(started_at: str, said: str) -> None:
    assert when(started_at, datetime(2026, 1, 3, 12, tzinfo=UTC)) == said


# -- open


def test_the_report_of_the_last_run_is_opened_and_its_path_told(reports: Path, tmp_path: Path) -> None:
    browser, shown = tmp_path / "browser", tmp_path / "shown"
    browser.write_text(f'#!/bin/sh\necho "$1" > {shown}\n', encoding="utf-8")
    browser.chmod(0o755)
    found = tickstorm("open", BROWSER=str(browser))
    page = reports / THIRD / "report.html"
    assert (found.returncode, found.stdout, found.stderr) == (0, f"{page}\n", "")
    assert shown.read_text(encoding="utf-8").strip() == page.as_uri()


def test_without_a_browser_it_says_so_and_where_the_page_is(reports: Path) -> None:
    found = tickstorm("open", THIRD[:15])
    assert (found.returncode, found.stdout) == (0, f"{reports / THIRD / 'report.html'}\n")
    assert "there is no browser here" in found.stderr


def test_a_browser_for_the_terminal_is_none() -> None:
    assert not has_browser({"TERM": "xterm"}, "linux")
    assert has_browser({"DISPLAY": ":0"}, "linux")
    assert has_browser({"WAYLAND_DISPLAY": "wayland-0"}, "linux")
    assert has_browser({}, "darwin")


def test_a_run_without_a_page_is_told_how_it_gets_one(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=f"no report.html; `tickstorm analyze {FIRST}` makes it"):
        open_report(FIRST)
    monkeypatch.setattr(runs_command, "user_of", lambda _: FIRST)
    with pytest.raises(BadInput, match="it goes on"):
        open_report(FIRST)


def test_a_judging_elsewhere_is_opened_by_its_folder(
    judged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(judged / "report.html", tmp_path)
    monkeypatch.setattr(runs_command, "has_browser", lambda _: False)
    assert open_report(str(tmp_path)) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
