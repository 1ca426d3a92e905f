"""Do all ways to start the same calm run come to the same exact account?  Alone, with workers, apart, by plain Locust.

The runs go side by side, the first on the shared stack, each of the others on one that it starts and stops itself.
"""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import texts
from launching import PAGE, Bench, Run, Started, free_port

from loadtests.model.codec import Frame, decode, pack
from loadtests.model.ids import unpack_stream
from loadtests.model.records import Closing, Consumed, Deviations, Published, Record, Subscription
from loadtests.model.results import from_json, to_json

pytestmark = pytest.mark.e2e
FILES = ("results.json", "report.html", "junit.xml")
TOP = [
    "schema", "run", "verdict", "reasons", "checks", "phases", "delivery", "latency_ms", "service_ms", "own_lag_ms",
    "blocked_ms", "read_delay_ms", "calm_latency_ms", "queries", "faults", "recovery", "growth", "routes", "timeline",
    "histograms", "effective", "harness", "log", "notes", "repeated", "interference", "slowest_client_p95_ms",
    "requests",
    "capacity",
]  # fmt: skip
DELIVERY = [
    "published", "failed", "unknown", "not_offered", "offered", "owed", "unique", "repeated", "reordered", "foreign",
    "undecided", "late", "lost", "rate", "received_per_s", "rpo_s", "away", "delivered", "delivered_of_owed", "unasked",
    "superseded", "stray", "undecodable", "protocol", "altered", "restamped", "contents_checked", "contents",
    "slow_readers",
]  # fmt: skip
LOST = ["total", "defect", "charged", "injector_at_most", "broker", "unattributed", "not_replayed"]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run that is over."""

    status: int
    child: Started
    run: Run


@dataclass(frozen=True, kw_only=True)
class Together:
    """All runs of this module, and who served before and after them."""

    runs: dict[str, Ended]
    before: dict[str, tuple[int | None, str]]
    after: dict[str, tuple[int | None, str]]


RARELY = "prove_all"
"""Ways to start that few changes break: played where tests with this mark are."""
rarely = pytest.mark.prove_all
WAYS = ("workers", "own worker", "apart", "plain")


@pytest.fixture(scope="module")
def together(bench: Bench, asked: frozenset[str]) -> Together:
    profile, port = bench.profile(texts.CALM, "calm"), str(free_port())
    before = bench.services()
    master = ["--master", "--expect-workers", "2", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    worker = ["--worker", "--headless", "--master-host", "127.0.0.1", "--master-port", port]
    children = {"alone": bench.start("run", profile, **PAGE)}
    children |= {} if RARELY not in asked else {
        "workers": bench.start("run", profile, "--workers", "2", **PAGE, **bench.own("workers")),
        "own worker": bench.start(
            "run", profile, "--workers", "2", "--set", "run.spread=apart", **PAGE, **bench.own("own-worker")
        ),
        "apart": bench.locust("--headless", "--run-profile", profile, *master, **bench.own("apart")),
        "plain": bench.locust("--headless", "--run-profile", profile, **bench.own("plain")),
        "fewer": bench.locust(
            "--headless", "--run-profile", profile, "-u", "8", "--run-set", "run.spread=apart", **bench.own("fewer")
        ),
    }  # fmt: skip
    helpers = [bench.locust(*worker), bench.locust(*worker)] if "apart" in children else []
    runs = {
        name: Ended(status=child.wait(90), child=child, run=bench.run_of(child)) for name, child in children.items()
    }
    for helper in helpers:
        helper.wait(20)
    return Together(runs=runs, before=before, after=bench.services())


@pytest.fixture(scope="module")
def alone(together: Together) -> Run:
    return together.runs["alone"].run


@pytest.mark.parametrize("name", ["alone", *(pytest.param(n, marks=rarely) for n in WAYS)])
def test_the_account_is_exact_and_the_verdict_pass(together: Together, name: str) -> None:
    ended = together.runs[name]
    assert ended.status == 0, ended.child.said
    results = ended.run.results
    assert results["verdict"] == "PASS", results["reasons"]
    found = {
        key: results["delivery"][key] for key in ("published", "not_offered", "offered", "owed", "unique", "repeated")
    }
    owed = texts.PUBLISHED * texts.CONSUMERS
    assert found == {
        "published": texts.PUBLISHED, "not_offered": 0, "offered": owed, "owed": owed, "unique": owed, "repeated": 0,
    }  # fmt: skip
    assert results["delivery"]["lost"]["total"] == results["delivery"]["failed"] == 0
    assert results["run"]["finish"] == "plan done"
    assert results["harness"]["receive"] == "hub-epoll"


def test_results_have_the_keys_of_the_contract_and_read_back_to_the_same_bytes(alone: Run) -> None:
    results = alone.results
    assert list(results) == TOP
    assert list(results["delivery"]) == DELIVERY
    assert list(results["delivery"]["lost"]) == LOST
    stored = (alone.folder / "results.json").read_bytes()
    assert to_json(from_json(stored)) == stored


def test_every_file_is_there_and_nothing_else(alone: Run, together: Together) -> None:
    found = sorted(str(p.relative_to(alone.folder)) for p in alone.folder.rglob("*") if p.is_file())
    assert found == sorted(
        [
            *FILES,
            "profile.toml",
            "locust.log",
            "injector.log",
            "faults.journal",
            "history/main.tsh",
            "history/worker-0.tsh",
        ]
    )
    suite = ET.parse(alone.folder / "junit.xml").getroot()
    assert not suite.findall(".//failure")
    assert not suite.findall(".//error")
    assert len(suite.findall(".//testcase")) == len(alone.results["checks"])
    assert "report.html" in together.runs["alone"].child.said


@rarely
def test_a_run_without_the_page_has_all_else_and_shows_where(together: Together) -> None:
    plain = together.runs["plain"]
    assert not (plain.run.folder / "report.html").exists()
    assert (plain.run.folder / "junit.xml").exists()
    assert f"report: {plain.run.folder / 'results.json'}" in plain.child.said


@pytest.mark.parametrize("name", ["alone", *(pytest.param(n, marks=rarely) for n in (*WAYS, "fewer"))])
def test_nothing_is_left_running(together: Together, name: str) -> None:
    assert together.runs[name].child.nothing_left()


def test_the_stack_is_left_as_it_was(together: Together, bench: Bench) -> None:
    assert together.before == together.after
    assert bench.faults() == []


@rarely
@pytest.mark.parametrize("name", ["workers", "apart"])
def test_workers_share_publishers_and_consumers(together: Together, name: str) -> None:
    run = together.runs[name].run
    assert run.results["run"]["workers"] == 2
    for worker in ("worker-0", "worker-1"):
        confirmed = {s.consumer for s in run.of(Subscription, worker) if s.step == "confirmed"}
        wrote = {unpack_stream(stream).slot for r in run.of(Published, worker) for stream in r.stream}
        assert len(confirmed) >= 0.4 * texts.CONSUMERS
        assert len(wrote) >= 0.4 * texts.PUBLISHERS


def test_alone_publishers_are_beside_consumers_and_results_say_so(alone: Run) -> None:
    assert alone.results["run"]["apart"] is False


@rarely
def test_a_worker_may_have_all_publishers_and_no_consumer_and_results_say_so(together: Together) -> None:
    run = together.runs["own worker"].run
    assert (run.results["run"]["apart"], run.results["run"]["workers"]) == (True, 2)
    assert "publishers apart from consumers" in (run.folder / "report.html").read_text("utf-8")
    found = set()
    for worker in ("worker-0", "worker-1"):
        confirmed = {s.consumer for s in run.of(Subscription, worker) if s.step == "confirmed"}
        wrote = {unpack_stream(stream).slot for r in run.of(Published, worker) for stream in r.stream}
        found.add((len(wrote), len(confirmed)))
    assert found == {(texts.PUBLISHERS, 0), (0, texts.CONSUMERS)}


@rarely
def test_an_explicit_user_count_scales_the_consumers_and_is_an_override(together: Together) -> None:
    ended = together.runs["fewer"]
    assert ended.status == 0, ended.child.said
    results = ended.run.results
    assert results["delivery"]["owed"] == results["delivery"]["unique"] == texts.PUBLISHED * 4
    assert {e["key"]: (e["value"], e["from"]) for e in results["effective"]}["consumers"] == ("4", "option")
    assert any("override: 4 consumers instead of 10" in line for line in results["log"])


@rarely
def test_apart_with_one_process_is_no_error_but_told(together: Together) -> None:
    ended = together.runs["fewer"]
    told = "publishers and consumers run together, in one process"
    assert told in ended.child.said
    assert any(told in line for line in ended.run.results["log"])
    assert ended.run.results["run"]["apart"] is False


# -- judged again


@dataclass(frozen=True, kw_only=True)
class Again:
    """Copies of stored runs, judged again."""

    same: dict[str, Path]  # ways to start -> copy
    limited: Path
    before_limited: dict[str, bytes]
    planted: Path
    status: dict[str, int]


def copy_of(run: Run, folder: Path) -> Path:
    shutil.copytree(run.folder, folder)
    return folder


def stripped(folder: Path) -> Path:
    for name in FILES:
        (folder / name).unlink()
    return folder


@pytest.fixture(scope="module")
def again(together: Together, bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Again:
    folder = tmp_path_factory.mktemp("again")
    alone = together.runs["alone"].run
    same = {
        n: stripped(copy_of(together.runs[n].run, folder / f"copy of {n}"))
        for n in ("alone", "workers")
        if n in together.runs
    }
    limited = copy_of(alone, folder / "limited")
    before = {file: (limited / file).read_bytes() for file in FILES}
    with_gap = stripped(copy_of(alone, folder / "planted"))
    plant_gap(with_gap / "history" / "worker-0.tsh")
    children = {name: bench.start("analyze", str(path), **PAGE) for name, path in same.items()}
    children["limited"] = bench.start("analyze", str(limited), "--set", "thresholds[2].at_most=0.0001", **PAGE)
    children["planted"] = bench.start("analyze", str(with_gap), "--quiet", **PAGE)
    status = {name: child.wait() for name, child in children.items()}
    return Again(same=same, limited=limited, before_limited=before, planted=with_gap, status=status)


@pytest.mark.parametrize("name", ["alone", pytest.param("workers", marks=rarely)])
def test_analyze_rebuilds_every_file_byte_for_byte(together: Together, again: Again, name: str) -> None:
    assert again.status[name] == 0
    for file in FILES:
        assert (again.same[name] / file).read_bytes() == (together.runs[name].run.folder / file).read_bytes(), file


def test_other_limits_give_another_verdict_beside_the_first(again: Again) -> None:
    assert again.status["limited"] == 1
    assert Run(again.limited / "again").results["verdict"] == "FAIL"
    assert sorted(p.name for p in (again.limited / "again").iterdir()) == sorted(FILES)
    assert {file: (again.limited / file).read_bytes() for file in FILES} == again.before_limited


def test_one_planted_gap_is_one_loss_in_all_three_files(alone: Run, again: Again) -> None:
    assert again.status["planted"] == 1
    found, before = Run(again.planted).results["delivery"], alone.results["delivery"]
    assert found["lost"]["defect"] == found["lost"]["total"] == 1
    assert found["unique"] == before["unique"] - 1
    assert found["owed"] == before["owed"]
    for file in FILES:
        assert (again.planted / file).read_bytes() != (alone.folder / file).read_bytes(), file


def plant_gap(path: Path) -> None:
    """The first consumer in a closing has missed one message: skipped, so counted neither there nor as received."""
    frames = [frame for frame in decode(path.read_bytes()) if isinstance(frame, Frame)]
    closing = next(r for frame in frames for r in frame.records if isinstance(r, Closing))
    missed = (closing.first[0] + closing.last[0]) // 2
    consumer, epoch = closing.consumer[0], closing.epoch[0]
    gap = Deviations(
        kind=["gap"],
        consumer=[consumer],
        epoch=[epoch],
        stream=[closing.stream[0]],
        first=[missed],
        last=[missed],
        at_ns=[3_000_000_000],
    )
    group = next(s.group for f in frames for s in f.records if isinstance(s, Subscription) and s.consumer == consumer)
    received = next(
        r for f in frames for r in f.records if isinstance(r, Consumed) and r.group == group and r.unique > 1
    )

    def changed(record: Record) -> list[Record]:
        if record is closing:
            own = msgspec.structs.replace(
                closing, consumer=[consumer], epoch=[epoch], unique=[closing.unique[0] - 1, *closing.unique[1:]]
            )
            rest = msgspec.structs.replace(closing, consumer=closing.consumer[1:], epoch=closing.epoch[1:])
            return [gap, own, rest] if rest.consumer else [gap, own]
        if record is received:
            buckets, counts = received.latency
            fewer = (buckets, [counts[0] - 1, *counts[1:]])
            return [msgspec.structs.replace(received, unique=received.unique - 1, latency=fewer)]
        return [record]

    path.write_bytes(
        b"".join(b"".join(pack(f.number, [new for old in f.records for new in changed(old)])) for f in frames)
    )


def test_no_file_for_people_holds_a_path_of_this_machine(alone: Run, bench: Bench) -> None:
    for file in FILES:
        assert str(bench.folder).encode() not in (alone.folder / file).read_bytes(), file
