"""Is the account exact in every way to run?  Workers, processes apart, one killed, users taken away, runs in a web UI.

What a killed process knew is unknown, and so is nothing else.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from loadtests.model.ids import SLICE_NS
from proof.comparing import compare
from proof.ground_truth_log import read_book
from proof.history import Found, read_history
from proof.launchers import Apart, WebUi
from proof.planting import Planting, planting
from proof.running import Bench
from proof.sections import Options, Row
from proof.truth import STRANGE, Truth

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
