"""Does the command line tell all that it should, once, on the right stream, with no word cut?"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from loadtests.capture import machine, preflight
from loadtests.cli import app, console
from loadtests.cli.analyze_command import analyze_run, tell
from loadtests.cli.console import Progress, clock, folded, moving_line, progress_parts
from loadtests.harness.files import shipped_profiles
from loadtests.model.results import from_json
from tests.cli.storing import store
from tests.measure.simulate import World, profile

ROOT = Path(__file__).resolve().parents[2]
RUN = "20260103-101112-burst-5e6f"
COLOURS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b\].*?\x1b\\")
COMMAND: Any = typer.main.get_command(app)


def commands(command: Any = COMMAND, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words, the groups too."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*words, name))


def help_of(words: tuple[str, ...], command: Any) -> str:
    said: str = command.get_help(typer.Context(command, info_name=" ".join(("tickstorm", *words))))
    return said


ALL = dict(commands())


def on_a_terminal(columns: int, *argv: str) -> list[str]:
    """Lines that a command prints on a terminal so wide, without colours."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (40, columns))
    sizeless = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment = {**sizeless, "TERM": "xterm-256color"}
    child = subprocess.Popen(
        [sys.executable, "-m", "loadtests.cli", *argv],
        env=environment,
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    said = b""
    with contextlib.suppress(OSError):  # Linux's way of saying that nobody writes any more
        while select.select([leader], [], [], 30)[0] and (data := os.read(leader, 65_536)):
            said += data
    os.close(leader)
    child.wait(30)
    return COLOURS.sub("", said.decode()).replace("\r", "").split("\n")


# -- help


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_each_command_has_examples_and_no_line_is_cut_at_80_columns(words: tuple[str, ...]) -> None:
    said = help_of(words, ALL[words])
    assert "Examples:\n" in said
    assert max(map(len, said.splitlines())) <= 80
    assert [line for line in said.splitlines() if line.endswith("...") and not line.startswith("Usage")] == []


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_each_example_is_a_command_that_is_understood(words: tuple[str, ...]) -> None:
    lines = re.findall(r"^ +tickstorm (.*)$", help_of(words, ALL[words]).partition("Examples:")[2], re.M)
    assert lines
    for line in lines:
        left = shlex.split(re.split(r" {2,}| >+ ", line)[0])
        command, context = COMMAND, None
        while left and left[0] in getattr(command, "commands", {}):
            name = left.pop(0)
            command = command.commands[name]
        context = command.make_context("tickstorm", left, resilient_parsing=not left)
        assert context is not None, line


def test_help_is_quick_for_it_loads_nothing_heavy() -> None:
    program = (
        "import sys, loadtests.cli as c\ntry: c.app(['run', '--help'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert not {"locust", "gevent", "numpy", "bokeh", "rich", "psutil"} & set(done.stdout.split())


# -- completion


def completed(*words: str, folder: Path, reports: Path) -> list[str]:
    """What bash offers for the last word, by the script that is really sourced."""
    tool = folder / "tickstorm"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m loadtests.cli "$@"\n', encoding="utf-8")
    tool.chmod(0o755)
    script = (
        "source <(tickstorm completion bash) || exit 9; read -r _ _ _ _ name _ < <(complete -p tickstorm)\n"
        f"COMP_WORDS=({shlex.join(words)}{' ' if words[-1] else ''}); COMP_CWORD={len(words) - 1}\n"
        '"$name" tickstorm; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {
        **os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
        "TICKSTORM_REPORTS": str(reports),
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.split()


def rarely(*cases: object) -> list[object]:
    """Cases that `make prove-all` plays."""
    return [pytest.param(*case, marks=pytest.mark.prove_all) for case in cases]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("run", "fi"), ["first-run"]),
        (("analyze", ""), ["last", RUN]),
        *rarely(
            (("an",), ["analyze"]), (("open", "2026"), [RUN]), (("run", "--w"), ["--workers", "--web", "--web-port"])
        ),
        *rarely((("run", ""), shipped_profiles()), (("completion", "z"), ["zsh"])),
    ],
)
def test_bash_completes_commands_profiles_and_runs(tmp_path: Path, words: tuple[str, ...], offered: list[str]) -> None:
    (tmp_path / "reports" / RUN / "history").mkdir(parents=True)
    assert completed("tickstorm", *words, folder=tmp_path, reports=tmp_path / "reports") == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_get_a_script_of_theirs(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["completion", shell], prog_name="tickstorm")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"_TICKSTORM_COMPLETE=complete_{shell}" in said
    assert "tickstorm" in said


# -- what is told of a run


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that passed, without a page."""
    folder = store(tmp_path_factory.mktemp("judged") / RUN, World(profile()).calm())
    assert analyze_run(str(folder), [], out=None, quiet=True, html=False) == 0
    return folder


def test_for_a_program_the_verdict_its_reasons_and_the_paths_and_nothing_else(
    judged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = from_json((judged / "results.json").read_bytes())
    tell(results, judged, "json")
    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] == "PASS"
    assert said["exit_status"] == 0
    assert said["reasons"] == results.reasons
    assert said["results"] == str(judged / "results.json")
    assert said["report"] is None


def test_quiet_is_the_verdict_with_its_reasons(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(from_json((judged / "results.json").read_bytes()), judged, "verdict")
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("PASS")
    assert "Numbers" not in said
    assert len(said) == 3


@pytest.mark.parametrize("columns", [80, pytest.param(120, marks=pytest.mark.prove_all)])
def test_on_a_terminal_no_word_is_cut_and_the_next_step_is_told(judged: Path, columns: int) -> None:
    lines = on_a_terminal(columns, "analyze", str(judged), "--no-html")
    assert max(len(line) for line in lines if str(judged.parent) not in line) <= columns
    assert len(lines) > 10
    assert any(line.startswith("report:") for line in lines)


def test_the_list_has_80_columns_and_what_finds_the_run(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKSTORM_REPORTS", str(judged.parent))
    lines = on_a_terminal(80, "list")
    assert max(map(len, lines)) <= 80
    assert any(line.startswith(f"PASS     {RUN[:15]}  ") for line in lines), lines
    assert any("tickstorm open RUN" in line for line in lines)


def test_wrong_input_is_told_in_lines_that_end_between_words() -> None:
    lines = on_a_terminal(80, "run", "frist-run")
    assert max(map(len, lines)) <= 80
    assert 'did you mean "first-run"?' in " ".join(line.strip() for line in lines)


@given(st.lists(st.text("ab-/%", min_size=1, max_size=12), max_size=40), st.integers(20, 120), st.integers(0, 3))
def test_folding_loses_nothing_and_cuts_no_word(words: list[str], width: int, lead: int) -> None:
    text = " " * lead + " ".join(words)
    lines = folded(text, width)
    assert lines.split() == words
    assert all(len(line) <= width for line in lines.split("\n"))


def test_lines_after_the_first_stand_below_it_and_commands_stay_whole() -> None:
    assert folded("  lost        1 message, which is a lot of messages", 40) == (
        "  lost        1 message, which is a lot\n              of messages"
    )
    assert folded("It is down, so begin with `tickstorm stack up` now", 40) == (
        "It is down, so begin with\n  `tickstorm stack up` now"
    )
    assert "12.0 ms" in folded("calm p50 and some more words of it 12.0 ms", 38)


# -- progress


def status(**other: Any) -> dict[str, Any]:
    return {
        "run": RUN, "state": "running", "phase": "baseline", "now_s": 15.0, "plan_s": 60.0, "planned": 200,
        "connected": 200, "published": 1234, "delivered": 56789, "latency_ms": {"p95": 6.04}, "faults": ["cut"],
    } | other  # fmt: skip


def test_a_moving_line_has_phase_bar_elapsed_and_what_is_left() -> None:
    line = moving_line(*progress_parts(status()), 100, "ascii")
    assert line == ("fault cut      ####------------  0:15, 0:45 left  200/200 connected  p95 6.0 ms  1,234 published")


@pytest.mark.parametrize("width", [20, 79, 119])
def test_what_has_no_room_is_left_out_whole(width: int) -> None:
    line = moving_line(*progress_parts(status()), width, "utf-8")
    assert len(line) <= width
    if width == 79:
        assert line.endswith("p95 6.0 ms")


@pytest.mark.parametrize(
    ("other", "phase"),
    [
        ({"state": "connecting", "phase": "connect", "now_s": -3.0}, "connecting"),
        ({"state": "draining", "now_s": 61.0}, "waiting for the last messages"),
        ({"state": "judging"}, "judging"),
    ],
)
def test_where_no_time_is_known_there_is_no_bar(other: dict[str, Any], phase: str) -> None:
    told, share, figures = progress_parts(status(**other))
    assert (told, share) == (phase, None)
    assert not any("left" in figure for figure in figures)


def test_without_a_terminal_there_is_a_line_at_each_phase_and_at_times(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(RUN, None) as progress:
        for second in range(60):
            phase = "warm-up" if second < 5 else "baseline"
            progress.update(status(now_s=float(second), phase=phase, faults=[]))
        progress.update(status(state="judging", now_s=61.0))
        progress.update(status(state="done", now_s=62.0))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"run {RUN}", "warm-up: 0:00", "baseline: 0:05", "baseline: 0:25", "baseline: 0:45", "judging",
    ]  # fmt: skip


def test_quiet_says_nothing_but_where_a_page_is(capsys: pytest.CaptureFixture[str]) -> None:
    for port in (None, 8089):
        with Progress(RUN, port, quiet=True) as progress:
            progress.update(status())
            progress.update({"say": "open http://127.0.0.1:8089/?token=x"})
        assert capsys.readouterr().err.splitlines() == ([] if port is None else ["open http://127.0.0.1:8089/?token=x"])


def test_times_are_told_as_on_a_clock() -> None:
    assert [clock(s) for s in (0, 9.9, 63, 3605)] == ["0:00", "0:09", "1:03", "1:00:05"]


# -- doctor


def test_an_ordinary_machine_gives_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: 55.0 if interval == machine.LOOK_S else 12.0)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 8)
    findings = preflight.doctor(None, None)
    assert [f.text for f in findings if f.check in ("cpu", "stack") and f.level != "ok"] == []


def test_a_machine_that_stays_busy_is_told_with_who_works_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "AGAIN_S", 0.2)
    monkeypatch.setattr(machine, "BUSY_PERCENT", -1.0)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as burner:
        try:
            found = machine.idle_cpu()
        finally:
            burner.kill()
    assert found.level == "warn"
    assert re.search(r"% busy before the run, by .*python", found.text), found.text


def test_the_console_of_this_test_is_no_terminal() -> None:
    assert not console.err.is_terminal
