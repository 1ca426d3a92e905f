"""Do the printed job files do what they say, with the exit statuses of `tickstorm`?  Their steps run here.

The fake `tickstorm` writes a row into the store, as the real one does before it judges, and ends as it is told; what
pushes the store is the real one.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtests.cli.ci_command import BRANCH, JOBS, job
from loadtests.model.errors import BadInput

STATUSES = [0, 1, *(pytest.param(rare, marks=pytest.mark.prove_all) for rare in (2, 3, 4))]
"""Of `tickstorm`."""
FAKE = """#!/bin/sh
printf '%s\\n' "$*" >> "$FAKE_CALLS"
if [ "$1" = weekly ]; then
  while [ "$1" != --store ]; do shift; done
  mkdir -p "$2" && echo '{"kind": "run"}' >> "$2/weekly.jsonl"
fi
[ "$2" = push ] && exec "$PYTHON" -m loadtests.cli history push "$3"
exit "$FAKE_STATUS"
"""
PUSH = "history push .tickstorm/history"
SAFE = re.compile(r"\$\{\{ (?:secrets|vars)\.\w+ \}\}")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A checkout whose origin is a bare repository, and a fake tickstorm."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "tickstorm").write_text(FAKE, encoding="utf-8")
    (programs / "tickstorm").chmod(0o755)
    checkout(tmp_path, "first", new=True)
    return tmp_path


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=me", "-c", "user.email=me@localhost", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def checkout(place: Path, name: str, *, new: bool = False) -> Path:
    origin, folder = place / "origin.git", place / name
    if new:
        git(place, "init", "--quiet", "--bare", str(origin))
    git(place, "clone", "--quiet", str(origin), str(folder))
    if new:
        (folder / "README.md").write_text("a checkout\n", encoding="utf-8")
        git(folder, "add", "README.md")
        git(folder, "commit", "--quiet", "-m", "begin")
        git(folder, "push", "--quiet", "origin", "HEAD:main")
    return folder


def environment(place: Path, status: int, more: Mapping[str, str] = {}) -> dict[str, str]:
    return {
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "HOME": str(place),
        "GIT_CONFIG_NOSYSTEM": "1",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "FAKE_STATUS": str(status),
        "FAKE_CALLS": str(place / "calls"),
        **more,
    }


def calls(place: Path) -> list[str]:
    path = place / "calls"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def printed(kind: str, *names: str, place: Path) -> str:
    return job(kind, names or ("weekly",), root=place / "first", programs=place / "bin")


def bash(script: str, folder: Path, env: Mapping[str, str]) -> int:
    """As a runner of GitHub or GitLab plays a step."""
    return subprocess.run(["bash", "-e", "-c", script], cwd=folder, env=env, check=False, timeout=60).returncode


def play_github(steps: Sequence[Mapping[str, Any]], folder: Path, env: dict[str, str]) -> int:
    """All steps but those that install: after the first that fails only those that say always."""
    status, set_by = 0, folder.parent / "github.env"
    set_by.write_text("", encoding="utf-8")
    for step in steps:
        if "run" not in step or step["name"] == "Install" or (status and step.get("if") != "always()"):
            continue
        added = dict(line.split("=", 1) for line in set_by.read_text(encoding="utf-8").splitlines())
        status = bash(step["run"], folder, env | added | {"GITHUB_ENV": str(set_by)}) or status
    return status


@pytest.mark.parametrize("status", STATUSES)
def test_github_gives_the_status_and_keeps_the_store_in_a_branch_that_the_first_run_makes(
    place: Path, status: int
) -> None:
    made = yaml.safe_load(printed("github", place=place))
    steps, env = made["jobs"]["weekly"]["steps"], environment(place, status, made["env"])
    assert play_github(steps, place / "first", env) == status
    assert calls(place) == ["weekly weekly --store .tickstorm/history --first", PUSH]
    assert play_github(steps, checkout(place, "second"), env) == status
    assert calls(place)[2:] == ["weekly weekly --store .tickstorm/history", PUSH]
    assert git(place / "origin.git", "show", f"{BRANCH}:weekly.jsonl").count("run") == 2
    assert git(place / "origin.git", "ls-tree", "--name-only", BRANCH).split() == [".gitattributes", "weekly.jsonl"]
    looked = made["jobs"]["status"]["steps"]
    assert play_github(looked, checkout(place, "third"), env) == status
    assert calls(place)[4] == "history status --store .tickstorm/history --max-age 10d"


def test_where_the_server_does_not_answer_it_is_no_first_week(place: Path) -> None:
    for kind in ("github", "gitlab"):
        shutil.rmtree(place / "origin.git", ignore_errors=True)
        made = yaml.safe_load(printed(kind, place=place))
        env = environment(place, 0, made.get("env") or made[".tickstorm"]["variables"])
        if kind == "github":
            played = play_github(made["jobs"]["weekly"]["steps"], place / "first", env)
        else:
            played = play_gitlab(made["weekly"]["script"], place, "first", env)
        assert played not in (0, 2), kind
    assert calls(place) == []


def test_no_stored_week_is_status_3(place: Path) -> None:
    for kind in ("github", "gitlab"):
        made = yaml.safe_load(printed(kind, place=place))
        env = environment(place, 0, made.get("env") or made[".tickstorm"]["variables"])
        if kind == "github":
            assert play_github(made["jobs"]["status"]["steps"], place / "first", env) == 3
        else:
            assert play_gitlab(made["status"]["script"], place, "first", env) == 3


def play_gitlab(script: Sequence[str], place: Path, folder: str, env: dict[str, str]) -> int:
    """All lines in one shell, but the one that fetches the servers."""
    lines = [line for line in script if "loadtests.stack.install" not in line]
    pushed = {"TICKSTORM_PUSH_TOKEN": "t", "PUSH_TO": str(place / "origin.git")}
    return bash("\n".join(lines), place / folder, env | pushed)


@pytest.mark.parametrize("status", STATUSES)
def test_gitlab_gives_the_status_and_keeps_the_store(place: Path, status: int) -> None:
    made = yaml.safe_load(printed("gitlab", place=place))
    env = environment(place, status, made[".tickstorm"]["variables"])
    assert play_gitlab(made["weekly"]["script"], place, "first", env) == status
    checkout(place, "second")
    assert play_gitlab(made["weekly"]["script"], place, "second", env) == status
    assert calls(place) == [
        "weekly weekly --store .tickstorm/history --first",
        PUSH,
        "weekly weekly --store .tickstorm/history",
        PUSH,
    ]
    assert git(place / "origin.git", "show", f"{BRANCH}:weekly.jsonl").count("run") == 2
    assert made["weekly"]["artifacts"]["when"] == "always"
    checkout(place, "third")
    assert play_gitlab(made["status"]["script"], place, "third", env) == status
    env["PUSH_TO"] = ""  # without a token nothing is played
    assert bash(made["weekly"]["script"][0], place / "first", env) == 2


def test_a_store_that_cannot_be_pushed_is_never_green(place: Path) -> None:
    made = yaml.safe_load(printed("github", place=place))
    (place / "origin.git" / "hooks" / "pre-receive").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (place / "origin.git" / "hooks" / "pre-receive").chmod(0o755)
    assert play_github(made["jobs"]["weekly"]["steps"], place / "first", environment(place, 0, made["env"])) != 0
    made = yaml.safe_load(printed("gitlab", place=place))
    checkout(place, "second")
    variables = made[".tickstorm"]["variables"]
    assert play_gitlab(made["weekly"]["script"], place, "second", environment(place, 0, variables)) == 3
    checkout(place, "third")
    assert play_gitlab(made["weekly"]["script"], place, "third", environment(place, 1, variables)) == 1


# -- cron

_FIELD = r"(?:\*|[0-9]{1,2})"
_LINE = re.compile(rf"({_FIELD}) ({_FIELD}) ({_FIELD}) ({_FIELD}) ({_FIELD}) (.+)")
_MOST = (59, 23, 31, 12, 7)


def cron_lines(text: str) -> tuple[dict[str, str], list[str]]:
    """Settings and commands of a crontab, as cron reads them; fails where a line is neither."""
    settings, commands = {}, []
    for line in filter(None, text.splitlines()):
        if line.startswith("#"):
            continue
        if found := _LINE.fullmatch(line):
            fields, command = found.groups()[:5], found[6]
            assert all(field == "*" or int(field) <= most for field, most in zip(fields, _MOST, strict=True))
            assert not re.search(r"(?<!\\)%", command), "a bare % ends the command"
            commands.append(command.replace(r"\%", "%"))
        else:
            name, _, value = line.partition("=")
            assert re.fullmatch(r"[A-Z]+", name), line
            settings[name] = value
    assert text.endswith("\n"), "cron passes over a last line without its end"
    return settings, commands


@pytest.mark.parametrize("status", STATUSES)
def test_cron_gives_the_status_and_mails_only_what_is_not_green(place: Path, status: int) -> None:
    odd = place / "100 % mine"
    (place / "first").rename(odd)
    settings, commands = cron_lines(job("cron", ["weekly"], root=odd, programs=place / "bin"))
    env = environment(place, status) | settings
    for command in commands:
        done = subprocess.run([settings["SHELL"], "-c", command], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert bool(done.stdout) is bool(status)
        assert f"exit status {status}" in done.stdout or not status
    assert calls(place) == [
        "weekly weekly --store .tickstorm/history",
        "history status --store .tickstorm/history --max-age 10d",
    ]


# -- systemd


def units(place: Path) -> Path:
    """What the printed script writes; systemctl is a fake one that notes its calls."""
    (place / "bin" / "systemctl").write_text('#!/bin/sh\necho "systemctl $*" >> "$FAKE_CALLS"\n', encoding="utf-8")
    (place / "bin" / "systemctl").chmod(0o755)
    env = environment(place, 0, {"XDG_CONFIG_HOME": str(place / "config")})
    assert bash(printed("systemd", place=place), place, env) == 0
    return place / "config" / "systemd" / "user"


def test_systemd_gets_four_units_and_its_timers_are_started(place: Path) -> None:
    folder = units(place)
    assert sorted(path.name for path in folder.iterdir()) == [
        "tickstorm-status.service", "tickstorm-status.timer", "tickstorm-weekly.service", "tickstorm-weekly.timer",
    ]  # fmt: skip
    assert calls(place)[-1] == "systemctl --user enable --now tickstorm-weekly.timer tickstorm-status.timer"
    (place / "calls").unlink()
    for name, wanted in (
        ("weekly", "weekly weekly --store .tickstorm/history"),
        ("status", "history status --store .tickstorm/history --max-age 10d"),
    ):
        text = (folder / f"tickstorm-{name}.service").read_text(encoding="utf-8")
        (line,) = re.findall(r"^ExecStart=(.*)$", text, re.M)
        status = subprocess.run(shlex.split(line), env=environment(place, 3), cwd=place, check=False).returncode
        assert status == 3
        assert calls(place)[-1] == wanted


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on PATH")
def test_systemd_finds_nothing_wrong_in_the_units(place: Path) -> None:
    paths = sorted(map(str, units(place).iterdir()))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", *paths], capture_output=True, text=True, check=False,
        env=os.environ | {"XDG_RUNTIME_DIR": str(place)},
    )  # fmt: skip
    wrong = [line for line in done.stderr.splitlines() if "tickstorm" in line]
    assert wrong == [], done.stderr


# -- all four


@pytest.mark.parametrize("kind", JOBS)
def test_no_file_has_a_secret_a_make_or_a_blank_left(place: Path, kind: str) -> None:
    text = SAFE.sub("", printed(kind, place=place))
    lines = [line.split("#")[0] for line in text.splitlines()]
    assert not re.search(r"\bmake\b", "\n".join(lines))
    assert not re.search(r"@[A-Z_]+@", text)
    assert not re.search(r"(?i)(password|secret|token)\s*[:=]\s*[\"']?[\w-]", "\n".join(lines))
    assert "tickstorm weekly" in text or "tickstorm weekly" in text.replace('"', "")
    assert "history status" in text


def test_artefacts_are_always_kept(place: Path) -> None:
    made = yaml.safe_load(printed("github", place=place))
    (kept,) = [s for s in made["jobs"]["weekly"]["steps"] if s.get("uses", "").startswith("actions/upload-artifact@")]
    assert kept["if"] == "always()"
    assert kept["with"]["path"] == "reports/"


def test_an_external_target_is_named_and_its_password_stays_outside(place: Path) -> None:
    quick = (Path(__file__).parents[2] / "profiles" / "tickstock-baseline.toml").read_text(encoding="utf-8")
    target = '[target]\nkind = "external"\nredis = "r:6379"\ngateway = "g:5000"\npostgres = "p:5432"\n'
    target += 'gateway_http = "g:5001"\n'
    mine = place / "first" / "my profile.toml"
    mine.write_text(quick.replace("\n[run]\n", f"\n{target}\n[run]\n", 1), encoding="utf-8")
    made = yaml.safe_load(printed("github", str(mine), place=place))
    (weekly,) = [step for step in made["jobs"]["weekly"]["steps"] if step.get("name") == "Weekly"]
    assert weekly["env"]["TEST_DB_PASSWORD"] == "${{ secrets.TEST_DB_PASSWORD }}"
    env = environment(place, 0, {"STORE": str(place / "s")})
    assert bash(weekly["run"], place / "first", env) != 0  # nothing says what is tested
    assert bash(weekly["run"], place / "first", env | {"TARGET_VERSION": "v1 of it"}) == 0
    assert calls(place) == [f"weekly {mine} --store {place / 's'} --target-version v1 of it"]
    assert "tickstorm.env" in printed("cron", str(mine), place=place)
    assert "EnvironmentFile=" in printed("systemd", str(mine), place=place)


def test_another_kind_and_a_profile_that_is_not_there_are_refused(place: Path) -> None:
    from loadtests.cli.ci_command import print_job

    with pytest.raises(BadInput, match="did you mean"):
        print_job("githb", [])
    with pytest.raises(BadInput, match="no such profile"):
        printed("github", "nothing-like-it", place=place)
