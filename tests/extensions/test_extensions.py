"""Does a part from outside the tree do all that a part of ours does?  One of each kind, played on real servers.

The examples are found as an installed package is: their folder, with its `.dist-info`, is on the path of every process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.model.errors import BadInput
from loadtests.model.kinds import Extension, Measure, UserKind, add, added, registry
from loadtests.model.logins import redis_login
from loadtests.stack.local import LocalStack
from tests.e2e.launching import Bench, Run, Started, free_port, get, until

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
INSTALLED = {"PYTHONPATH": os.pathsep.join((str(HERE), os.environ.get("PYTHONPATH", "")))}
COMMON = """
[run]
duration_s = 9
warm_up_s = 1
drain_s = 2
connect_s = 20

[[families]]
name = "patterns"
channel = "tickstock.events.patterns"
event = "pattern_detected"
symbols = 2
keys = { pattern = ["Doji"] }

[[publishers]]
name = "detector"
families = ["patterns"]
shape = { kind = "constant", rate_per_s = 20 }

[[users]]
name = "watch"
kind = "poller"
count = 2
polls_per_s = 15

[[thresholds]]
measure = "lost_defect"
at_most = 0

[[thresholds]]
measure = "published"
at_least = 100
phases = ["all"]

[[thresholds]]
measure = "polled_p95_ms"
at_most = 2000
phases = ["all"]
"""
ON_THE_STACK = """
name = "extended"
question = "Are the clients served while a link of theirs goes over a satellite for two seconds?"

[[consumers]]
name = "plain"
count = 3

[[faults]]
name = "orbit"
kind = "satellite"
link = "client-gateway"
hops = 1
at_s = 1
for_s = 1

[[faults]]
name = "train"
kind = "roaming-consumers"
at_s = 5
for_s = 1

[[publishers]]
name = "bell"
families = ["patterns"]
shape = { kind = "opening-bell", base_per_s = 5, peak_per_s = 60, length_s = 1 }

[recovery]
limit_s = 2

[steady]
hold_s = 1
"""
ELSEWHERE = """
name = "events-and-entries"
question = "Does a gateway of Server-Sent Events hand on all, while entries go into a stream beside it?"

[target]
kind = "external"
redis = "REDIS"
gateway = "GATEWAY"
gateway_http = "GATEWAY"
websocket_path = "/events"

[[families]]
name = "entries"
channel = "tickstorm.extensions.entries"
event = "pattern_detected"
symbols = 2
keys = { pattern = ["Hammer"] }
mode = "unmeasured"

[[publishers]]
name = "writer"
families = ["entries"]
sink = "stream"
shape = { kind = "constant", rate_per_s = 15 }

[[consumers]]
name = "browsers"
count = 4
transport = "sse"
subscribe = { families = ["patterns"] }
"""


@pytest.fixture(scope="module")
def bench(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(stack, tmp_path_factory.mktemp("extensions"))
    made.environment |= INSTALLED
    yield made
    made.close()


@pytest.fixture(scope="module")
def gateway(stack: LocalStack) -> Iterator[str]:
    """host:port of a gateway of Server-Sent Events behind the stack's Redis."""
    address = stack.status().services["redis"].address
    login = redis_login(address, os.environ)
    assert login is not None
    port, (host, _, redis_port) = free_port(), address.partition(":")
    argv = [sys.executable, str(HERE / "sse_gateway.py"), str(port), host, redis_port, login.user]
    with subprocess.Popen(argv, env={**os.environ, "REDIS_PASSWORD": login.password}) as child:
        try:
            until(lambda: _healthy(port), 20, "the gateway answers")
            yield f"127.0.0.1:{port}"
        finally:
            child.terminate()


def _healthy(port: int) -> bool:
    try:
        return bool(get(f"http://127.0.0.1:{port}/health"))
    except OSError:
        return False


def played(bench: Bench, text: str, **environment: str) -> tuple[Started, Run]:
    """A run to its end."""
    page = {"TICKSTORM_HTML": "1"}
    child = bench.start("--extension", "examples", "run", bench.profile(text), **page, **environment)
    run = bench.run_of(child)
    assert child.wait(90) == 0, child.said
    return child, run


def test_a_fault_a_user_class_a_measure_and_a_column_are_played(bench: Bench) -> None:
    _, run = played(bench, ON_THE_STACK + COMMON)
    results = run.results
    fault, roamed = results["faults"]
    assert (fault["kind"], fault["asked"]["hops"], fault["proved"], fault["lifted_by"]) == (
        "satellite",
        1,
        True,
        "plan",
    )
    assert fault["effective"]["added_rtt_ms"] > 400  # one hop each way
    assert (roamed["kind"], roamed["proved"], roamed["lifted_by"]) == ("roaming-consumers", True, "plan")
    assert (roamed["effective"]["closed"], roamed["effective"]["back"]) == (3, 3)
    assert results["delivery"]["published"] == 10 * 20 + opening_bell_count()
    polled = run.check("polled_p95_ms")
    assert polled["verdict"] == "PASS"
    assert polled["measured"] < 2000
    (spreads,) = results["requests"].values()
    assert list(results["requests"]) == ["poller watch /health"]
    assert 200 <= spreads["request"]["count"] <= 2 * 15 * 10 + 2
    page = (run.folder / "report.html").read_text("utf-8")
    assert '<th scope="col">in force</th>' in page
    assert f"{fault['healed_s'] - fault['injected_s']:.2f} s</td>" in page
    assert "poller watch /health" in page


def opening_bell_count() -> int:
    """Messages of "bell" in ten seconds: from a peak of 60 per second halved each second to the base of 5."""
    at_s, count = 0.0, 0
    while at_s < 10:
        at_s, count = at_s + 1 / (5 + 55 * 0.5**at_s), count + 1
    return count


def test_a_sink_and_a_transport_are_played(bench: Bench, gateway: str, stack: LocalStack) -> None:
    redis = stack.status().services["redis"].address
    text = (ELSEWHERE + COMMON).replace("REDIS", redis).replace("GATEWAY", gateway)
    _, run = played(bench, text, TICKSTORM_LOGINS=os.environ["TICKSTORM_LOGINS"])
    results = run.results
    assert results["delivery"]["owed"] >= 4 * 20 * 6
    assert results["delivery"]["lost"]["total"] == 0
    assert {route["group"] for route in results["routes"]} >= {"patterns/browsers"}
    assert entries(redis) == 15 * 10  # the warm-up's second, and nine more


def entries(redis: str) -> int:
    """How many entries the stream has, asked over a connection of our own."""
    from loadtests.inject.servers import RedisServer

    server = RedisServer(redis)
    try:
        return int(server.ask("XLEN", "tickstorm.extensions.entries"))
    finally:
        server.close()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("unheard-of", 'found "unheard-of", allowed an installed extension (tickstorm.extensions): examples'),
        ("broken", "extension broken: tickstorm_examples:NOTHING cannot be loaded: AttributeError"),
    ],
)
def test_an_extension_that_is_not_there_is_bad_input(names: str, told: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken-1.0.dist-info"
    if names == "broken":
        broken.mkdir()
        (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
        (broken / "entry_points.txt").write_text("[tickstorm.extensions]\nbroken = tickstorm_examples:NOTHING\n")
    path = os.pathsep.join((str(tmp_path), INSTALLED["PYTHONPATH"]))
    for argv, environment in (
        (["--extension", names, "profiles"], {}),
        (["profiles"], {"TICKSTORM_EXTENSIONS": names}),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "loadtests.cli", *argv],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, told in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


def test_without_its_extension_a_profile_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "extended.toml"
    path.write_text(ON_THE_STACK + COMMON)
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.cli", "run", str(path)],
        cwd=ROOT, env={**os.environ, **INSTALLED}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    for told in ('users[0].kind: found "poller", allowed nothing', 'faults[0].kind: found "satellite"',
                 'thresholds[2].measure: found "polled_p95_ms"'):  # fmt: skip
        assert told in done.stderr, done.stderr


def test_a_row_that_comes_too_late_or_twice_is_an_error() -> None:
    added("measures")
    with pytest.raises(RuntimeError, match="measures is in use"):
        add(Extension(measures=(Measure(name="late", by="nowhere"),)))
    row = UserKind(name="publisher", by="nowhere:Nobody")
    with pytest.raises(BadInput, match='found "publisher" twice'):
        registry("users", (row, row))


def test_the_guide_is_these_files() -> None:
    guide = (ROOT / "docs" / "extending.md").read_text("utf-8")
    for path in (HERE / "tickstorm_examples").glob("*.py"):
        assert f"tests/extensions/tickstorm_examples/{path.name}" in guide, path.name


def test_the_examples_are_installed_as_a_package_is() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import json\nfrom importlib.metadata import entry_points\n"
         "print(json.dumps([p.value for p in entry_points(group='tickstorm.extensions')]))"],
        env={**os.environ, **INSTALLED}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found: list[Any] = json.loads(said)
    assert "tickstorm_examples:EXTENSION" in found
    assert tomllib.loads(COMMON)["users"][0]["kind"] == "poller"
