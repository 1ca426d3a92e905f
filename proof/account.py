"""Does the tool find every lie, and no other, in every way to run?  Its account against the lying gateway's book.

The ways: one process, workers, processes started apart, one of them killed, users taken away, runs in Locust's web UI.
What a killed process knew is unknown, and nothing else is.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from loadtests.model.codec import Frame, decode
from loadtests.model.ids import SLICE_NS
from loadtests.model.records import Published
from proof.bench import DIRECT, LOCUST, ROOT, Bench, BenchProcess, GatewayProcess, ProofError, RunOutcome, wait_for
from proof.comparing import compare
from proof.ground_truth_log import read_book
from proof.history import Found, read_history
from proof.planting import Planting, planting
from proof.sections import Options, Row, SectionResult
from proof.truth import STRANGE, Truth

FULL = 10_200_000
"""Some more than ten million, since lies take some away."""


def prove_account(bench: Bench, options: Options) -> SectionResult:
    """The section. Raises HarnessError where it could not be carried out."""
    began = time.monotonic()
    made = planting(deliveries=options.deliveries, seed=options.seed)
    rows, note = one_run(bench, made, options)
    if options.full:
        full = planting(deliveries=max(FULL, options.deliveries), seed=options.seed, full=True)
        more, other = one_run(bench, full, options, workers=2)
        rows += [replace(row, what=f"full: {row.what}") for row in more]
        rows += prove_ways(bench, options)
        note += other
    return SectionResult(name="account", rows=tuple(rows), seconds=time.monotonic() - began, notes=tuple(note))


def one_run(bench: Bench, made: Planting, options: Options, *, workers: int = 0) -> tuple[list[Row], list[str]]:
    """A run on a gateway of its own, compared; notes with its sizes."""
    gateway = bench.start_gateway(made.plan)
    outcome = bench.run(made.text(bench.target(gateway)), workers=workers, timeout_s=900)
    options.say(f"run {outcome.run} has ended; comparing it with the book")
    began = time.monotonic()
    rows, deliveries = judged(made, gateway, outcome)
    contract = made.contract
    note = (
        f"{deliveries:,} deliveries to {contract.consumer_count} consumers from {contract.publisher_count} publishers, "
        f"{workers or 'no'} workers; compared in {time.monotonic() - began:.1f} s"
    )
    return rows, [note]


def judged(made: Planting, gateway: GatewayProcess, outcome: RunOutcome) -> tuple[list[Row], int]:
    """Rows of a run that has ended, and how many deliveries there were."""
    truth = Truth(read_book(gateway.close_book()), made.contract, outcome.run)
    deliveries = truth.check()
    return compare(truth, read_history(outcome.folder), outcome.results), deliveries


# -- every way to run


SMALL = 8_000
UNREAD_NS = 250_000_000
"""What was sent so shortly before a consumer left may have lain in its socket unread."""

UNTOLD_SLICES = 20
"""So long before its end a killed process may not have told how its publishes were answered."""


def prove_ways(bench: Bench, options: Options) -> list[Row]:
    """One row for each way: how many comparisons it makes, and how many were equal."""
    made = planting(deliveries=SMALL, seed=options.seed)
    rows = []
    for name, way in WAYS.items():
        options.say(f"way to run: {name} ...")
        rows += [summed(run, found) for run, found in way(bench, made).items()]
    return rows


def summed(what: str, rows: Sequence[Row]) -> Row:
    """Many comparisons as one row."""
    equal = sum(row.equal for row in rows)
    differences = tuple(f"{row.what}: {text}" for row in rows for text in row.differences[:2])
    return Row(
        what=what,
        planted=f"{len(rows)} comparisons",
        found=f"{equal} equal",
        equal=equal == len(rows) > 0,
        differences=differences[:10],
    )


# -- the ways


def with_workers(bench: Bench, made: Planting) -> dict[str, list[Row]]:
    """`tickstorm run --workers 2`: Locust's own processes."""
    gateway = bench.start_gateway(made.plan)
    outcome = bench.run(made.text(bench.target(gateway)), workers=2)
    truth = Truth(read_book(gateway.close_book()), made.contract, outcome.run)
    truth.check()
    found = read_history(outcome.folder)
    return {"two workers": [*compare(truth, found, outcome.results), *_shared(found)]}


def apart(bench: Bench, made: Planting) -> dict[str, list[Row]]:
    """Master and workers started apart."""
    gateway = bench.start_gateway(made.plan)
    processes = Apart(bench, made, gateway)
    folder = processes.end()
    truth = Truth(read_book(gateway.close_book()), made.contract, folder.name)
    truth.check()
    found = read_history(folder)
    return {"master and workers apart": [*compare(truth, found, _results(folder)), *_shared(found)]}


def killed(bench: Bench, made: Planting) -> dict[str, list[Row]]:
    """One of two workers is killed in the middle: of its consumers nothing is said, of the others everything."""
    gateway = bench.start_gateway(made.plan)
    processes = Apart(bench, made, gateway)
    processes.until_halfway(made)
    processes.workers[1].process.kill()
    folder = processes.end()
    found, results = read_history(folder), _results(folder)
    truth = Truth(read_book(gateway.close_book()), made.contract, folder.name)
    gone = {trouble.process: trouble.from_ns for trouble in found.trouble if trouble.to_ns < 0}
    rows = [Row(what="trouble names one worker", planted="1", found=str(len(gone)), equal=len(gone) == 1)]
    but = frozenset(consumer for (consumer, _), process in found.process_of.items() if process in gone)
    _unsure(truth, found, gone)
    rows += compare(truth, found, results, but=but)
    said = " ".join([*results["reasons"], *results["harness"]["trouble"]])
    named = [process for process in gone if process in said]
    rows.append(
        Row(what="the report names its scope", planted=str(list(gone)), found=str(named), equal=named == list(gone))
    )
    return {f"a worker killed, with {len(but)} consumers": rows}


def in_a_web_ui(bench: Bench, made: Planting) -> dict[str, list[Row]]:
    """Two runs in one process; in the second one users are taken away and come back."""
    gateway = bench.start_gateway(made.plan)
    web = WebUi(bench, made.text(bench.target(gateway)))
    first = web.run()
    users = made.contract.consumer_count + made.contract.publisher_count
    second = web.run(lambda: web.take_away_and_bring_back(users, users // 2))
    web.child.stop(signal.SIGINT)
    book = read_book(gateway.close_book())
    found: dict[str, list[Row]] = {}
    for name, folder in (("first run in a web UI", first), ("second run, users taken away and back", second)):
        truth, history = Truth(book, made.contract, folder.name), read_history(folder)
        truth.check()
        _unread(truth, history)
        found[name] = compare(truth, history, _results(folder))
    found["second run, users taken away and back"] += _respawned(history)
    return found


WAYS: dict[str, Callable[[Bench, Planting], dict[str, list[Row]]]] = {
    "workers": with_workers,
    "apart": apart,
    "killed": killed,
    "web": in_a_web_ui,
}


# -- what belongs to a way


def _shared(found: Found) -> list[Row]:
    """Both workers had consumers, or nothing was proved."""
    holders = {process for process in found.process_of.values() if process != "main"}
    return [Row(what="workers with consumers", planted="2", found=str(len(holders)), equal=len(holders) == 2)]


def _respawned(found: Found) -> list[Row]:
    """Consumers were taken away and came back, or nothing was proved; an edit of the count leaves publishers alone."""
    moved = {consumer for (consumer, _), edge in found.edges.items() if edge.why == "moved"}
    back = {consumer for consumer in moved if any(c == consumer and e > 0 for c, e in found.edges)}
    publishers = {stream >> 32 for stream in found.published if (stream >> 20) & 0xFFF}
    return [
        Row(what="consumers taken away and back", planted="some", found=str(len(back)), equal=bool(back)),
        Row(what="publishers taken away", planted="0", found=str(len(publishers)), equal=not publishers),
    ]


def _unread(truth: Truth, found: Found) -> None:
    """What lay unread in the socket of a consumer that Locust took away never arrived."""
    for place, connection in truth.connections.items():
        edge = found.edges.get(place)
        if edge is None or edge.why != "moved":
            continue
        to_ns = edge.to_ns + found.origin_ns
        connection.lies = [lie for lie in connection.lies if lie.kind not in STRANGE or lie.at_ns < to_ns]
        for got in list(truth.got(connection)):
            account = found.account((*place, got.stream.packed))
            for event in got.came:
                seen = account.first <= event.seq <= account.last and event.seq not in account.missing
                if got.out_ns.get(event.n, event.got_ns) >= to_ns - UNREAD_NS:
                    sent = 1 + got.account.repeated[event.seq]
                    connection.unsent[event.n] += sent - (seen + account.repeated[event.seq] if seen else 0)


def _unsure(truth: Truth, found: Found, gone: dict[str, int]) -> None:
    """A killed process's last publishes, and those of streams that it had not told of at all, have no known outcome."""
    for packed, stream in truth.streams.items():
        process = found.publisher_of.get(packed)
        if process is None or process in gone:
            first = gone[process] // SLICE_NS - UNTOLD_SLICES if process else 0
            unsure = {event.seq for event in stream.events if event.sent_ns // SLICE_NS >= first}
            found.not_ok.setdefault(packed, set()).update(unsure)


def _results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_bytes())
    return found


# -- children of the bench, started as a user of Locust would


TOKEN_HEADER = "X-Tickstorm-Token"
BEGIN_S = 40.0
END_S = 90.0
_LOCUST = (sys.executable, "-m", LOCUST, "-f", str(ROOT / "locustfile.py"), "--only-summary")


class Apart:
    """Master and two workers, each started as its user would."""

    def __init__(self, bench: Bench, made: Planting, gateway: GatewayProcess) -> None:
        port = str(free_port())
        self.home = bench.place("apart")
        profile = self.home / "profile.toml"
        profile.write_text(made.text(bench.target(gateway)), encoding="utf-8")
        environment = {"TICKSTORM_REPORTS": str(self.home / "reports")}
        bind = ["--master", "--expect-workers", "2", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
        at = ["--worker", "--headless", "--master-host", "127.0.0.1", "--master-port", port]
        self.master = bench.start(
            [*_LOCUST, "--headless", "--run-profile", str(profile), *bind], name="master", environment=environment
        )
        self.workers = [bench.start([*_LOCUST, *at], name="worker", environment=environment) for _ in range(2)]

    def until_halfway(self, made: Planting) -> None:
        """Wait until messages of half the plan have been published."""
        run = made.profile.run
        wanted_ns = round((run.warm_up_s + run.duration_s / 2) * 1e9)

        def halfway() -> bool:
            found = _begun(self.home / "reports")
            if found is None:
                _alive(self.master, "before its run began")
                return False
            slices = _published(found)
            return bool(slices) and (max(slices) - min(slices)) * SLICE_NS >= wanted_ns

        wait_for(halfway, BEGIN_S, f"half the plan was published; {self.master.last_words}")

    def end(self) -> Path:
        """Wait for all; the run's folder."""
        self.master.wait(END_S)
        for worker in self.workers:
            worker.wait(20)
        folder = _begun(self.home / "reports")
        if folder is None or not (folder / "results.json").exists():
            raise ProofError(f"the master left no results; {self.master.last_words}")
        return folder


def _published(run: Path) -> set[int]:
    """Slices in which anything was due, as far as the history holds them by now."""
    return {
        due
        for path in (run / "history").glob("*.tsh")
        for frame in decode(path.read_bytes())
        if isinstance(frame, Frame)
        for record in frame.records
        if isinstance(record, Published)
        for due in record.due_slice
    }


def _begun(reports: Path) -> Path | None:
    return next((path.parent for path in reports.glob("*/history")), None)


def _alive(child: BenchProcess, when: str) -> None:
    if child.process.poll() is not None:
        raise ProofError(f"it ended with {child.process.returncode} {when}; {child.last_words}")


class WebUi:
    """Locust's web UI with Tickstorm in it."""

    def __init__(self, bench: Bench, profile: str) -> None:
        home, port = bench.place("web"), free_port()
        self.reports, self.profile = home / "reports", home / "profile.toml"
        self.profile.write_text(profile, encoding="utf-8")
        self.url = f"http://127.0.0.1:{port}"
        self.child = bench.start(
            [*_LOCUST, "--web-host", "127.0.0.1", "--web-port", str(port)],
            name="web",
            environment={"TICKSTORM_REPORTS": str(self.reports), "TICKSTORM_PROFILE": str(self.profile)},
        )
        wait_for(self._up, BEGIN_S, f"the web UI is up; {self.child.said}")

    def run(self, meanwhile: Callable[[], None] | None = None) -> Path:
        """Press start, wait for the verdict; the run's folder."""
        answer = self._post("/swarm", host="", run_profile=str(self.profile), run_set="", run_seed="")
        if not answer.get("success"):
            raise ProofError(f"the start form was refused: {answer.get('message')}")
        if meanwhile is not None:
            self._until(lambda: self._live()["phase"] == "baseline" and self._live()["delivered"] > 0, "the baseline")
            meanwhile()
        self._until(lambda: self._live()["state"] == "done", "the verdict")
        folder: Path = self.reports / self._live()["run"]
        self._until(lambda: self._get("/stats/requests")["state"] in ("ready", "stopped"), "Locust has stopped")
        return folder

    def take_away_and_bring_back(self, users: int, fewer: int) -> None:
        """Change the number of users twice."""
        for count in (fewer, users):
            self._post("/swarm", host="", user_count=str(count), spawn_rate="100")
            self._until(partial(self._has_users, count), f"{count} users")

    def _has_users(self, count: int) -> bool:
        if self._live()["state"] == "done":
            raise ProofError(f"the run was over before it had {count} users; {self.child.last_words}")
        return bool(self._get("/stats/requests")["user_count"] == count)

    def _live(self) -> dict[str, Any]:
        return self._get("/tickstorm/live.json")

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        def looked() -> bool:
            _alive(self.child, f"before {what}")
            return holds()

        wait_for(looked, END_S, f"{what}; {self.child.last_words}")

    def _up(self) -> bool:
        _alive(self.child, "before the web UI was up")
        try:
            return "state" in self._get("/stats/requests")
        except (urllib.error.URLError, ConnectionError):
            return False

    def _get(self, path: str) -> dict[str, Any]:
        with DIRECT.open(self.url + path, timeout=10) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def _post(self, path: str, **form: str) -> dict[str, Any]:
        data = urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(self.url + path, data=data, headers={TOKEN_HEADER: token_of(self.child.said)})
        with DIRECT.open(request, timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found


def token_of(said: str) -> str:
    """The token in the address that a start of Locust printed. Raises ProofError."""
    found = re.findall(r"^Tickstorm: open \S+[?&]token=(\S+)$", said, re.M)
    if not found:
        raise ProofError("Locust printed no address with a token")
    return str(found[-1])


def free_port() -> int:
    """A port that is free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
