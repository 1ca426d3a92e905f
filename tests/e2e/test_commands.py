"""Does every command answer in a sentence: what is there, what is wrong, and with which exit status?"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import texts
from launching import Bench, Started, get

from loadtests.harness.files import shipped_profiles
from loadtests.model.stackwire import LINKS, SERVICES

pytestmark = [pytest.mark.e2e, pytest.mark.group("COMMANDS")]


@dataclass(frozen=True, kw_only=True)
class Said:
    """A command that has ended."""

    status: int
    text: str
    child: Started


BAD = {
    "unknown key": (["run", "{profile}", "--set", "run.nonsense=1"], "run.nonsense", 2),
    "bad value": (["run", "{profile}", "--set", "run.duration_s=-3"], "run.duration_s", 2),
    "unknown table": (["run", "{unknown}"], "nonsense", 2),
    "not TOML": (["run", "{broken}"], "broken.toml", 2),
    "missing file": (["run", "/no/such/profile.toml"], "there is no such profile", 2),
    "mistyped profile": (["run", "frist-run"], 'did you mean "first-run"?', 2),
    "no file to replay": (["run", "{replay}"], "publishers[0].shape.file: day.csv: No such file", 2),
    "no file to replay in Locust": (["LOCUST", "--headless", "--run-profile", "{replay}"], "day.csv: No such file", 2),
    "a folder": (["run", "{folder}"], "cannot be read", 2),
    "no such run": (["analyze", "20200101-000000-nothing-0000"], "there is no such run", 2),
    "unknown port name": (["stack", "up", "--port", "rediss=7000"], "rediss", 2),
    "no number": (["stack", "up", "--port", "redis=many"], "allowed is a port", 2),
    "ports too late": (["stack", "up", "--port", "redis=7000"], "is up already", 2),
    "web port in use": (["run", "{profile}", "--web", "--web-port", "{used}"], "in use", 2),
    "no consumer left": (["LOCUST", "--headless", "--run-profile", "{profile}", "-u", "4"], "users: found 4", 2),
    "unknown profile in Locust": (["LOCUST", "--headless", "--run-profile", "no-such"], "no-such", 2),
    "bad value in Locust": (["LOCUST", "--headless", "--run-set", "run.duration_s=-1"], "run.duration_s", 2),
}
RARELY = frozenset(
    {"bad value", "unknown table", "not TOML", "a folder", "no number", "bad value in Locust", "run help"}
    | {"no file to replay in Locust", "analyze help", "stack help", "mistyped profile", "environment"}
)
"""Whose like is tried in any case."""
GOOD = {
    "help": (["--help"], ["run", "analyze", "doctor", "profiles", "stack"]),
    "run help": (["run", "--help"], ["--set", "--workers", "--web", "--seed"]),
    "analyze help": (["analyze", "--help"], ["--set", "--out", "--quiet"]),
    "stack help": (["stack", "--help"], ["up", "down", "status", "heal"]),
    "profiles": (["profiles"], shipped_profiles()),
    "doctor": (["doctor", "{profile}"], ["File descriptors", "redis at", "gateway at", "toxiproxy at", "postgres at"]),
    "status": (["stack", "status"], [*SERVICES, *LINKS]),
    "status as JSON": (["stack", "status", "--json"], ["supervisor_pid"]),
    "heal": (["stack", "heal"], ["nothing to heal"]),
    "environment": (["help", "environment"], ["TICKSTORM_REPORTS", "TEST_REDIS_HOST"]),
}


@pytest.fixture(scope="module")
def said(bench: Bench, asked: frozenset[str]) -> Iterator[dict[str, Said]]:
    """All commands, a few at a time."""
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        places = {
            "profile": bench.profile(texts.CALM, "calm"),
            "unknown": bench.profile(f"{texts.CALM}\n[nonsense]\na = 1\n", "unknown"),
            "broken": bench.profile("[[[", "broken"),
            "replay": bench.profile(
                texts.CALM.replace('kind = "constant", rate_per_s = 10', 'kind = "replay", file = "day.csv"'), "replay"
            ),
            "folder": str(bench.folder),
            "used": str(used.getsockname()[1]),
        }
        commands = {n: argv for n, (argv, *_) in [*BAD.items(), *GOOD.items()]}
        found: dict[str, Said] = {}
        waiting = [name for name in commands if name in asked]
        while waiting:
            turn, waiting = waiting[:4], waiting[4:]
            running = {name: start(bench, [word.format(**places) for word in commands[name]]) for name in turn}
            for name, child in running.items():
                status = child.wait(30)
                found[name] = Said(status=status, text=child.said, child=child)
        yield found


def start(bench: Bench, argv: list[str]) -> Started:
    return bench.locust(*argv[1:]) if argv[0] == "LOCUST" else bench.start(*argv)


def at_times(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.prove_all) if name in RARELY else name for name in names]


@pytest.mark.parametrize("name", at_times(BAD))
def test_bad_input_is_answered_in_a_sentence_and_starts_nothing(said: dict[str, Said], name: str) -> None:
    _, text, status = BAD[name]
    assert said[name].status == status, said[name].text
    assert text in said[name].text
    assert "Traceback" not in said[name].text
    assert said[name].child.nothing_left()


def test_bad_input_leaves_no_folder_of_a_run(said: dict[str, Said], bench: Bench) -> None:
    assert list(bench.reports.iterdir()) == []


@pytest.mark.parametrize("name", at_times(GOOD))
def test_a_good_command_says_what_it_is_asked_for(said: dict[str, Said], name: str) -> None:
    assert said[name].status == 0, said[name].text
    for text in GOOD[name][1]:
        assert text in said[name].text, text


def test_the_status_for_programs_has_its_shape(said: dict[str, Said], bench: Bench) -> None:
    status = json.loads(said["status as JSON"].text)
    assert tuple(status["services"]) == SERVICES
    assert tuple(status["links"]) == LINKS
    for service in status["services"].values():
        assert {"address", "pid", "version", "state", "origin"} <= service.keys()
        assert service["state"] == "ready"
    for link in status["links"].values():
        assert {"proxy", "listen", "upstream"} <= link.keys()
    proxies = get(f"http://{status['services']['toxiproxy']['address']}/proxies")
    assert set(proxies) == {link["proxy"] for link in status["links"].values()}
    assert {p["listen"] for p in proxies.values()} == {link["listen"] for link in status["links"].values()}


# -- stacks of their own


@pytest.fixture(scope="module")
def elsewhere(bench: Bench, asked: frozenset[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Said]:
    """Commands about other stacks: none, one for a run, a port that is taken, a server that dies."""
    folder = tmp_path_factory.mktemp("elsewhere")
    programs = folder / "programs"
    programs.mkdir()
    fake = programs / "redis-server"
    fake.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no memory today')\n", encoding="utf-8")
    fake.chmod(0o755)
    own = bench.profile(texts.CALM, "own")
    path = f"{programs}:{bench.environment['PATH']}"
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        port = used.getsockname()[1]
        own_run = ["run", Path(own).name, "--set", "run.duration_s=2"]
        children = {
            "none": bench.start("stack", "status", "--json", TICKSTORM_STACK=str(folder / "none")),
            "nothing to stop": bench.start("stack", "down", TICKSTORM_STACK=str(folder / "none")),
            "port in use": bench.start("stack", "up", "--port", f"redis={port}", TICKSTORM_STACK=str(folder / "port")),
            "dying": bench.start("run", own, TICKSTORM_STACK=str(folder / "dying"), PATH=path),
        }  # fmt: skip
        if "prove_all" in asked:
            places = {"TICKSTORM_STACK": "own-stack", "TICKSTORM_REPORTS": bench.reports.name}
            children["own"] = bench.start(*own_run, folder=bench.folder, **places)
            programs = {"TICKSTORM_STACK": str(folder / "programs-stack"), "TICKSTORM_REPORTS": str(folder / "reports")}
            children["for a program"] = bench.start("run", own, "--json", "--quiet", *own_run[2:], **programs)
        return {name: Said(status=c.wait(60), text=c.said, child=c) for name, c in children.items()}


def test_a_stack_that_is_not_there_is_an_empty_status(elsewhere: dict[str, Said]) -> None:
    assert elsewhere["none"].status == 3
    assert json.loads(elsewhere["none"].text) == {"services": {}, "links": {}}
    assert elsewhere["nothing to stop"].status == 0


@pytest.mark.parametrize(
    ("name", "status", "texts"),
    [("port in use", 2, ("redis", "use")), ("dying", 3, ("redis", "no memory today"))],
)
def test_a_stack_that_cannot_start_says_why_and_leaves_nothing(
    elsewhere: dict[str, Said], name: str, status: int, texts: tuple[str, ...]
) -> None:
    found = elsewhere[name]
    assert found.status == status, found.text
    for text in texts:
        assert text in found.text
    assert "Traceback" not in found.text
    assert found.child.nothing_left()


@pytest.mark.prove_all
def test_without_a_stack_a_run_starts_one_and_stops_it(elsewhere: dict[str, Said], bench: Bench) -> None:
    """From another folder, all paths relative to it: Locust works in ours, and must mean the same files."""
    found = elsewhere["own"]
    assert found.status == 0, found.text
    assert "starting one for this run" in found.text
    assert bench.run_of(found.child).results["verdict"] == "PASS"
    assert (bench.folder / "own-stack").is_dir()
    assert found.child.nothing_left()


@pytest.mark.prove_all
def test_for_a_program_a_run_prints_json_and_quiet_nothing_else_on_either_stream(elsewhere: dict[str, Said]) -> None:
    found = elsewhere["for a program"]
    said = json.loads(found.text)
    assert (found.status, said["verdict"], said["exit_status"]) == (0, "PASS", 0)
    assert json.loads(Path(said["results"]).read_bytes())["reasons"] == said["reasons"]
    assert said["report"] is None or Path(said["report"]).is_file()
